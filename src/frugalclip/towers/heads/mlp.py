"""A head over one vector of a backbone: a linear layer, or a small perceptron beside it.

The linear path stays: with a few thousand pairs most of what a head can learn is linear, and the hidden layer
only has to learn the rest. The input is normalised over its channels, since the channels of a pretrained
backbone differ in scale by orders of magnitude.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from frugalclip.towers.base import Head, HeadConfig


class MlpConfig(HeadConfig):
    """Settings of a perceptron; `hidden: 0` leaves the linear layer."""

    kind: Literal["mlp"] = "mlp"
    hidden: int = Field(
        0, ge=0, description="hidden neurons beside the linear layer; 0: the linear layer alone"
    )
    norm: bool = Field(True, description="layer normalisation of the backbone's vector")
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="dropout of the backbone's channels, and of the hidden neurons",
    )
    bias: bool = Field(True, description="bias of the linear layer")

    def forward_gflops(self, *, width: int, dim: int) -> float:
        """Forward arithmetic for one vector, in 10^9 operations."""
        return 2 * (width * dim + self.hidden * (width + dim)) * 1e-9

    def kept_numbers(self, *, width: int) -> float:
        """Numbers that the backward pass keeps for one vector."""
        return 2.0 * width + 2 * self.hidden

    def build(self, *, width: int, dim: int) -> "Mlp":
        """The head of these sizes."""
        return Mlp(self, width=width, dim=dim)


class Mlp(Head):
    """A linear layer, and a hidden layer beside it."""

    def __init__(self, config: MlpConfig, *, width: int, dim: int) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(width) if config.norm else None
        self.linear = nn.Linear(width, dim, bias=config.bias)
        self.enter = nn.Linear(width, config.hidden) if config.hidden else None
        self.leave = nn.Linear(config.hidden, dim, bias=False) if config.hidden else None

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights.

        The hidden layer gives zero at first, so that training begins at the linear layer.
        """
        width = self.linear.in_features
        nn.init.normal_(self.linear.weight, std=width**-0.5, generator=generator)
        if self.linear.bias is not None:
            nn.init.zeros_(self.linear.bias)
        if self.enter is not None and self.leave is not None:
            nn.init.normal_(self.enter.weight, std=width**-0.5, generator=generator)
            nn.init.zeros_(self.enter.bias)
            nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., dim)."""
        x = x if self.norm is None else self.norm(x)
        x = F.dropout(x, self.config.dropout, self.training)
        out = self.linear(x)
        if self.enter is None or self.leave is None:
            return out
        return out + self.leave(F.dropout(F.gelu(self.enter(x)), self.config.dropout, self.training))
