"""`frugalclip audit concepts`: how often each concept is in the captions, in the images, and in both."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from frugalclip.auditing.concepts import (
    Concept,
    ConceptRows,
    Match,
    TextSearch,
    concepts_of,
    field_concepts,
)
from frugalclip.auditing.image_concepts import DEVIATIONS, TAGGER_THRESHOLD, ImageConcepts, scored, tagged
from frugalclip.auditing.mining import LEAST, mined_concepts
from frugalclip.auditing.misalignment import misalignment
from frugalclip.auditing.postings_folder import postings_of
from frugalclip.auditing.released import KINDS, write_released
from frugalclip.auditing.shares import spread_of
from frugalclip.auditing.words import WordForms
from frugalclip.core.errors import UsageError
from frugalclip.core.locks import writing
from frugalclip.core.paths import user_path
from frugalclip.core.progress import progress_lines
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal, show_remark
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classes import read_classes
from frugalclip.models import Model, load
from frugalclip.sources.open import read_sources
from frugalclip.verbs.data_terminal import show_lines

_SHOWN = 12  # concepts at either end


def audit_concepts(
    paths: Sequence[str | Path] | str | Path,
    *,
    classes: str | Path | None = None,
    field: str | None = None,
    least: int = LEAST,
    match: Match = "all_words",
    language: str = "en",
    model: str | Path | Model | None = None,
    tags: str | Path | None = None,
    threshold: float = TAGGER_THRESHOLD,
    deviations: float = DEVIATIONS,
    postings: str | Path | None = None,
    released: str | Path | None = None,
    where: str | None = None,
    columns: Mapping[str, str] | None = None,
    json: str | Path | None = None,
) -> dict[str, Any]:
    """Count concepts in captions, and in images where a model or a tagger is given.

    Args:
        paths: data sets, read as one.
        classes: file with one concept a line, synonyms after `|`.
        field: field whose values are the concepts. Without both, concepts are mined from the captions.
        least: rows that a mined concept is in.
        match: `all_words` of a concept in one caption, or as a `phrase`.
        language: of the captions, for dictionary forms.
        model: MODEL whose cosines say which images show a concept; experimental.
        tags: .npz file with the scores of a tagger, see `docs/formats.md`.
        threshold: of a tagger's scores.
        deviations: of the thresholds of a model's cosines.
        postings: folder that keeps the index of captions for the next call.
        released: folder for the counts in the format of arXiv 2404.04125.
        where: a condition over fields.
        columns: names of the columns `image`, `caption` and `id` where they are not recognised.
        json: file to write the result to.

    Returns:
        `concepts`: name -> `text`, `image`, `both`; and what docs/formats.md lists beside it.

    Raises:
        DataError: when a file or path cannot be used.
    """
    _check(classes, field, model, tags)
    _check_finite(threshold=threshold, deviations=deviations)
    manifest = read_sources(paths, columns=columns).where(where).manifest
    forms = WordForms(language)
    with ExitStack() as stack:
        stack.enter_context(progress_lines(show_remark))
        concepts, source = _concepts(manifest, forms, classes, field, least)
        search = TextSearch(stack.enter_context(postings_of(manifest, forms, postings)), forms, match)
        texts = [search.rows(concept) for concept in concepts]
        absent = {one.name: words for one in concepts if (words := search.absent_words(one))}
    images = _images(manifest, concepts, model, tags, threshold=threshold, deviations=deviations)
    found = ConceptRows(concepts, texts, None if images is None else images.rows, len(manifest))
    result = _result(manifest, found, images)
    result |= {"source": source, "match": match, "words": forms.about, "absent_words": absent}
    if released is not None:
        folder, dataset = user_path(released), str(classes or field or "mined")
        with writing(folder):
            write_released(folder, result["concepts"], dataset=dataset, corpus=manifest.name)
    if json is not None:
        write_json(user_path(json), result)
    return result


def _check_finite(**numbers: float) -> None:
    for name, value in numbers.items():
        if not math.isfinite(value):  # nothing is above it, and every count would be 0
            raise UsageError(f"--{name} is {value}, expected a finite number.")


def _check(classes: object, field: object, model: object, tags: object) -> None:
    for one, other, names in ((classes, field, "--classes and --field"), (model, tags, "--model and --tags")):
        if one is not None and other is not None:
            raise UsageError(f"{names} exclude each other; give one of the two.")


def _concepts(
    manifest: Manifest, forms: WordForms, classes: str | Path | None, field: str | None, least: int
) -> tuple[list[Concept], str]:
    """The concepts, and where they are from in words."""
    if classes is not None:
        return concepts_of(read_classes(Path(classes))), f"classes of {classes}"
    if field is not None:
        return field_concepts(manifest, field), f"field {field}"
    captions = manifest.table["captions"]
    rows = (texts.as_py() or [] for chunk in captions.chunks for texts in chunk)
    return mined_concepts(rows, forms, least=least), f"mined from captions, in {least} rows and more"


def _images(
    manifest: Manifest,
    concepts: Sequence[Concept],
    model: str | Path | Model | None,
    tags: str | Path | None,
    *,
    threshold: float,
    deviations: float,
) -> ImageConcepts | None:
    if tags is not None:
        return tagged(tags, manifest, concepts, threshold=threshold)
    if model is None:
        return None
    loaded = model if isinstance(model, Model) else load(model)
    return scored(loaded, manifest, concepts, deviations=deviations)


def _result(manifest: Manifest, found: ConceptRows, images: ImageConcepts | None) -> dict[str, Any]:
    rows = {"text": found.text, "image": found.image, "both": found.both()}
    counts = {kind: None if own is None else [len(one) for one in own] for kind, own in rows.items()}
    thresholds = [None] * len(found.concepts) if images is None else images.thresholds
    concepts: dict[str, dict[str, int | None]] = {}
    for place, concept in enumerate(found.concepts):
        values = {kind: own[place] if own is not None else None for kind, own in counts.items()}
        is_scored = thresholds[place] is not None
        concepts[concept.name] = values if is_scored else {**values, "image": None, "both": None}
    samples = len(manifest)
    spreads = {
        kind: spread_of(
            np.array([v[kind] for v in concepts.values() if v[kind] is not None]), samples=samples
        )
        for kind in KINDS
        if any(values[kind] is not None for values in concepts.values())
    }
    result: dict[str, Any] = {"concepts": concepts, "data": manifest.name, "samples": samples}
    result |= {"spread": spreads, "misalignment": None, "thresholds": None, "unread_images": None}
    if images is not None:
        names = [concept.name for concept in found.concepts]
        result["thresholds"] = dict(zip(names, images.thresholds, strict=True))
        result["unread_images"] = images.unread
        result["misalignment"] = _misalignment(found)
    return result


def _misalignment(found: ConceptRows) -> dict[str, int | float]:
    image, both = found.image, found.both()
    assert image is not None and both is not None, "images were searched"
    texts, images, together = (found.per_row(rows) for rows in (found.text, image, both))
    one = misalignment(texts, images, together, samples=found.samples)
    return {
        "texts": one.texts,
        "images": one.images,
        "both": one.both,
        "misaligned": one.misaligned,
        "of_extracted": one.of_extracted,
        "of_all": one.of_all,
        "of_both": one.of_both,
    }


def show(result: dict[str, Any], console: Console | None = None) -> None:
    """Print the most and the least frequent concepts, the long tail, and what was misaligned."""
    console = console or Terminal(markup=True)
    ranked = sorted(result["concepts"].items(), key=lambda item: (-item[1]["text"], item[0]))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("concept", "text", "image", "both"):
        table.add_column(title, justify="left" if title == "concept" else "right")
    shown = ranked if len(ranked) <= 2 * _SHOWN else [*ranked[:_SHOWN], None, *ranked[-_SHOWN:]]
    for one in shown:
        cells = ["…"] * 4 if one is None else [escape(one[0]), *(_number(one[1][kind]) for kind in KINDS)]
        table.add_row(*cells)
    console.print(table)
    show_lines(_lines(result), console)


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _lines(result: dict[str, Any]) -> list[str]:
    samples, names = result["samples"], {"text": "captions", "image": "images", "both": "both"}
    lines = [f"{len(result['concepts']):,} concepts ({result['source']}) in {samples:,} rows."]
    lines = [escape(line) for line in lines]
    for kind, one in result["spread"].items():
        lines.append(
            f"In {names[kind]}: {one['zeros']:,} nowhere ({one['zero_share']:.0%}), Gini {one['gini']:.2f}; "
            f"the most frequent hundredth holds {one['head_share']:.0%} of the hits."
        )
    if absent := result["absent_words"]:
        name, words = next(iter(absent.items()))
        lines.append(
            escape(f"{len(absent):,} concepts have a word that no caption holds ('{words[0]}' of '{name}').")
        )
    if found := result["misalignment"]:
        lines.append(
            f"{found['misaligned']:,} of {found['both']:,} rows with concepts on both sides share none "
            f"({found['of_both']:.1%})."
        )
    return lines
