"""In the place of a text tower: an encoder of pictures alone, such as a backbone of timm, is a model of one tower."""

from typing import Any, Literal

import torch
from torch import nn

from frugalclip.core.config import Settings
from frugalclip.core.errors import ModelError
from frugalclip.core.types import TowerOutput


class NoTextsConfig(Settings):
    """Settings of a model that reads no texts: none. Recipes train two towers and refuse it."""

    kind: Literal["none"]
    width: Literal[0] = 0

    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic for one text, in 10^9 operations: there is none."""
        return 0.0

    def kept_numbers(self, *, tokens: int) -> float:
        """Numbers that backward keeps of one text: none."""
        return 0.0

    def build(self, *, vocabulary: int, context: int, dim: int) -> "NoTexts":
        """What stands in the tower's place."""
        return NoTexts()


class NoTexts(nn.Module):
    """Refuses every text."""

    def reset(self, generator: torch.Generator) -> None:
        """Nothing to draw."""

    def forward(self, texts: Any, **wishes: Any) -> TowerOutput:
        """Raise the sentence that says what there is instead."""
        raise ModelError(
            "this model reads pictures and no texts; give one with two towers, or train a text tower beside it (model.image.from)."
        )
