"""A row of uniform numbers for one scene and purpose: sequential to use, yet a function of (seed, purpose, scene) alone."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from frugalclip.core.random import uniform

_BLOCK = 192  # what most scenes need for one purpose
Item = TypeVar("Item")


class Draws:
    """Draws one number after another; whoever uses the same seed, purpose and scene gets the same ones."""

    def __init__(self, seed: int, purpose: str, scene: int) -> None:
        self._seed, self._purpose, self._scene = seed, purpose, scene
        self._block = 0
        self._numbers: list[float] = []

    def number(self) -> float:
        """Evenly in [0, 1)."""
        if not self._numbers:
            counters = np.array([[self._scene, self._block]])
            self._numbers = uniform(self._seed, f"scenes/{self._purpose}", counters, _BLOCK)[0].tolist()[::-1]
            self._block += 1
        return self._numbers.pop()

    def numbers(self, count: int) -> np.ndarray:
        """(count,) float64, evenly in [0, 1); a block of its own, for draws that are many."""
        self._block += 1
        return uniform(self._seed, f"scenes/{self._purpose}/many", np.array([[self._scene, self._block]]), count)[0]

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
