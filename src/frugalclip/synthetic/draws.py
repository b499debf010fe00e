"""Uniform numbers for one scene and purpose: drawn one by one, a function of (seed, purpose, scene) alone."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np

from frugalclip.core.random import uniform

_BLOCK = 192  # what most scenes need for one purpose
# scenes whose first block is drawn at once, since the next scene usually follows
_NEIGHBOURS = 64
Item = TypeVar("Item")


def block(seed: int, purpose: str, scene: int, number: int, count: int) -> np.ndarray:
    """(count,) float64 in [0, 1): one of the blocks of numbers that a scene has for a purpose."""
    if number:
        return uniform(seed, f"scenes/{purpose}", np.array([[scene, number]]), count)[0]
    return _first_blocks(seed, purpose, scene // _NEIGHBOURS, count)[scene % _NEIGHBOURS]


@lru_cache(maxsize=32)
def _first_blocks(seed: int, purpose: str, group: int, count: int) -> np.ndarray:
    """(neighbours, count) first blocks of a group of scenes; one call costs as much as a few scenes would."""
    scenes = np.arange(group * _NEIGHBOURS, (group + 1) * _NEIGHBOURS)
    return uniform(seed, f"scenes/{purpose}", np.stack([scenes, np.zeros_like(scenes)], axis=1), count)


class Draws:
    """Draws one number after another; whoever uses the same seed, purpose and scene gets the same ones."""

    def __init__(self, seed: int, purpose: str, scene: int) -> None:
        self._seed, self._purpose, self._scene = seed, purpose, scene
        self._block = 0
        self._numbers: list[float] = []

    def number(self) -> float:
        """Evenly in [0, 1)."""
        if not self._numbers:
            self._numbers = block(self._seed, self._purpose, self._scene, self._block, _BLOCK).tolist()[::-1]
            self._block += 1
        return self._numbers.pop()

    def integer(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int((high - low + 1) * self.number())

    def chance(self, share: float) -> bool:
        """True for this share of scenes; draws one number whatever the share."""
        return self.number() < share

    def choice(self, items: Sequence[Item]) -> Item:
        """One of the items, each as likely."""
        return items[int(len(items) * self.number())]

    def weighted(self, weights: Mapping[str, float]) -> str:
        """One of the names, as likely as its weight."""
        left = self.number() * sum(weights.values())
        name = ""
        for name, weight in weights.items():
            left -= weight
            if left < 0 and weight > 0:
                return name
        return max(weights, key=lambda name: weights[name])  # rounding left a crumb

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """All items in a drawn order."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = self.integer(0, last)
            result[last], result[other] = result[other], result[last]
        return result
