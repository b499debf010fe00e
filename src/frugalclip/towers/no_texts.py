"""The text tower of an image-only model, such as a backbone of timm; it refuses texts."""

from typing import ClassVar, Literal

import torch
from pydantic import Field

from frugalclip.core.errors import ModelError
from frugalclip.core.types import Gates, TextInput, TowerOutput
from frugalclip.towers.base import TextTower, TextTowerConfig


class NoTextsConfig(TextTowerConfig):
    """Settings of an image-only model: none. Recipes train two towers and refuse it."""

    encodes_texts: ClassVar[bool] = False
    kind: Literal["none"]
    width: int = Field(0, ge=0, le=0)

    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic for one text, in 10^9 operations: none."""
        return 0.0

    def kept_numbers(self, *, tokens: int) -> float:
        """Numbers that the backward pass keeps for one text: none."""
        return 0.0

    def build(self, *, vocabulary: int, context: int, dim: int) -> "NoTexts":
        """The tower."""
        return NoTexts()


class NoTexts(TextTower):
    """Text tower that refuses every text."""

    def reset(self, generator: torch.Generator) -> None:
        """Nothing to draw."""

    def forward(
        self, texts: TextInput, *, with_tokens: bool = False, gates: Gates | None = None
    ) -> TowerOutput:
        """Refuse texts in any form: token ids (batch, length), strings or features.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            "this model encodes pictures and no texts; give one with two towers, or train a text tower "
            "beside it (model.image.from)."
        )
