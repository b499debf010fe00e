"""Transformer blocks of every tower: pre-norm, with gates, sizes that differ by layer and [CLS] attention.

Source: ViT, arXiv 2010.11929, section 3.1. Gates are those of TinyCLIP, arXiv 2309.12314, section 3.2: they
multiply head outputs, neurons and residual channels, and normalisation then runs over the open channels.
Sizes may differ from layer to layer, so that a pruned tower is an ordinary tower.

Speed on a CPU: in bfloat16 and at the lengths of small towers, two batched products and a softmax beat the
fused attention kernel, most of all in the backward pass, so `attend` uses them there. In float32 and on a GPU
the fused kernel is as fast or faster. Both are exact.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frugalclip.core.types import Gates

Activation = Literal["gelu", "quick_gelu", "gelu_tanh"]
NORM_EPS = 1e-5  # torch's and CLIP's; SigLIP and timm have 1e-6
PLAIN_ROUTE_LENGTH = (
    160  # tokens; above it the (length, length) scores cost more memory traffic than the fused kernel
)


@dataclass(frozen=True)
class LayerGates:
    """The gates of one layer."""

    hidden: Tensor | None = None  # (width,)
    heads: Tensor | None = None  # (heads,)
    neurons: Tensor | None = None  # (neurons,)
    attention: Tensor | None = None  # ()
    feed_forward: Tensor | None = None  # ()


def layer_gates(gates: Gates | None, layer: int) -> LayerGates:
    """The gates of one layer of a tower."""
    if gates is None:
        return LayerGates()
    return LayerGates(
        hidden=gates.hidden,
        heads=gates.heads[layer] if gates.heads is not None else None,
        neurons=gates.neurons[layer] if gates.neurons is not None else None,
        attention=gates.layers[layer, 0] if gates.layers is not None else None,
        feed_forward=gates.layers[layer, 1] if gates.layers is not None else None,
    )


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None) -> Tensor:
    """Softmax attention, by the fastest exact implementation for the device, type and length.

    Args:
        q: (batch, heads, length, head_dim).
        k: likewise.
        v: likewise.
        mask: broadcastable to (batch, heads, length, length), added to the scores; None attends everywhere.

    Returns:
        (batch, heads, length, head_dim).
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[-2] <= PLAIN_ROUTE_LENGTH:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (batch, heads, length, length)
        return torch.softmax(scores if mask is None else scores + mask.to(scores.dtype), dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.to(q.dtype))


def first_token_attention(q: Tensor, k: Tensor) -> Tensor:
    """Attention of the first token to the others, mean over heads (A-CLIP, arXiv 2212.08653, section 3.1).

    Args:
        q: (batch, heads, length, head_dim).
        k: likewise.

    Returns:
        (batch, length - 1) float32; a row sums to one less the first token's attention to itself. Memory
        grows with length, not its square.
    """
    scores = (q[:, :, :1].float() * q.shape[-1] ** -0.5) @ k.float().transpose(
        -2, -1
    )  # (batch, heads, 1, length)
    return torch.softmax(scores, dim=-1)[:, :, 0, 1:].mean(dim=1)


class Linear(nn.Linear):
    """Linear layer that may be empty, where a cut layer has no heads or neurons left."""

    def reset_parameters(self) -> None:
        """Draw the initial weights; torch warns about empty ones."""
        if self.weight.numel():
            super().reset_parameters()
        elif self.bias is not None:
            nn.init.zeros_(self.bias)

    def with_bias(self, x: Tensor, bias: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs), with another bias (outputs,) than the layer's own."""
        return F.linear(x, self.weight, bias)


def gated_linear(x: Tensor, linear: nn.Linear, *, enter: Tensor | None, leave: Tensor | None) -> Tensor:
    """A linear layer whose inputs and outputs are gated.

    Gates are multiplied into the weights, which are smaller than a batch of activations.

    Args:
        x: (..., inputs).
        linear: from inputs to outputs.
        enter: (inputs,) gates of what comes in; None: open.
        leave: (outputs,) gates of what goes out.

    Returns:
        (..., outputs).
    """
    if enter is None and leave is None:
        return linear(x)  # which may hold a low-rank addition
    weight, bias = linear.weight, linear.bias
    weight = weight if enter is None else weight * enter.to(weight.dtype)
    if leave is not None:
        weight, bias = weight * leave.to(weight.dtype)[:, None], bias * leave.to(bias.dtype)
    return F.linear(x, weight, bias)


class Attention(nn.Module):
    """Multi-head self-attention; its inner width, heads * head_dim, may differ from the tower's width.

    The bias of the keys is left out: it adds the same number to all scores of a query, which softmax ignores.
    Its gradient would be rounding that AdamW scales up to full steps, so that two orders of summation
    (processes, micro-batches) would never give the same weights.
    """

    bias_acts: Tensor

    def __init__(self, width: int, *, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.qkv = Linear(width, 3 * heads * head_dim)
        self.out = Linear(heads * head_dim, width)
        self.register_buffer(
            "bias_acts", torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(heads * head_dim), persistent=False
        )

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None,
        head_gates: Tensor | None,
        leave: Tensor | None,
        with_attention: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """(batch, length, width) to the same, with gates of heads (heads,) and of what goes out (width,).

        Also the first token's attention (batch, length - 1) if requested.
        """
        batch, length, _ = x.shape
        if not self.heads:  # a cut layer without heads: what is left is the bias of the output
            nothing = x.new_zeros(batch, length - 1) if with_attention else None
            mixed = x.new_zeros(batch, length, 0)
            return gated_linear(mixed, self.out, enter=None, leave=leave), nothing
        qkv = self.qkv.with_bias(x, self.qkv.bias * self.bias_acts)
        qkv = qkv.view(batch, length, 3, self.heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, length, head_dim)
        mixed = attend(q, k, v, mask=mask)
        enter = None if head_gates is None else head_gates.repeat_interleave(self.head_dim)
        mixed = mixed.transpose(1, 2).reshape(batch, length, self.heads * self.head_dim)
        out = gated_linear(mixed, self.out, enter=enter, leave=leave)
        return out, first_token_attention(q, k) if with_attention else None


def activated(x: Tensor, activation: Activation) -> Tensor:
    """(..., width) to the same: GELU, or OpenAI's sigmoid or SigLIP's tanh approximation of it."""
    if activation == "quick_gelu":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


class FeedForward(nn.Module):
    """Two linear layers around an activation."""

    def __init__(self, width: int, *, neurons: int, activation: Activation) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.enter = Linear(width, neurons)
        self.leave = Linear(neurons, width)

    def forward(self, x: Tensor, *, neuron_gates: Tensor | None, leave: Tensor | None = None) -> Tensor:
        """(batch, length, width) to the same, with gates of neurons and of what goes out (width,)."""
        hidden = activated(self.enter(x), self.activation)  # (batch, length, neurons)
        return gated_linear(hidden, self.leave, enter=neuron_gates, leave=leave)


class Norm(nn.LayerNorm):
    """Layer normalisation whose statistics can leave closed channels out."""

    def forward(self, input: Tensor, hidden_gates: Tensor | None = None) -> Tensor:
        """(..., width) to the same.

        With gates (width,), statistics are over the channels whose gate is not zero; the others must be zero
        in the input. They are filled with the mean of the open ones, so that the plain routine gives that
        mean and a known share of their variance. With every gate open the result is bit for bit the plain
        one.
        """
        if hidden_gates is None:
            return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)
        is_open = (hidden_gates != 0).to(self.weight.dtype)  # (width,)
        share = is_open.mean().clamp(min=1 / len(is_open))
        mean = input.mean(dim=-1, keepdim=True, dtype=self.weight.dtype) / share  # of the open channels
        filled = torch.addcmul(input, mean.to(input.dtype), (1 - is_open).to(input.dtype))
        weight, bias = self.weight * is_open * share.sqrt(), self.bias * is_open
        if input.device.type == "cpu":
            return F.layer_norm(filled, self.normalized_shape, weight, bias, self.eps * float(share))
        spread = share.rsqrt().to(input.dtype)  # in place of a smaller eps, which would wait for the device
        return F.layer_norm(filled * spread, self.normalized_shape, weight, bias, self.eps)


class Block(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        head_dim: int,
        neurons: int,
        activation: Activation,
        norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        self.norm_attention = Norm(width, eps=norm_eps)
        self.attention = Attention(width, heads=heads, head_dim=head_dim)
        self.norm_feed_forward = Norm(width, eps=norm_eps)
        self.feed_forward = FeedForward(width, neurons=neurons, activation=activation)

    def forward(
        self, x: Tensor, *, mask: Tensor | None, gates: LayerGates, with_attention: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(batch, length, width) to the same, with the first token's attention if requested."""
        mixed, attention = self.attention(
            self.norm_attention(x, gates.hidden),
            mask=mask,
            head_gates=gates.heads,
            leave=_product(gates.hidden, gates.attention, self.attention.out),
            with_attention=with_attention,
        )
        x = x + mixed
        grown = self.feed_forward(
            self.norm_feed_forward(x, gates.hidden),
            neuron_gates=gates.neurons,
            leave=_product(gates.hidden, gates.feed_forward, self.feed_forward.leave),
        )
        return x + grown, attention


def _product(hidden: Tensor | None, branch: Tensor | None, linear: nn.Linear) -> Tensor | None:
    """(width,) gates of the output of a branch, or None where nothing is gated."""
    if branch is None:
        return hidden
    return branch.expand(linear.out_features) if hidden is None else hidden * branch


class Lookup(nn.Embedding):
    """Token embedding that is drawn from a given generator.

    Of a rank below the width it is the product of two matrices: short vectors of the tokens (`weight`), and
    what widens them (`widen`).
    """

    def __init__(self, vocabulary: int, width: int, *, rank: int = 0) -> None:
        super().__init__(vocabulary, rank or width)
        self.widen = nn.Linear(rank, width, bias=False) if rank else None

    def reset(self, generator: torch.Generator, *, deviation: float = 0.02) -> None:
        """Draw the initial weights."""
        nn.init.normal_(self.weight, std=deviation, generator=generator)
        if self.widen is not None:
            nn.init.normal_(self.widen.weight, std=self.embedding_dim**-0.5, generator=generator)

    def product(self) -> Tensor:
        """(vocab, width) vectors of all tokens."""
        return self.weight if self.widen is None else self.weight @ self.widen.weight.T

    def forward(self, input: Tensor) -> Tensor:
        """(batch, length) ids to (batch, length, width)."""
        found = F.embedding(input, self.weight)
        return found if self.widen is None else self.widen(found)


class Transformer(nn.Module):
    """A stack of blocks of one width; heads and neurons may differ by layer."""

    def __init__(
        self,
        width: int,
        *,
        heads: tuple[int, ...],
        head_dim: int,
        neurons: tuple[int, ...],
        activation: Activation,
        norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        assert len(heads) == len(neurons), "one number of heads and of neurons for each layer"
        self.width, self.depth = width, len(heads)
        self.blocks = nn.ModuleList(
            Block(width, heads=h, head_dim=head_dim, neurons=n, activation=activation, norm_eps=norm_eps)
            for h, n in zip(heads, neurons, strict=True)
        )

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        gates: Gates | None = None,
        with_attention: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Run all layers.

        Args:
            x: (batch, length, width).
            mask: broadcastable to (batch, heads, length, length), added to the attention scores.
            gates: multipliers of heads, neurons, channels and layers.
            with_attention: also return the first token's attention.

        Returns:
            (batch, length, width); and (batch, length - 1) attention averaged over layers and heads, if
            requested.
        """
        total: Tensor | None = None
        for layer, block in enumerate(self.blocks):
            x, attention = block(x, mask=mask, gates=layer_gates(gates, layer), with_attention=with_attention)
            if attention is not None:
                total = attention if total is None else total + attention
        return x, None if total is None else total / self.depth

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights, with CLIP's deviation for each kind of linear layer."""
        width, depth = self.width, max(self.depth, 1)
        for block in self.blocks:
            assert isinstance(block, Block)
            for layer, deviation in (
                (block.attention.qkv, width**-0.5),
                (block.attention.out, width**-0.5 * (2 * depth) ** -0.5),
                (block.feed_forward.enter, (2 * width) ** -0.5),
                (block.feed_forward.leave, width**-0.5 * (2 * depth) ** -0.5),
            ):
                nn.init.normal_(layer.weight, std=deviation, generator=generator)
                nn.init.zeros_(layer.bias)
