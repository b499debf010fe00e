"""Pairs ranked by suspicion, with a reason each, and the share of pairs that are probably wrong.

With a model the score is LEMoN's (`noise.lemon_suspicion`). Without one, pictures and captions are related by
heads in closed form, and the score is the share of pairs dealt at random that are more alike (`left_out`).
Neighbours among hand-made features tell less than those heads (docs/log.md) and are not in the score.

The rate compares the pairs with the same captions dealt to other rows, which are wrong on purpose: where a
share q of those scores above some value, the pairs above it are at most r q wrong ones and few right ones, so
r is near their share over q. The smallest of three q counts. It is too high where right pairs score like
wrong ones, which `separation` tells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frugalclip.auditing.left_out import LeftOutHeads
from frugalclip.auditing.noise import LemonSettings, cosine_suspicion, lemon_suspicion, unit_rows
from frugalclip.auditing.pair_features import PairFeatures
from frugalclip.core.random import stream_seed

PENALTY, DOUBTED = 1.0, 0.3  # of the heads
_QUANTILES = (0.5, 0.35, 0.25)
_DRAWS = 500
_EXPLAINED = 200  # rows whose reason names an example
_LONGEST = 60  # characters of a caption in a reason


@dataclass(frozen=True)
class PairScores:
    """Suspicion of each pair and its parts; higher is more suspicious."""

    cosines: np.ndarray  # (rows,) of image and caption
    distances: np.ndarray  # (rows,) of image and caption: 1 - cosine, or the share of `left_out`
    by_image: np.ndarray  # (rows,) of its captions to those of similar images
    by_text: np.ndarray  # (rows,) of its image to those of similar captions
    dealt: np.ndarray  # (dealt,) distances with captions of other rows
    with_neighbours: bool = True  # whether those parts count in the score

    @property
    def suspicion(self) -> np.ndarray:
        """(rows,) LEMoN's score, or the distance alone."""
        if not self.with_neighbours:
            return self.distances.copy()
        return self.distances + self.by_image + self.by_text


def pair_scores(features: PairFeatures, captions: Sequence[str], *, seed: int = 0) -> PairScores:
    """Score pairs by a cosine where the features share a space, else by heads that never saw the pair.

    Args:
        features: of the pairs.
        captions: (rows,) as one text each; rows with equal captions are not dealt to each other.
        seed: of dealing.
    """
    images, texts = features.images, features.texts
    order = _dealt(captions, seed)
    moved = np.flatnonzero(order != np.arange(len(order)))
    if features.is_joint:
        distances = cosine_suspicion(images, texts)
        cosines = 1 - distances
        dealt = cosine_suspicion(images[moved], texts[order[moved]])
    else:
        heads = LeftOutHeads(images, texts, penalty=PENALTY, doubted=DOUBTED)
        own = heads.scores()
        cosines, distances = np.nan_to_num(own.cosines), np.nan_to_num(own.shares, nan=1.0)
        dealt = np.nan_to_num(heads.scores(order).shares[moved], nan=1.0)
    settings = LemonSettings()
    parts = [
        lemon_suspicion(images, texts, distances=distances, settings=one) - distances
        for one in (
            LemonSettings(text_weight=0, image_weight=settings.image_weight),
            LemonSettings(image_weight=0, text_weight=settings.text_weight),
        )
    ]
    return PairScores(cosines, distances, parts[0], parts[1], dealt, with_neighbours=features.is_joint)


def _dealt(captions: Sequence[str], seed: int) -> np.ndarray:
    """(rows,) another row for each row; itself where the other one has the same caption."""
    order = np.random.default_rng(stream_seed(seed, "noise/dealt")).permutation(len(captions))
    other = np.empty(len(captions), dtype=np.int64)
    other[order] = np.roll(order, 1)
    same = np.array(
        [captions[row] == captions[place] for row, place in enumerate(other.tolist())], dtype=bool
    )
    other[same] = np.flatnonzero(same)
    return other


def noise_rate(distances: np.ndarray, dealt: np.ndarray) -> float:
    """Share of the pairs that are probably wrong.

    Args:
        distances: (rows,) of the pairs.
        dealt: (dealt,) of pairs that are wrong on purpose.
    """
    if not len(dealt) or not len(distances):
        return 0.0
    shares = [(distances >= np.quantile(dealt, 1 - q)).mean() / q for q in _QUANTILES]
    return float(min(1.0, *shares))


def rate_interval(distances: np.ndarray, dealt: np.ndarray, *, seed: int = 0) -> list[float]:
    """95 % bootstrap interval of the rate, over pairs."""
    random = np.random.default_rng(seed)
    rates = [
        noise_rate(random.choice(distances, len(distances)), random.choice(dealt, max(len(dealt), 1)))
        for _ in range(_DRAWS if len(dealt) else 0)
    ]
    return [float(one) for one in np.quantile(rates, [0.025, 0.975])] if rates else [0.0, 1.0]


def separation(distances: np.ndarray, dealt: np.ndarray) -> float:
    """How often a dealt pair scores above a pair (AUROC): 0.5 tells nothing apart.

    Args:
        distances: (rows,) of the pairs.
        dealt: (dealt,) of pairs that are wrong on purpose.
    """
    ranked = np.sort(distances)
    below = np.searchsorted(ranked, dealt, "left") + np.searchsorted(ranked, dealt, "right")
    return float(below.mean() / (2 * len(ranked))) if len(dealt) and len(ranked) else 0.5


def reasons(
    scores: PairScores, features: PairFeatures, captions: Sequence[str], ids: Sequence[str]
) -> list[str]:
    """Why each pair has its score: the part that stands out most, with an example for the first rows.

    Args:
        scores: of the pairs.
        features: of the pairs.
        captions: (rows,) as one text each.
        ids: (rows,) of the pairs.
    """
    parts = np.stack([_standing_out(part) for part in (scores.distances, scores.by_image, scores.by_text)])
    largest = parts.argmax(axis=0)
    found = [
        (
            "picture and caption are unlike",
            "similar pictures have other captions",
            "similar captions have other pictures",
        )[kind]
        for kind in largest.tolist()
    ]
    first = np.argsort(-scores.suspicion, kind="stable")[:_EXPLAINED]
    near_images, near_texts = (_nearest(vectors, first) for vectors in (features.images, features.texts))
    for place, row in enumerate(first.tolist()):
        if largest[row] == 1:
            found[row] += f", such as '{captions[near_images[place]][:_LONGEST]}'"
        elif largest[row] == 2:
            found[row] += f", such as {ids[near_texts[place]]}"
    return found


def _standing_out(part: np.ndarray) -> np.ndarray:
    middle = np.median(part)
    return (part - middle) / max(float(np.median(np.abs(part - middle))), 1e-9)


def _nearest(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(rows,) the nearest other row of each."""
    unit = unit_rows(vectors)
    cosines = unit[rows] @ unit.T
    cosines[np.arange(len(rows)), rows] = -np.inf
    return cosines.argmax(axis=1)
