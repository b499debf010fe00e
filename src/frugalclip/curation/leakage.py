"""Rows of a test set that a training set holds too: pictures, saved or turned however, and captions.

Pictures are compared as the stages `exact_images`, `near_images` and `decontaminate` compare them. Captions
count where they are specific: of three words or more, and of few rows on either side. The name of a class,
which hundreds of rows share, tells nothing about a single row.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from frugalclip.core.executors import InlineExecutor
from frugalclip.core.jobs import Job, content_key
from frugalclip.curation.image_hashes import image_hashes, pairs_between
from frugalclip.curation.measures import VERSION, ImageMeasures, measure_images
from frugalclip.curation.near import orientations, similarities
from frugalclip.curation.near_texts import candidates, jaccard, minima, plain, shingle_hashes
from frugalclip.data.manifest import Manifest

LeakKind = Literal["exact", "near", "cropped", "turned", "mirrored", "caption", "near_caption"]
IMAGE_KINDS: tuple[LeakKind, ...] = ("exact", "near", "cropped", "turned", "mirrored")
SIMILARITY = 0.95  # of two images, see `near_images`
CAPTION_SIMILARITY = 0.8  # Jaccard of 5-character shingles, see `near_captions`
_COMMON = 4  # rows on one side that a specific caption has, at most
_WORDS = 3  # of a specific caption, at least
_SHOWN = 64  # pairs of one digest that are listed in full


@dataclass(frozen=True)
class Leak:
    """A training row and a test row that share their picture or their caption."""

    train: int  # row of the training set
    test: int
    kind: LeakKind
    similarity: float


def measured_images(
    manifest: Manifest, folder: Path, *, threads: int = 1, progress: Callable[[int], None] = lambda _: None
) -> ImageMeasures:
    """What images are compared by, kept in a folder; measured anew where a file has changed.

    Args:
        manifest: the data set.
        folder: where measures are kept, each data set in a folder of its own.
        threads: that decode.
        progress: called with the number of images finished since the last call.
    """
    key = content_key(VERSION, manifest.digest(), _file_states(manifest))
    job = Job(folder / key, {"measures": key}, what="measures of images")
    job.begin()
    return measure_images(job, manifest, InlineExecutor(), threads=threads, progress=progress)


def _file_states(manifest: Manifest) -> list[list[int | str]]:
    """Size and time of change of every file that holds images."""
    paths = sorted(set(manifest.table["image"].combine_chunks().field("path").to_pylist()))
    found = []
    for path in paths:
        try:
            state = (manifest.root / path).stat()
            found.append([path, state.st_size, state.st_mtime_ns])
        except OSError:
            found.append([path, -1, -1])
    return found


def image_leaks(train: ImageMeasures, test: ImageMeasures, *, least: float = SIMILARITY) -> list[Leak]:
    """Pairs of pictures that are the same, or hardly differ in one of eight orientations.

    Args:
        train: measures of the training images.
        test: measures of the test images.
        least: similarity of a pair that counts.
    """
    rows = [np.flatnonzero([fault is None for fault in side.faults]) for side in (train, test)]
    train, test = train.take(rows[0]), test.take(rows[1])
    found: dict[tuple[int, int], tuple[LeakKind, float]] = {}
    for name in ("digest", "pixels"):
        for pair in _equal(train.digests(name), test.digests(name)):
            found.setdefault(pair, ("exact", 1.0))
    own, same = train.thumbnails(), (train.digests("pixels"), test.digests("pixels"))
    own_hashes = image_hashes(own)
    for kind, turned in orientations(test.thumbnails()):
        first, second = pairs_between(own_hashes, image_hashes(turned))
        other = same[0][first] != same[1][second]  # equal pictures are paired already
        first, second = first[other], second[other]
        for pair, one in _near(own, turned, first, second, kind, least):
            found.setdefault(pair, one)
    return [
        Leak(int(rows[0][a]), int(rows[1][b]), kind, value) for (a, b), (kind, value) in sorted(found.items())
    ]


def _equal(train: np.ndarray, test: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of equal digests; of a digest that many rows have, each row in one pair at least."""
    own: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(train.tolist()):
        own[digest].append(row)
    others: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(test.tolist()):
        if digest in own:
            others[digest].append(row)
    for digest, second in others.items():
        yield from _paired(own[digest], second)


def _paired(first: Sequence[int], second: Sequence[int]) -> Iterator[tuple[int, int]]:
    if len(first) * len(second) <= _SHOWN:
        yield from ((a, b) for a in first for b in second)
        return
    for place in range(max(len(first), len(second))):
        yield first[place % len(first)], second[place % len(second)]


def _near(
    train: np.ndarray,
    test: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    kind: Literal["as_is", "turned", "mirrored"],
    least: float,
) -> Iterator[tuple[tuple[int, int], tuple[LeakKind, float]]]:
    """Pairs that are similar enough, and how they differ."""
    values = similarities(train, test, first, second, least=least)
    near = np.flatnonzero(values >= least)
    unfitted = similarities(train, test, first[near], second[near], least=least, is_fitted=False)
    for place, plainly in zip(near.tolist(), unfitted.tolist(), strict=True):
        name = kind if kind != "as_is" else "near" if plainly >= least else "cropped"
        yield (int(first[place]), int(second[place])), (name, float(values[place]))


@dataclass(frozen=True)
class CaptionLeaks:
    """Pairs of rows with a specific caption in common, and how many captions are shared by many rows."""

    leaks: list[Leak]
    common: int  # distinct captions on both sides that are too short or too frequent to count


def caption_leaks(
    train: Sequence[Sequence[str]],
    test: Sequence[Sequence[str]],
    *,
    least: float = CAPTION_SIMILARITY,
) -> CaptionLeaks:
    """Pairs of rows whose captions are equal or nearly equal.

    Args:
        train: captions of each training row.
        test: captions of each test row.
        least: similarity of a pair that counts.
    """
    own, others = _rows_by_text(train), _rows_by_text(test)
    shared = own.keys() & others.keys()
    specific = {text for text in own.keys() | others.keys() if _is_specific(text, own, others)}
    found: dict[tuple[int, int], Leak] = {}
    for text in sorted(shared & specific):
        for a, b in _paired(own[text], others[text]):
            found.setdefault((a, b), Leak(a, b, "caption", 1.0))
    if least < 1:
        for one, other, value in _near_texts(
            sorted(own.keys() & specific), sorted(others.keys() & specific), least
        ):
            for a, b in _paired(own[one], others[other]):
                found.setdefault((a, b), Leak(a, b, "near_caption", value))
    return CaptionLeaks([found[pair] for pair in sorted(found)], len(shared - specific))


def _rows_by_text(captions: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, texts in enumerate(captions):
        for text in dict.fromkeys(plain([text]) for text in texts or ()):
            rows[text].append(row)
    return rows


def _is_specific(text: str, own: dict[str, list[int]], others: dict[str, list[int]]) -> bool:
    is_rare = max(len(own.get(text, ())), len(others.get(text, ()))) <= _COMMON
    return is_rare and len(text.split()) >= _WORDS


def _near_texts(train: Sequence[str], test: Sequence[str], least: float) -> Iterator[tuple[str, str, float]]:
    """Different texts of the two sides that share most of their letters."""
    texts = [*train, *(text for text in test if text not in set(train))]
    if not train or not test:
        return
    first, second = candidates(minima(*shingle_hashes(texts)))
    in_train, in_test = set(train), set(test)
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        hashes, ends = shingle_hashes([texts[i], texts[j]])
        one, other = (frozenset(part.tolist()) for part in np.split(hashes, ends[:-1]))
        value = jaccard(one, other)
        if value < least:
            continue
        for a, b in ((texts[i], texts[j]), (texts[j], texts[i])):
            if a in in_train and b in in_test:
                yield a, b, round(value, 4)


def summary_of(leaks: Sequence[Leak]) -> dict[str, int]:
    """Kind -> test rows that leak in that way; the strongest kind of a row counts."""
    kinds: dict[int, LeakKind] = {}
    order = [*IMAGE_KINDS, "caption", "near_caption"]
    for leak in sorted(leaks, key=lambda one: order.index(one.kind)):
        kinds.setdefault(leak.test, leak.kind)
    found = list(kinds.values())
    return {kind: found.count(kind) for kind in order if kind in found}
