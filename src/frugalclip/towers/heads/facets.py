"""The projector from image tokens to the space of a language model, whose facets describe a caption.

Source: FLAME, arXiv 2411.11927, as the authors' `open_clip/model.py` (`_build_mm_projector`) and
`transformer.py` (`_global_pool`) compute it: every token is projected and normalised on its own, then patches
are averaged. Averaging first would be another function, since the normalisation stands between. An image has
one vector, and its captions have several.
"""

import itertools

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from frugalclip.core.config import Settings
from frugalclip.towers.blocks import Norm
from frugalclip.towers.units import HIDDEN, WHOLE, Axis

LEAST_HIDDEN = 4096  # of the authors' code


class FacetProjectorConfig(Settings):
    """Settings of the projector from an image tower's tokens into the width of a language model."""

    depth: int = Field(2, ge=1, le=1000, description="linear layers; FLAME: 2")
    hidden: int = Field(
        0, ge=0, description="width between them; 0: that of the language model, at least 4096, as FLAME"
    )

    def widths(self, *, width: int, dim: int) -> list[int]:
        """Widths before, between and after the linear layers."""
        return [width, *[self.hidden or max(dim, LEAST_HIDDEN)] * (self.depth - 1), dim]

    def forward_gflops(self, *, tokens: int, width: int, dim: int) -> float:
        """Forward arithmetic for one image of `tokens`, in 10^9 operations."""
        return (
            2e-9
            * tokens
            * sum(before * after for before, after in itertools.pairwise(self.widths(width=width, dim=dim)))
        )

    def kept_numbers(self, *, tokens: int, width: int, dim: int) -> float:
        """Numbers that the backward pass keeps for one image: hidden layers twice, and the output."""
        return float(tokens * (2 * sum(self.widths(width=width, dim=dim)[1:-1]) + dim))

    def build(self, *, width: int, dim: int) -> "FacetProjector":
        """The projector from tokens of `width` to vectors of `dim`."""
        return FacetProjector(self, width=width, dim=dim)


class FacetProjector(nn.Module):
    """Linear layers with GELU on every token, a normalisation of every token, then the mean."""

    def __init__(self, config: FacetProjectorConfig, *, width: int, dim: int) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(
            nn.Linear(before, after)
            for before, after in itertools.pairwise(config.widths(width=width, dim=dim))
        )
        self.norm = Norm(dim)

    def axes(self) -> dict[str, tuple[Axis, ...]]:
        """Axes of the weights: the first layer reads the tower's channels."""
        axes = {name: (WHOLE,) * parameter.ndim for name, parameter in self.named_parameters()}
        return axes | {"layers.0.weight": (WHOLE, HIDDEN)}

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights; a token keeps about its length."""
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    def project(self, tokens: Tensor) -> Tensor:
        """(batch, length, width) to (batch, length, dim), each token on its own."""
        x = self.layers[0](tokens)
        for layer in self.layers[1:]:
            x = layer(F.gelu(x))
        return self.norm(x)

    def forward(self, tokens: Tensor) -> Tensor:
        """Project the patches of images.

        Args:
            tokens: (batch, patches, width), without [CLS].

        Returns:
            (batch, dim), not of length one.
        """
        return self.project(tokens).mean(dim=1)
