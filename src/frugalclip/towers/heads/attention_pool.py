"""Attention pooling: tokens to one vector, by a learned query."""

import torch
from torch import Tensor, nn

from frugalclip.towers.blocks import NORM_EPS, Activation, FeedForward, Norm, attend


class AttentionPool(nn.Module):
    """Attention pooling with a learned query and a feed-forward residual.

    Source: the MAP head of SigLIP; Lee et al. 2019, arXiv 1810.00825.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        neurons: int = 0,
        activation: Activation = "gelu",
        norm_eps: float = NORM_EPS,
    ) -> None:
        """`neurons=0` stands for 4 * width."""
        super().__init__()
        self.heads, self.head_dim = heads, width // heads
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.q, self.kv, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.norm = Norm(width, eps=norm_eps)
        self.feed_forward = FeedForward(width, neurons=neurons or 4 * width, activation=activation)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights."""
        width = self.query.shape[-1]
        nn.init.normal_(self.query, std=width**-0.5, generator=generator)
        for layer in (self.q, self.kv, self.out, self.feed_forward.enter, self.feed_forward.leave):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, length, width) to (batch, width)."""
        batch, length, width = tokens.shape
        q = (
            self.q(self.query.to(tokens.dtype))
            .view(1, 1, self.heads, self.head_dim)
            .transpose(1, 2)
            .expand(batch, -1, -1, -1)
        )
        k, v = (
            self.kv(tokens).view(batch, length, 2, self.heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        )
        mixed = self.out(attend(q, k, v, mask=None).transpose(1, 2).reshape(batch, width))
        return mixed + self.feed_forward(self.norm(mixed), neuron_gates=None)
