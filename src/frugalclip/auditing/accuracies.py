"""Accuracy of each concept: from a result of `evaluate`, from published files, or recall of a retrieval.

Source of recall by concept: arXiv 2404.04125. A picture owns the words of all its captions. Recall of images
is the mean over the pictures that own the concept, recall of captions that over the captions that hold it.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from frugalclip.auditing.concepts import Concept, TextSearch
from frugalclip.auditing.postings import Postings
from frugalclip.auditing.words import WordForms
from frugalclip.core.errors import DataError
from frugalclip.core.guard import parse_json, reading
from frugalclip.core.paths import user_path
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.encoding import encode_texts, image_features
from frugalclip.evaluation.ranking import cosine_scores, rank_positives
from frugalclip.evaluation.retrieval import RetrievalTask, retrieval_task
from frugalclip.functional import unit
from frugalclip.models import Model

_ADVICE = "give what evaluate --task zeroshot --json wrote"


def read_accuracies(path: str | Path, *, least: int = 1) -> dict[str, float]:
    """Concept -> accuracy in percent, from a result of `evaluate` or a published file (`classwise`).

    Args:
        path: JSON file.
        least: samples that a class needs.

    Raises:
        DataError: when it holds no accuracies of classes.
    """
    path = user_path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path} with a result; {_ADVICE}.")
    with reading(path, advice=_ADVICE):
        content = parse_json(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
        found = accuracies_of(content, least=least)
        if not found:
            raise ValueError("it holds no accuracies of classes")
    return found


def accuracies_of(result: Mapping[str, Any], *, least: int = 1) -> dict[str, float]:
    """Concept -> accuracy in percent, of a result of `evaluate` with `per_class`, or of a published one.

    Args:
        result: the JSON values.
        least: samples that a class needs.
    """
    if "per_class" in result:
        return {one["name"]: float(one["top1"]) for one in result["per_class"] if one["samples"] >= least}
    if "conceptwise" in result:  # of the published retrieval: shares of one
        return {name: 100 * float(value) for name, value in result["conceptwise"].items()}
    return {name: float(value) for name, value in result.get("classwise", {}).items()}


def concept_recalls(
    task: RetrievalTask,
    images: Tensor,
    texts: Tensor,
    concepts: Sequence[Concept],
    *,
    forms: WordForms,
    depth: int = 1,
    least: int = 1,
) -> dict[str, dict[str, float]]:
    """Recall of each concept in both directions.

    Args:
        task: pictures and captions.
        images: (images, dim) features.
        texts: (texts, dim) features.
        concepts: that are looked for in the captions.
        forms: splits captions and names into words.
        depth: k of recall@k.
        least: pictures, or captions, that a concept needs.

    Returns:
        `i2t` and `t2i`: concept -> recall in percent.
    """
    images, texts = unit(images), unit(texts)
    of_images, of_texts = task.positives()
    hits = {
        "i2t": rank_positives(cosine_scores(images, texts), of_images).hits(depth).numpy(),
        "t2i": rank_positives(cosine_scores(texts, images), of_texts).hits(depth).numpy(),
    }
    owners = np.array(sorted((image, text) for image, text in task.pairs.tolist()), dtype=np.int64)
    words = [forms(text) for text in task.texts]
    found: dict[str, dict[str, float]] = {"i2t": {}, "t2i": {}}
    for way, rows in (
        ("i2t", [(image, words[text]) for image, text in owners]),
        ("t2i", list(enumerate(words))),
    ):
        with tempfile.TemporaryDirectory() as folder:
            search = TextSearch(Postings.of(rows, Path(folder)), forms)
            for concept in concepts:
                own = search.rows(concept)
                if len(own) >= least:
                    found[way][concept.name] = 100 * float(hits[way][own].mean())
    return found


def model_recalls(
    model: Model, manifest: Manifest, names: Sequence[str], *, depth: int, least: int
) -> dict[str, list[dict[str, float]]]:
    """Recall of the concepts in captions, both ways, by a model on some data.

    Args:
        model: encodes both sides.
        manifest: with captions.
        names: of the concepts.
        depth: k of recall@k.
        least: samples that a concept needs.

    Returns:
        `i2t_rK` and `t2i_rK`, each a list of one data set: concept -> percent.
    """
    pairs = retrieval_task(manifest)
    images, kept, faults = image_features(model, manifest, pairs.rows)
    pairs = pairs.only(kept) if faults else pairs
    recalls = concept_recalls(
        pairs,
        images,
        encode_texts(model, pairs.texts),
        [Concept([name]) for name in names],
        forms=WordForms(),
        depth=depth,
        least=least,
    )
    return {f"{way}_r{depth}": [one] for way, one in recalls.items()}
