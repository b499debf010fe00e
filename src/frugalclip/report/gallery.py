"""Images for a report, chosen at random and not by taste.

Queries are drawn by seed from all rows, so the report shows typical ones; only the best and worst classes are
chosen by their metrics, and among equal ones by seed. The page says so. Images are inside the page as WebP,
at most 320 px wide; a click shows them in that size. Where the order means nothing, blank ones come last.
"""

import base64
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frugalclip.core.numerics import top_k
from frugalclip.core.random import stream_seed
from frugalclip.core.thumbnails import KIND, encoded_thumbnail
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import size_of
from frugalclip.data.manifest import Manifest
from frugalclip.data.statistics import is_blank
from frugalclip.data.words import normalise
from frugalclip.evaluation.classes import row_names
from frugalclip.evaluation.encoding import DataEncoder, encode_texts
from frugalclip.evaluation.prompts import fill
from frugalclip.evaluation.ranking import cosine_scores, rank_positives
from frugalclip.evaluation.retrieval import retrieval_task
from frugalclip.functional import class_weights
from frugalclip.report.formats import shorten

SIDE = 320  # px of a thumbnail's longer side; a grid shows it smaller
LONGEST = 400  # characters of a caption that travel into the page
_SOURCE = re.compile(
    r"field (?P<field>.+?)(?:, names from .*)?|first caption(?: in (?P<language>\S+?))?(?:, names from .*)?"
)


@dataclass(frozen=True)
class Thumbnail:
    """A thumbnail that needs no file."""

    uri: str  # data:image/webp;base64,…
    text: str  # its caption, also read out instead of the image
    width: int  # px
    height: int
    is_blank: bool = False  # of one colour: an empty box


@dataclass(frozen=True)
class Hit:
    """One answer to a query: an image, or a name."""

    score: float  # cosine, or the weight of a word
    is_right: bool
    text: str
    thumbnail: Thumbnail | None = None


@dataclass(frozen=True)
class Example:
    """A query with its first answers."""

    text: str  # the query's words, or the image's right name
    found: tuple[Hit, ...]  # best first
    rank: float  # expected place of the first right answer, from 1
    candidates: int  # how many competed
    thumbnail: Thumbnail | None = None  # where the query is an image


@dataclass(frozen=True)
class ClassResult:
    """The accuracy of a class."""

    name: str
    top1: float  # percent
    samples: int
    mistaken_for: str | None = None
    thumbnails: tuple[Thumbnail, ...] = ()


@dataclass(frozen=True)
class Described:
    """An image with the top words of a lexical model."""

    text: str  # its caption
    words: tuple[Hit, ...]  # heaviest first; right are those of its own captions
    thumbnail: Thumbnail | None


@dataclass(frozen=True)
class Answer:
    """A query in words and the images that come first."""

    query: str
    found: tuple[Hit, ...]  # best first
    among: str = ""  # what was searched, in words


@dataclass(frozen=True)
class Gallery:
    """Everything in a report that is not a number."""

    text_to_images: tuple[Example, ...] = ()
    image_to_names: tuple[Example, ...] = ()
    best: tuple[ClassResult, ...] = ()
    worst: tuple[ClassResult, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)  # statistics of the training data, by name
    pairs: tuple[Thumbnail, ...] = ()  # training pairs, drawn at random
    note: str = ""  # how the examples were chosen
    answers: tuple[Answer, ...] = ()  # to queries that the caller chose
    words: tuple[Described, ...] = ()  # for models with lexical heads
    kept: tuple[Thumbnail, ...] = ()  # with dropped patches faded, for models that drop any


def thumbnail(image: Image.Image, text: str, *, side: int = SIDE) -> Thumbnail:
    """An image small enough for a page; never enlarged.

    Args:
        image: RGB.
        text: its caption.
        side: px of the longer side, at most.
    """
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    uri = f"data:image/{KIND};base64,{base64.b64encode(encoded_thumbnail(small)).decode()}"
    return Thumbnail(uri, shorten(text, LONGEST), *small.size, is_blank(small))


def blank_last(thumbnails: Iterable[Thumbnail | None]) -> list[Thumbnail]:
    """Thumbnails in their order, those of one colour behind the others; unreadable ones are left out."""
    return sorted((one for one in thumbnails if one is not None), key=lambda one: one.is_blank)


def build_gallery(
    model: DataEncoder,
    manifest: Manifest,
    *,
    evaluation: Mapping[str, Any],
    training: Manifest | None = None,
    rows: int = 6,
    pool: int = 2000,
    seed: int = 0,
) -> Gallery:
    """Choose examples by seed and let the model answer them.

    Args:
        model: encodes images and texts.
        manifest: the evaluated rows.
        evaluation: the result on these rows: its prompts, names and `per_class` are used.
        training: what the model was trained on, for the data summary and its eight pairs; default none.
        rows: examples of each kind, and classes on each side.
        pool: images that compete at most; more are thinned by seed, and the note says so.
        seed: of every choice.
    """
    random = np.random.default_rng(stream_seed(seed, "report/gallery"))
    chosen = np.sort(random.permutation(len(manifest))[:pool])
    sample = manifest.take(chosen)
    encoded = model.image_features(sample)
    sample, images = sample.take(encoded.rows), encoded.features.float().cpu()
    thinned = f" out of {len(manifest):,}" if len(chosen) < len(manifest) else ""
    note = (
        f"Drawn at random (seed {seed}) from the {len(sample):,} evaluated images{thinned}; "
        "nothing was picked by hand."
    )
    data, pairs = summarize(training, seed=seed) if training is not None else ({}, ())
    if not len(sample) or not bool(images.isfinite().all()):
        fault = (
            "The model gives embeddings that are not finite"
            if len(sample)
            else "No image of the evaluated rows could be read"
        )
        return Gallery(data=data, pairs=pairs, note=f"{fault}, so there are no examples.")
    album = _Album(sample)
    best, worst = extremes(evaluation, count=rows, seed=seed)
    names = _names(sample, evaluation)
    return Gallery(
        text_to_images=_text_to_images(model, sample, images, album, rows=rows, random=random),
        image_to_names=_image_to_names(model, images, names, evaluation, album, rows=rows, random=random),
        best=tuple(album.illustrated(c, names) for c in best),
        worst=tuple(album.illustrated(c, names) for c in worst),
        data=data,
        pairs=pairs,
        note=note,
    )


class _Album:
    """Thumbnails of a manifest's rows, each made once."""

    def __init__(self, manifest: Manifest) -> None:
        self.reader = ImageReader(manifest)
        self.captions = [
            texts[0] if texts else name for texts, name in zip(manifest.captions(), manifest.ids, strict=True)
        ]
        self.made: dict[int, Thumbnail | None] = {}

    def thumbnail(self, row: int) -> Thumbnail | None:
        """None where the file has become unreadable."""
        if row not in self.made:
            try:
                self.made[row] = thumbnail(self.reader.image(row, at_least=2 * SIDE), self.captions[row])
            except BadImage:
                self.made[row] = None
        return self.made[row]

    def illustrated(self, result: ClassResult, names: Sequence[list[str]], *, most: int = 4) -> ClassResult:
        """The class with its first images, in the order of the data."""
        rows = [
            row
            for row, own in enumerate(names)
            if normalise(result.name) in {normalise(name) for name in own}
        ]
        thumbnails = blank_last(self.thumbnail(row) for row in rows[: 2 * most])[:most]
        return ClassResult(result.name, result.top1, result.samples, result.mistaken_for, tuple(thumbnails))


def _names(manifest: Manifest, evaluation: Mapping[str, Any]) -> list[list[str]]:
    """The names of each row, as in the evaluation."""
    source = _SOURCE.fullmatch(str(evaluation.get("names") or ""))
    label_field, language = (source["field"], source["language"]) if source else (None, None)
    label_field = label_field if label_field in manifest.field_names else None
    language = language if language in manifest.languages else None
    return row_names(manifest, label_field=label_field, language=language)[0]


def _text_to_images(
    model: DataEncoder,
    manifest: Manifest,
    images: Tensor,
    album: _Album,
    *,
    rows: int,
    random: np.random.Generator,
) -> tuple[Example, ...]:
    if not any(text.strip() for texts in manifest.captions() for text in texts):
        return ()
    task = retrieval_task(manifest)
    images = images[torch.from_numpy(task.rows)]  # (images, dim)
    queries = np.sort(random.permutation(len(task.texts))[:rows])
    texts = model.encode_text([task.texts[i] for i in queries]).float().cpu()  # (queries, dim)
    positives = task.positives()[1][torch.from_numpy(queries)]  # (queries, most) images
    ranks = rank_positives(cosine_scores(texts, images), positives).expected()
    scores, places = _shuffled_top(texts @ images.T, random)
    examples = []
    for n, query in enumerate(queries):
        right = set(positives[n].tolist())
        found = [
            Hit(score, place in right, album.captions[row], album.thumbnail(row))
            for score, place in zip(scores[n].tolist(), places[n].tolist(), strict=True)
            for row in [int(task.rows[place])]
        ]
        examples.append(
            Example(shorten(task.texts[query], LONGEST), tuple(found), float(ranks[n]), len(images))
        )
    return tuple(examples)


def _image_to_names(
    model: DataEncoder,
    images: Tensor,
    names: Sequence[list[str]],
    evaluation: Mapping[str, Any],
    album: _Album,
    *,
    rows: int,
    random: np.random.Generator,
) -> tuple[Example, ...]:
    pool = {normalise(name): name for own in reversed(names) for name in reversed(own)}
    evaluated = [entry["name"] for entry in _classes(evaluation)]
    if any(normalise(name) in pool for name in evaluated):
        # the names that competed in the evaluation, also those whose images were thinned out
        pool = {normalise(name): name for name in evaluated}
    place = {name: i for i, name in enumerate(sorted(pool))}
    shown = [
        row for row in random.permutation(len(names)) if any(normalise(name) in place for name in names[row])
    ][:rows]
    if not shown:
        return ()
    listed = [pool[name] for name in place]
    filled = [fill(_templates(evaluation), name) for name in listed]
    owners = torch.tensor([i for i, texts in enumerate(filled) for _ in texts])
    prompts = [text for texts in filled for text in texts]
    encoded = encode_texts(model, prompts)  # (prompts, dim)
    classes = class_weights(encoded, owners, count=len(listed))  # (classes, dim)
    queries = images[torch.tensor(shown)]  # (queries, dim)
    right = [
        sorted({place[normalise(name)] for name in names[row] if normalise(name) in place}) for row in shown
    ]
    most = max(len(r) for r in right)
    positives = torch.tensor([r + [-1] * (most - len(r)) for r in right])
    ranks = rank_positives(cosine_scores(queries, classes), positives).expected()
    scores, places = _shuffled_top(queries @ classes.T, random)
    found = (
        Example(
            text=shorten(" / ".join(listed[i] for i in right[n]), LONGEST),
            found=tuple(
                Hit(s, p in right[n], shorten(listed[p], LONGEST))
                for s, p in zip(scores[n].tolist(), places[n].tolist(), strict=True)
            ),
            rank=float(ranks[n]),
            candidates=len(listed),
            thumbnail=album.thumbnail(int(row)),
        )
        for n, row in enumerate(shown)
    )
    return tuple(sorted(found, key=lambda one: one.thumbnail is None or one.thumbnail.is_blank))


def _templates(evaluation: Mapping[str, Any]) -> list[str]:
    prompts = evaluation.get("prompts")
    templates = prompts.get("templates") if isinstance(prompts, Mapping) else prompts
    found = (
        [text for text in templates if isinstance(text, str) and "{}" in text]
        if isinstance(templates, (list, tuple))
        else []
    )
    return found or ["{}"]


def _shuffled_top(scores: Tensor, random: np.random.Generator, *, count: int = 5) -> tuple[Tensor, Tensor]:
    """The best candidates of each row; equal scores in random order.

    Returns:
        (queries, count) scores and (queries, count) int64 places.
    """
    order = torch.from_numpy(random.permutation(scores.shape[1]))
    best, places = top_k(scores[:, order], count)
    return best, order[places]


def _classes(evaluation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries = evaluation.get("per_class")
    return (
        [e for e in entries if isinstance(e, Mapping) and "name" in e and "top1" in e]
        if isinstance(entries, (list, tuple))
        else []
    )


def extremes(
    evaluation: Mapping[str, Any], *, count: int = 6, seed: int = 0
) -> tuple[list[ClassResult], list[ClassResult]]:
    """The best and the worst classes of an evaluation; among equal ones, the seed decides.

    Args:
        evaluation: a result with `per_class`; without one, nothing is found. Classes of one image are left
            out where there are others, since one image tells little of a class.
        count: classes on each side at most; no class is on both.
        seed: of the choice among equals.

    Returns:
        Best, from the best down, without classes that are never named right; worst, from the worst up,
        without classes that are always named right.
    """
    entries = _classes(evaluation)
    larger = [e for e in entries if int(e.get("samples", 0)) > 1]
    entries = larger if len(larger) > 1 else entries
    order = np.random.default_rng(stream_seed(seed, "report/classes")).permutation(len(entries))
    ranked = sorted((entries[i] for i in order), key=lambda e: (-float(e["top1"]), -int(e.get("samples", 0))))
    results = [
        ClassResult(str(e["name"]), float(e["top1"]), int(e.get("samples", 0)), e.get("mistaken_for"))
        for e in ranked
    ]
    count = min(count, len(results) // 2)
    worst = sorted(results[count:], key=lambda r: (r.top1, -r.samples))[:count]
    return [r for r in results[:count] if r.top1 > 0], [r for r in worst if r.top1 < 100]


def summarize(
    manifest: Manifest, *, seed: int = 0, pairs: int = 8, measured: int = 200
) -> tuple[dict[str, Any], tuple[Thumbnail, ...]]:
    """Statistics of a data set, and pairs drawn at random.

    Args:
        manifest: the training data.
        seed: of the draw.
        pairs: images with their captions.
        measured: images whose size is read.

    Returns:
        Statistics by name, in reading order, and the pairs.
    """
    texts = [text for own in manifest.captions() for text in own]
    lengths = sorted(len(text.split()) for text in texts) or [0]
    repeated, times = Counter(normalise(text) for text in texts).most_common(1)[0] if texts else ("", 0)
    distinct = len({normalise(text) for text in texts})
    order = np.random.default_rng(stream_seed(seed, "report/pairs")).permutation(len(manifest))
    album = _Album(manifest)
    drawn = (one for row in order[: 4 * pairs].tolist() if (one := album.thumbnail(row)))
    shown = blank_last(itertools.islice(drawn, pairs))
    summary = {
        "data": manifest.name,
        "pairs": len(manifest),
        "captions": f"{len(texts):,}, of them {distinct:,} distinct",
        "most repeated caption": f"“{shorten(repeated, 60)}”, {times:,} times"
        if times > 1
        else "none is repeated",
        "words in a caption": f"{lengths[0]} to {lengths[-1]}, median {lengths[len(lengths) // 2]}",
        "image sizes": _sizes(album.reader, order[:measured].tolist()),
        "languages": f"{len(manifest.languages)}" if manifest.languages else None,
        "fields": shorten(", ".join(manifest.field_names), 160) or None,
        "split hash": manifest.fingerprint(),
    }
    return {name: value for name, value in summary.items() if value is not None}, tuple(shown)


def _sizes(reader: ImageReader, rows: Sequence[int]) -> str | None:
    sizes: list[tuple[int, int]] = []  # (height, width)
    for row in rows:
        try:
            sizes.append(size_of(reader.bytes(row)))
        except BadImage:
            continue
    if not sizes:
        return None
    low = tuple(min(size[i] for size in sizes) for i in (0, 1))
    high = tuple(max(size[i] for size in sizes) for i in (0, 1))
    if low == high:
        return f"all {low[1]} × {low[0]} px ({len(sizes):,} measured)"
    return f"{low[1]} to {high[1]} px wide, {low[0]} to {high[0]} px high ({len(sizes):,} measured)"
