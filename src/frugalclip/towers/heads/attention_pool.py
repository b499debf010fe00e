"""Attention pooling: tokens to one vector, by a learned query."""

import torch
from torch import Tensor, nn

from frugalclip.towers.blocks import NORM_EPS, Activation, FeedForward, Norm, attend, gated_linear
from frugalclip.towers.units import HIDDEN, SCALED_HIDDEN, WHOLE, Axis


class AttentionPool(nn.Module):
    """Attention pooling with a learned query and a feed-forward residual.

    Source: the MAP head of SigLIP; Lee et al. 2019, arXiv 1810.00825.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        head_dim: int = 0,
        neurons: int = 0,
        activation: Activation = "gelu",
        norm_eps: float = NORM_EPS,
    ) -> None:
        """`neurons=0` stands for 4 * width, `head_dim=0` for width / heads."""
        super().__init__()
        self.heads, self.head_dim = heads, head_dim or width // heads
        inner = self.heads * self.head_dim
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.q, self.kv, self.out = (
            nn.Linear(width, inner),
            nn.Linear(width, 2 * inner),
            nn.Linear(inner, width),
        )
        self.norm = Norm(width, eps=norm_eps)
        self.feed_forward = FeedForward(width, neurons=neurons or 4 * width, activation=activation)

    @staticmethod
    def axes() -> dict[str, tuple[Axis, ...]]:
        """Axes of the weights: channels are cut with the tower's."""
        return {
            "query": (WHOLE, WHOLE, SCALED_HIDDEN),
            **{f"{name}.weight": (WHOLE, HIDDEN) for name in ("q", "kv", "feed_forward.enter")},
            **{f"{name}.bias": (WHOLE,) for name in ("q", "kv", "feed_forward.enter")},
            **{f"{name}.weight": (SCALED_HIDDEN, WHOLE) for name in ("out", "feed_forward.leave")},
            **{f"{name}.bias": (SCALED_HIDDEN,) for name in ("out", "feed_forward.leave")},
            **{f"norm.{kind}": (HIDDEN,) for kind in ("weight", "bias")},
        }

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights."""
        width = self.query.shape[-1]
        nn.init.normal_(self.query, std=width**-0.5, generator=generator)
        for layer in (self.q, self.kv, self.out, self.feed_forward.enter, self.feed_forward.leave):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, hidden: Tensor | None = None) -> Tensor:
        """(batch, length, width) to (batch, width), with gates of channels (width,)."""
        batch, length, _ = tokens.shape
        query = self.query if hidden is None else self.query * hidden
        q = (
            self.q(query.to(tokens.dtype))
            .view(1, 1, self.heads, self.head_dim)
            .transpose(1, 2)
            .expand(batch, -1, -1, -1)
        )
        k, v = (
            self.kv(tokens).view(batch, length, 2, self.heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        )
        mixed = attend(q, k, v, mask=None).transpose(1, 2).reshape(batch, self.heads * self.head_dim)
        mixed = gated_linear(mixed, self.out, enter=None, leave=hidden)
        return mixed + self.feed_forward(self.norm(mixed, hidden), neuron_gates=None, leave=hidden)
