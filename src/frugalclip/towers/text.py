"""Text transformer, causal or bidirectional, that does not compute padding.

Source: CLIP, arXiv 2103.00020, section 2.4 (causal, pooled at the end token); SigLIP, arXiv 2303.15343 (not
causal). Captions are encoded in groups of similar length, each cut to its longest. This is exact, since no
token attends to padding, and most of a padded batch is padding. The published SigLIP models do attend to
padding (`fill`): their texts are filled up to the context and pooled at the last position.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from frugalclip.core.types import Gates, TextInput, Tokens, TowerOutput
from frugalclip.towers.base import Ability, TextTower, TextTowerConfig
from frugalclip.towers.blocks import Lookup, Norm
from frugalclip.towers.sizes import TransformerConfig
from frugalclip.towers.units import HIDDEN, SCALED_HIDDEN, WHOLE, Units, layer_axes

SIZES = {  # name: (width, depth)
    "nano": (128, 2),
    "micro": (192, 4),
    "tiny": (256, 6),
    "small": (384, 12),
    "base": (512, 12),
    "large": (768, 12),
}


class TextConfig(TransformerConfig, TextTowerConfig):
    """Settings of a text transformer; a plain word is the name of a size."""

    SIZES = SIZES
    LATER: ClassVar[tuple[str, ...]] = ("norm_eps", "fill", "embedding_rank")
    factors_tokens: ClassVar[bool] = True
    kind: Literal["transformer"] = "transformer"
    attention: Literal["causal", "bidirectional"] = Field(
        "causal", description="CLIP: causal; SigLIP: bidirectional"
    )
    pool: Literal["end", "mean", "last"] = Field(
        "end",
        description="pooled at the end token, as the mean over tokens, or at the last position of the "
        "context",
    )
    fill: int | None = Field(
        None,
        ge=0,
        description="id that fills texts up to the context and is attended to, as in SigLIP; none: padding "
        "is masked",
    )
    project_bias: bool = Field(False, description="bias of the projection; SigLIP has one")
    embedding_rank: int = Field(
        0, ge=0, description="rank of the token embedding, two factors in place of one matrix; 0: whole"
    )
    length_groups: int = Field(
        4, ge=1, description="groups of similar length in which the captions of a batch are encoded"
    )

    @model_validator(mode="after")
    def _reads_what_is_there(self) -> "TextConfig":
        if self.pool == "last" and self.fill is None:
            raise ValueError(
                "pool: last needs texts that are filled up to the context; set fill to the padding id, or "
                "pool: end"
            )
        return self

    def renumbered(self, numbers: Mapping[int, int]) -> "TextConfig":
        """These settings with the new id of what fills texts."""
        return self if self.fill is None else self.model_copy(update={"fill": numbers[self.fill]})

    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic for one text of `tokens`, in 10^9 operations."""
        return super().forward_gflops(tokens=tokens) + 2 * tokens * self.embedding_rank * self.width * 1e-9

    def build(self, *, vocabulary: int, context: int, dim: int) -> "TextTransformer":
        """The tower of these sizes."""
        return TextTransformer(self, vocabulary=vocabulary, context=context, dim=dim)


def length_groups(lengths: Tensor, groups: int) -> list[Tensor]:
    """Rows in groups of similar length, at most `groups` of nearly equal size, shortest first.

    Args:
        lengths: (batch,) tokens of each caption.
        groups: how many at most.

    Returns:
        (rows,) int64 tensors that together hold each row once.
    """
    order = torch.argsort(lengths, stable=True)
    return [part for part in order.tensor_split(max(1, min(groups, len(lengths)))) if len(part)]


class TextTransformer(TextTower):
    """Text transformer."""

    supports = frozenset[Ability]({"masked_words", "gates"})
    description = "a transformer text tower"
    advice = "set model.text.attention=causal"

    def __init__(self, config: TextConfig, *, vocabulary: int, context: int, dim: int) -> None:
        super().__init__()
        self.config, self.context = config, context
        if config.attention == "causal":
            self.supports = self.supports | frozenset[Ability]({"next_words"})
        self.lookup = Lookup(vocabulary, config.width, rank=config.embedding_rank)
        self.positions = nn.Parameter(torch.empty(1, context, config.width))
        self.layers = config.build_layers()
        self.norm_after = Norm(config.width, eps=config.norm_eps)
        self.project = nn.Linear(config.width, dim, bias=config.project_bias)

    @property
    def token_embedding(self) -> Lookup:
        """The vectors of the tokens."""
        return self.lookup

    @property
    def units(self) -> Units:
        """The units that may be cut."""
        axes = dict(layer_axes(self.config)) | {
            "positions": (WHOLE, WHOLE, SCALED_HIDDEN),
            "norm_after.weight": (HIDDEN,),
            "norm_after.bias": (HIDDEN,),
            "project.weight": (WHOLE, HIDDEN),
        }
        if self.project.bias is not None:
            axes["project.bias"] = (WHOLE,)
        tokens = {"lookup.weight": (WHOLE, SCALED_HIDDEN)}
        if self.lookup.widen is not None:
            tokens = {"lookup.weight": (WHOLE, WHOLE), "lookup.widen.weight": (SCALED_HIDDEN, WHOLE)}
        shapes = {name: tuple(p.shape) for name, p in self.named_parameters()}
        return Units(self.config, axes | tokens, shapes, token_embedding=frozenset(tokens))

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights (CLIP; SLIP `models.py`)."""
        self.lookup.reset(generator, deviation=0.02)
        nn.init.normal_(self.positions, std=0.01, generator=generator)
        self.layers.reset(generator)
        nn.init.normal_(self.project.weight, std=self.config.width**-0.5, generator=generator)
        if self.project.bias is not None:
            nn.init.zeros_(self.project.bias)

    def forward(
        self, texts: TextInput, *, with_tokens: bool = False, gates: Gates | None = None
    ) -> TowerOutput:
        """Encode captions.

        Args:
            texts: `Tokens` with ids (batch, length), length at most the context.
            with_tokens: also return token outputs.
            gates: multipliers of heads, neurons, channels and layers.

        Returns:
            TowerOutput; tokens are (batch, length, width) after the last normalisation, zero at padding.
        """
        assert isinstance(texts, Tokens), "a transformer of ours encodes token ids"
        if self.config.fill is not None:
            return self._encode(
                self._filled(texts),
                texts.lengths,
                with_tokens=with_tokens,
                gates=gates,
                pad_to=texts.ids.shape[1],
            )
        # lengths are not read on a GPU, which would wait for the device, nor while a graph is traced
        is_known = texts.lengths.device.type == "cpu" and not torch.compiler.is_compiling()
        longest = int(texts.lengths.max()) if is_known else texts.ids.shape[1]
        if not is_known or self.config.length_groups == 1 or len(texts) == 1:
            return self._encode(
                texts.ids[:, :longest],
                texts.lengths,
                with_tokens=with_tokens,
                gates=gates,
                pad_to=texts.ids.shape[1],
            )
        groups = length_groups(texts.lengths, self.config.length_groups)
        parts = []
        for rows in groups:
            lengths = texts.lengths[rows]
            ids = texts.ids[rows, : int(lengths[-1])]
            parts.append(
                self._encode(ids, lengths, with_tokens=with_tokens, gates=gates, pad_to=texts.ids.shape[1])
            )
        back = torch.argsort(torch.cat(groups))  # back to the order of the batch
        tokens = torch.cat([p.tokens for p in parts if p.tokens is not None])[back] if with_tokens else None
        return TowerOutput(
            tokens, torch.cat([p.pooled for p in parts])[back], torch.cat([p.embedding for p in parts])[back]
        )

    def _filled(self, texts: Tokens) -> Tensor:
        """(batch, context) ids whose padding is the id that the tower was trained with."""
        fill = self.config.fill or 0
        ids = nn.functional.pad(texts.ids, (0, self.context - texts.ids.shape[1]), value=fill)
        places = torch.arange(self.context, device=ids.device)
        return ids.masked_fill(places >= texts.lengths[:, None].to(ids.device), fill)

    def _encode(
        self, ids: Tensor, lengths: Tensor, *, with_tokens: bool, gates: Gates | None, pad_to: int
    ) -> TowerOutput:
        batch, length = ids.shape
        x = self.lookup(ids) + self.positions[:, :length]
        x = x.to(self._compute_type(x))
        hidden = None if gates is None else gates.hidden
        x = x if hidden is None else x * hidden.to(x.dtype)
        is_real = torch.arange(length, device=ids.device)[None, :] < lengths[:, None]  # (batch, length)
        x, _ = self.layers(x, mask=self._mask(is_real, x.dtype), gates=gates)
        every, place = (
            torch.arange(batch, device=ids.device),
            lengths - 1 if self.config.pool == "end" else length - 1,
        )
        if self.config.pool != "mean" and not with_tokens:
            pooled = self.norm_after(x[every, place], hidden)
            return TowerOutput(None, pooled, self.project(pooled))
        normalised = self.norm_after(x, hidden)
        tokens = normalised * is_real[:, :, None]
        pooled = (
            tokens.sum(dim=1) / lengths[:, None].to(tokens.dtype)
            if self.config.pool == "mean"
            else normalised[every, place]
        )
        padded = (
            nn.functional.pad(tokens, (0, 0, 0, pad_to - length)) if with_tokens else None
        )  # a filled text is cut to the length of its batch
        return TowerOutput(padded, pooled, self.project(pooled))

    @staticmethod
    def _compute_type(x: Tensor) -> torch.dtype:
        kind = x.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype

    def _mask(self, is_real: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Additive attention mask.

        A causal tower pooled at the end token never attends to padding, so it masks none.
        """
        batch, length = is_real.shape
        if self.config.attention == "bidirectional" and self.config.fill is not None:
            return None  # padding is attended to
        if self.config.attention == "causal":
            return torch.full((length, length), float("-inf"), dtype=dtype, device=is_real.device).triu(1)
        return torch.zeros(batch, 1, 1, length, dtype=dtype, device=is_real.device).masked_fill_(
            ~is_real[:, None, None, :], float("-inf")
        )
