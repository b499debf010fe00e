"""What only `data stats` asks of a data set: tokens, detected languages, near duplicates, weights. Nothing here changes data."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from frugalclip.core.errors import require
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode
from frugalclip.data.manifest import Manifest
from frugalclip.data.statistics import Spread, sampled_rows, script_of

CONTEXTS = (32, 77)  # what small models are trained with, and CLIP's own
LATIN = (
    "en",
    "de",
    "fr",
    "es",
    "it",
    "pt",
    "nl",
)  # told apart by their dictionaries, which take some seconds to load
_SURE = 0.5  # share of a caption's words that its language has to know
_FEW_WORDS = 3  # shorter captions are names, which belong to no language
_SIDE = 16  # pixels of a thumbnail
_NEAR = 4.0  # mean absolute difference of thumbnails, of 255
_BLOCK = 512  # rows compared at once


@dataclass(frozen=True)
class TokenFacts:
    """Captions in tokens of CLIP's vocabulary, start and end included."""

    captions: int  # that were counted
    tokens: Spread
    truncated: dict[int, float]  # context -> share of captions that do not fit


def token_facts(captions: Sequence[str]) -> TokenFacts | None:
    """Lengths of captions in tokens, or None where there is no caption."""
    from frugalclip.data.tokens import clip_tokenizer  # waits for torch

    table = clip_tokenizer().table(captions, context=2**31)
    lengths = np.diff(table.offsets)
    tokens = Spread.of(lengths)
    return (
        TokenFacts(len(lengths), tokens, {context: float((lengths > context).mean()) for context in CONTEXTS})
        if tokens
        else None
    )


def detected_languages(captions: Sequence[str]) -> dict[str, int]:
    """Languages of captions in the Latin script, the most frequent first; `unsure` counts those that no dictionary knows.

    Captions of fewer than three words, and other scripts, are left out.

    Raises:
        MissingExtra: without `simplemma`.
    """
    simplemma = require("simplemma", extra="curate", purpose="detecting languages")
    counts: Counter[str] = Counter()
    for text in captions:
        if len(text.split()) >= _FEW_WORDS and script_of(text) == "Latin":
            found = simplemma.langdetect(text, lang=LATIN)
            language, share = found[0]
            counts[language if share >= _SURE and language != "unk" else "unsure"] += 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True)
class NearFacts:
    """Pictures that look like another one."""

    rows: int  # pictures that were compared
    alike: int  # of them, those with a near duplicate
    pairs: list[tuple[str, str]]  # ids of the nearest pairs, at most five


def near_duplicates(
    manifest: Manifest,
    rows: Sequence[int],
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> NearFacts:
    """Compare pictures by thumbnails of 16 x 16 pixels: those whose mean absolute difference is below 4 of 255 are near duplicates.

    Args:
        manifest: the data set.
        rows: to compare, each with each.
        workers: threads that decode.
        progress: called with the number of pictures finished since the last call.
    """
    reader = ImageReader(manifest)

    def thumbnail(row: int) -> np.ndarray | None:
        try:
            image = decode(reader.bytes(row), at_least=2 * _SIDE).resize(
                (_SIDE, _SIDE), Image.Resampling.BICUBIC
            )
        except BadImage:
            return None
        finally:
            if progress:
                progress(1)
        return np.asarray(image, dtype=np.int16).reshape(-1)

    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(thumbnail, rows))
    good = [row for row, one in zip(rows, found, strict=True) if one is not None]
    thumbnails = (
        np.stack([one for one in found if one is not None])
        if good
        else np.zeros((0, 3 * _SIDE**2), dtype=np.int16)
    )
    first, second, distances = near_pairs(thumbnails)
    nearest = np.argsort(distances, kind="stable")[:5]
    pairs = [(manifest.ids[good[first[i]]], manifest.ids[good[second[i]]]) for i in nearest]
    return NearFacts(len(good), len(np.union1d(first, second)), pairs)


def near_pairs(thumbnails: np.ndarray, *, limit: float = _NEAR) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of thumbnails that differ by less than a limit on average.

    Means over blocks of 4 x 4 pixels differ by no more than the pixels do on average, so most pairs are ruled out by 48 numbers.

    Args:
        thumbnails: (pictures, 768) int16, 16 x 16 pixels of three colours.
        limit: mean absolute difference.

    Returns:
        (pairs,) first, (pairs,) second, above the first, and (pairs,) their difference.
    """
    coarse = (
        thumbnails.reshape(-1, 4, 4, 4, 4, 3)
        .mean(axis=(2, 4))
        .reshape(len(thumbnails), 48)
        .astype(np.float32)
    )
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, len(thumbnails), _BLOCK):
        stop = min(start + _BLOCK, len(thumbnails))
        for other in range(start, len(thumbnails), _BLOCK):
            part = coarse[other : other + _BLOCK]
            bound = np.zeros((stop - start, len(part)), dtype=np.float32)
            for column in range(48):
                bound += np.abs(coarse[start:stop, column, None] - part[None, :, column])
            i, j = np.nonzero(
                bound / 48 < limit + 1e-3
            )  # single precision must not rule out a pair at the limit
            i, j = (i + start)[i + start < j + other], (j + other)[i + start < j + other]
            distances = np.concatenate(
                [
                    np.abs(thumbnails[i[k : k + 4096]] - thumbnails[j[k : k + 4096]]).mean(axis=1)
                    for k in range(0, len(i), 4096)
                ]
                or [[]]
            )
            near = distances < limit
            parts.append((i[near], j[near], distances[near]))
    if not parts:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    first, second, distances = (np.concatenate(column) for column in zip(*parts, strict=True))
    return first, second, distances


@dataclass(frozen=True)
class WeightFacts:
    """How unevenly training draws samples."""

    weights: Spread
    zero: int  # samples that are never drawn
    most_draws: float  # expected draws of the heaviest sample in one epoch
    effective: (
        float  # samples that equal weights would need for the same variance: (sum w)^2 / sum w^2, Kish 1965
    )


def weight_facts(manifest: Manifest) -> WeightFacts | None:
    """Figures of the column `weight`, or None where there is none.

    Raises:
        DataError: when a weight is negative or not finite.
    """
    if "weight" not in manifest.table.column_names or not len(manifest):
        return None
    weights = manifest.weights()
    spread = Spread.of(weights)
    drawn = weights > 0
    if spread is None or not drawn.any():
        return spread and WeightFacts(spread, len(weights), 0.0, 0.0)
    scaled = weights / weights.max()
    return WeightFacts(
        spread,
        int((~drawn).sum()),
        float(drawn.sum() / scaled.sum()),
        float(scaled.sum() ** 2 / (scaled**2).sum()),
    )


def sampled_captions(captions: Sequence[Sequence[str]], limit: int) -> list[str]:
    """Up to so many captions, one of each sample drawn, the same every time."""
    every = [text for texts in captions for text in texts]
    return [every[row] for row in sampled_rows(len(every), limit, seed=2)]
