"""Counts of words, or of pieces of words, as a frozen text backbone: `hashed:words`, `hashed:pieces`.

Sentence encoders know what a text means; that "red heart" and "red square" share a word they tell less
sharply. Counts are folded into a fixed width by signed hashing (Weinberger et al., ICML 2009,
arXiv 0902.2206), so that products of vectors are, but for rare collisions, products of counts, and no
vocabulary is kept. Pieces are runs of three and four characters of a word between marks of its start and end.
"""

import hashlib
from collections.abc import Iterator
from typing import ClassVar

import torch
from pydantic import Field

from frugalclip.backbones.base import BackboneKind, Side
from frugalclip.core.config import Settings
from frugalclip.core.errors import ModelError, RecipeError, known_names
from frugalclip.core.types import Strings
from frugalclip.data.words import split_words
from frugalclip.interop.source import ModelSource
from frugalclip.towers.pretrained import Backbone, BackboneOutput

SCHEME = "hashed"
UNITS = {"words": 1024, "pieces": 2048}  # what is counted -> width by default
PIECES = (3, 4)  # characters


class HashedOptions(Settings):
    """`options` of counts."""

    width: int | None = Field(
        None, ge=16, description="numbers of a vector; null: 1,024 for words, 2,048 for pieces"
    )


class HashedBackbone(Backbone):
    """Signed counts of a text.

    Args:
        counted: `words` or `pieces`.
        width: numbers of a vector.
    """

    def __init__(self, counted: str, *, width: int) -> None:
        super().__init__()
        self.counted, self.width = counted, width
        self.fingerprint = f"{SCHEME}:{counted}:{width}"

    def forward(self, inputs: Strings, *, with_tokens: bool = False) -> BackboneOutput:
        """Count in texts: (batch, width) float32, 0 for a text without words."""
        if with_tokens:
            raise ModelError(
                f"{SCHEME}:{self.counted} gives one vector a text and no tokens; use another text tower for "
                "an objective that needs tokens."
            )
        counts = torch.zeros(len(inputs), self.width)
        for row, text in enumerate(inputs.texts):
            for unit in _units(text, self.counted):
                place, sign = _hashed(unit, self.width)
                counts[row, place] += sign
        return BackboneOutput(counts)


class Hashed(BackboneKind[HashedOptions]):
    """Counts of words, or of pieces of words."""

    form: ClassVar[str] = "hashed:words, hashed:pieces"
    sides: ClassVar[tuple[Side, ...]] = ("text",)
    Options = HashedOptions

    @classmethod
    def matches(cls, source: ModelSource) -> bool:
        return source.scheme == SCHEME

    def options(self) -> HashedOptions:
        """The options.

        Raises:
            RecipeError: for an unknown setting, or where counts are to be tuned.
            ModelError: where something else is to be counted.
        """
        if self.source.rest not in UNITS:
            raise ModelError(f"'{self.source}' counts nothing known; {known_names(self.source.rest, UNITS)}")
        if self.use.is_tuned:
            raise RecipeError(
                f"{self.source} has no weights that can be trained; leave model.text.tune and "
                "model.text.lora out."
            )
        return super().options()

    def load(self) -> HashedBackbone:
        width = self.options().width
        return HashedBackbone(self.source.rest, width=width or UNITS[self.source.rest])

    def on_meta(self) -> HashedBackbone:
        return self.load()


def _units(text: str, counted: str) -> Iterator[str]:
    for word in split_words(text.casefold()):
        if counted == "words":
            yield word
            continue
        marked = f"<{word}>"
        for length in PIECES:
            yield from (marked[i : i + length] for i in range(len(marked) - length + 1))


def _hashed(unit: str, width: int) -> tuple[int, int]:
    """Place and sign of a word or piece, the same on every machine."""
    number = int.from_bytes(hashlib.blake2b(unit.encode(), digest_size=8).digest(), "little")
    return (number >> 1) % width, 1 if number & 1 else -1
