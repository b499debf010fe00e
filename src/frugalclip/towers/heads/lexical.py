"""The lexical head: an embedding with the weight of each word of a lexicon.

Source: LexVLA, arXiv 2407.17827. Its code is not public, and its figures show an adapter, a mapper and a
codebook of word vectors for each modality, frozen for texts and trained for images. The choice of the layers
is ours: one transformer layer, a normalised linear layer, and the scores of SPLADE (arXiv 2107.05720) with
its activation and its maximum over tokens. A text has one state, an image has patches.
"""

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from frugalclip.core.errors import ModelError, RecipeError
from frugalclip.core.numerics import evenly_spaced, keep_top_k
from frugalclip.functional import LexicalActivation, best_word_scores, lexical_activation, unit, word_scores
from frugalclip.towers.base import FitData, FitInput, Head, HeadConfig, Reads, Side
from frugalclip.towers.blocks import Norm, Transformer

MOST = math.log(100)  # of the learned scale, as that of the dual encoder
CENTRED_IMAGES = 1024  # a mean needs fewer than a fit
STARTING_IMAGES = 8192  # of which all patches are held in memory


class LexicalConfig(HeadConfig):
    """Settings of a head whose embedding has a number for each word of a lexicon.

    `model.dim` is the number of words.
    """

    adapter_depth: int = Field(
        1,
        ge=0,
        le=1000,
        description="transformer layers over the patches before the mapper; 0 for one state of a text",
    )
    head_dim: int = Field(64, gt=0, description="channels of an attention head of the adapter")
    mapper: bool = Field(
        True,
        description="normalise states and map them to the width of the words; false leaves them as they are",
    )
    score: Literal["dot", "cosine"] = Field(
        "dot",
        description="similarity of state and word; cosine where words differ in length, with a learned scale",
    )
    scale: float = Field(10.0, gt=0, le=100, description="initial multiplier of cosines; at most 100")
    activation: LexicalActivation = Field(
        "log1p_relu", description="log1p_relu (SPLADE) has exact zeros, elu1p (VDR) has none"
    )
    start: Literal["drawn", "captions"] = Field(
        "drawn",
        description="start of the mapper: drawn, or ridge regression from images to the text features of "
        "their captions",
    )
    train_codebook: bool = Field(
        True, description="whether the vectors of the words are trained; LexVLA: images' yes, texts' no"
    )
    centre: bool = Field(
        False,
        description="subtract each word's mean score over the training data, else words that all share "
        "prevail",
    )

    kind: Literal["lexical"]  # without a default, so that it is always written down
    codebook: str = Field(
        "package:smollm2", description="the language model whose output embedding the words start from"
    )
    inside: int = Field(576, gt=0, description="width of that language model")
    over: Literal["patches", "vector"] = Field(
        "patches", description="patches: the best patch for each word; vector: the backbone's one vector"
    )

    @property
    def reads(self) -> Reads:
        """Output of the backbone that the head reads."""
        return "tokens" if self.over == "patches" else "pooled"

    def forward_gflops(self, *, width: int, dim: int, tokens: int = 1) -> float:
        """Forward arithmetic for `tokens` states and `dim` words, in 10^9 operations."""
        adapter = self.adapter_depth * (24 * tokens * width**2 + 4 * tokens**2 * width)
        return (adapter + 2 * tokens * self.inside * ((width if self.mapper else 0) + dim)) * 1e-9

    def kept_numbers(self, *, width: int, dim: int = 0, tokens: int = 1) -> float:
        """Numbers that the backward pass keeps for `tokens` states.

        Of `dim` words only the best score and its index.
        """
        adapter = self.adapter_depth * tokens * (17 * width + 2 * (width // self.head_dim) * tokens)
        return float(adapter + tokens * ((2 * width if self.mapper else 0) + self.inside) + 3 * dim)

    def build(self, *, width: int, dim: int) -> "LexicalHead":
        """The head, whose words are filled in before training, or from a checkpoint."""
        return LexicalHead(self, width=width, codebook=torch.zeros(dim, self.inside))


class LexicalHead(Head):
    """States to the weight of each word.

    Args:
        config: its settings.
        width: channels of a state.
        codebook: (vocab, inside) initial vectors, such as the output embedding of a language model.

    Raises:
        ModelError: if states and words differ in width without a mapper, or the adapter's heads do not divide
            its width.
    """

    centre: Tensor | None

    def __init__(self, config: LexicalConfig, *, width: int, codebook: Tensor) -> None:
        super().__init__()
        self.config, inside = config, codebook.shape[1]
        self.codebook_source = config.codebook
        if not config.mapper and width != inside:
            raise ModelError(
                f"states are {width} wide and words {inside}, and there is no mapper; set mapper: true."
            )
        if config.adapter_depth and width % config.head_dim:
            raise ModelError(
                f"states are {width} wide, which is not a multiple of head_dim {config.head_dim}; "
                f"set a head_dim that divides it."
            )
        depth = config.adapter_depth
        self.adapter = _layers(width, depth=depth, head_dim=config.head_dim) if depth else None
        self.norm = Norm(width) if config.mapper else None
        self.mapper = nn.Linear(width, inside) if config.mapper else None
        trained = config.train_codebook
        self.codebook = nn.Parameter(
            codebook.detach().clone() if trained else codebook.detach(), requires_grad=trained
        )
        self.log_scale = (
            nn.Parameter(torch.tensor(math.log(config.scale))) if config.score == "cosine" else None
        )
        self.register_buffer("centre", torch.zeros(len(codebook)) if config.centre else None)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights of the adapter and the mapper; the words stay."""
        if self.adapter is not None:
            self.adapter.reset(generator)
        if self.mapper is not None:
            nn.init.normal_(self.mapper.weight, std=self.mapper.in_features**-0.5, generator=generator)
            nn.init.zeros_(self.mapper.bias)

    @torch.no_grad()
    def fill_codebook(self, codebook: Tensor) -> None:
        """Set the vectors (vocab, inside) of the words.

        Raises:
            ModelError: if the head has another number of words, or words of another width.
        """
        if codebook.shape != self.codebook.shape:
            found, wide = codebook.shape
            raise ModelError(
                f"{self.config.codebook} has {found} words of {wide} numbers; "
                f"set model.dim={found} and head.inside={wide}."
            )
        self.codebook.copy_(codebook)

    def fit_inputs(self, side: Side) -> frozenset[FitInput]:
        """Features for `centre`, and for the start of the mapper from captions."""
        if side == "text":
            return frozenset({"text_features"} if self.config.centre else ())
        starts = self.config.start == "captions"
        features: set[FitInput] = {"image_features"} if self.config.centre or starts else set()
        if starts:
            features.add("text_features")
        return frozenset(features)

    def fit(self, data: FitData, *, side: Side) -> str:
        """Start the mapper from captions, then subtract mean scores, each where it is set."""
        if side == "text":
            texts = data.text_features(data.texts()).to(data.device)
            self.set_centre(self._score_sums(texts.split(256)) / len(texts))
            return f"the mean of {len(texts):,} texts"
        done = []
        if self.config.start == "captions":
            done.append(f"the captions of {self._start_from(data):,} pictures")
        if self.config.centre:
            rows = evenly_spaced(data.rows, CENTRED_IMAGES)
            parts = np.array_split(rows, -(-len(rows) // 64))
            encoded = (data.image_features(part).to(data.device) for part in parts)
            self.set_centre(self._score_sums(encoded, kind=torch.float64) / len(rows))
            done.append(f"the mean of {len(rows):,} pictures")
        return " and ".join(done)

    @torch.no_grad()
    def _score_sums(self, parts: Iterable[Tensor], *, kind: torch.dtype = torch.float32) -> Tensor:
        """(vocab,) sums of the scores of all rows of the parts, added up in a precision."""
        start = torch.zeros(len(self.codebook), dtype=kind, device=self.codebook.device)
        return sum((self.scores(part).to(kind).sum(dim=0) for part in parts), start)

    def _start_from(self, data: FitData) -> int:
        """Start the mapper from the captions of evenly spaced images; the number of images."""
        rows, texts, chances = data.pairs()
        images = evenly_spaced(np.unique(rows), STARTING_IMAGES)
        is_chosen = np.isin(rows, images)
        shares = torch.from_numpy(chances[is_chosen]).double()[:, None]  # (pairs, 1)
        encoded = data.text_features(texts[is_chosen]).double()
        if encoded.shape[-1] != self.codebook.shape[1]:
            raise RecipeError(
                f"start=captions maps to states of {self.codebook.shape[1]} numbers, and the text backbone "
                f"has {encoded.shape[-1]}; leave start out."
            )
        place = torch.from_numpy(np.searchsorted(images, rows[is_chosen]))
        states = torch.zeros(len(images), encoded.shape[1], dtype=encoded.dtype).index_add_(
            0, place, encoded * shares
        )
        total = torch.zeros(len(images), 1, dtype=encoded.dtype).index_add_(0, place, shares)
        parts = np.array_split(images, -(-len(images) // 512))
        tokens = torch.cat([data.image_features(part).to(data.device) for part in parts])
        self.start_mapper(tokens, (states / total).to(data.device))
        return len(images)

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Weight of each word for images or texts.

        Args:
            x: (batch, patches, width), or (batch, width) for one state each.
            mask: (batch, patches) bool, False for patches that neither the adapter nor the maximum includes.

        Returns:
            (batch, vocab), none negative; zeros where the mask leaves no patch.
        """
        return self._activated(self.scores(x, mask=mask))

    def of_patches(self, tokens: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """(batch, patches, width) to (batch, patches, vocab): the words of each patch.

        Mask as in `forward`.
        """
        return self._activated(word_scores(*self._compared(tokens, mask)))

    @torch.no_grad()
    def start_mapper(self, tokens: Tensor, states: Tensor, *, ridge: float = 0.1) -> None:
        """Start the mapper from ridge regression.

        From drawn weights, few pairs do not find thirty thousand words.

        Args:
            tokens: (images, patches, width) or (images, width).
            states: (images, inside) features of their captions by the language model.
            ridge: relative to the mean variance of a channel.

        Raises:
            ModelError: if the head has no mapper.
        """
        if self.mapper is None or self.norm is None:
            raise ModelError(
                "the head has no mapper to start; leave start: captions out, or set mapper: true."
            )
        x = tokens if self.adapter is None else self.adapter(tokens)[0]
        x = self.norm(x).double()
        x, y = (
            x if x.ndim == 2 else x.mean(dim=1),
            states.double(),
        )  # the mean of mapped patches is the mapped mean
        mean, middle = x.mean(dim=0), y.mean(dim=0)
        x, y = x - mean, y - middle
        spread = x.T @ x
        weight = torch.linalg.solve(
            spread
            + ridge * spread.diagonal().mean() * torch.eye(len(spread), dtype=x.dtype, device=x.device),
            x.T @ y,
        )
        self.mapper.weight.copy_(weight.T)
        self.mapper.bias.copy_(middle - mean @ weight)

    @torch.no_grad()
    def set_centre(self, mean_scores: Tensor) -> None:
        """Subtract means (vocab,) of `scores` over a corpus from every score from now on.

        Raises:
            ModelError: if the head is built without `centre`.
        """
        if self.centre is None:
            raise ModelError("the head subtracts no mean scores; set centre: true before it is built.")
        self.centre.copy_(mean_scores)

    def scores(self, tokens: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """(batch, vocab) scores before centring and activation; their means are what `set_centre` takes."""
        states, codebook = self._compared(tokens[:, None] if tokens.ndim == 2 else tokens, mask)
        return (
            word_scores(states[:, 0], codebook)
            if tokens.ndim == 2
            else best_word_scores(states, codebook, mask=mask)
        )

    @torch.no_grad()
    def clamp(self) -> None:
        """Hold the scale of cosines between 1 and 100; called after every step."""
        if self.log_scale is not None:
            self.log_scale.clamp_(0, MOST)

    def _compared(self, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """(batch, patches, inside) states and (vocab, inside) codebook; their products are the scores."""
        x = tokens
        if self.adapter is not None:
            x, _ = self.adapter(x, mask=None if mask is None else _closed(mask, x.dtype))
        if self.norm is not None and self.mapper is not None:
            x = self.mapper(self.norm(x))
        if self.log_scale is None:
            return x, self.codebook
        return unit(x) * self.log_scale.exp(), unit(self.codebook)

    def _activated(self, scores: Tensor) -> Tensor:
        """Activate in float32 or better: small weights that add up to a penalty must not round to zero."""
        scores = scores if scores.dtype == torch.float64 else scores.float()
        return lexical_activation(
            scores if self.centre is None else scores - self.centre, kind=self.config.activation
        )


def _layers(width: int, *, depth: int, head_dim: int) -> Transformer:
    return Transformer(
        width,
        heads=(width // head_dim,) * depth,
        head_dim=head_dim,
        neurons=(4 * width,) * depth,
        activation="gelu",
    )


def _closed(mask: Tensor, kind: torch.dtype) -> Tensor:
    """(batch, 1, 1, patches) to add to attention scores: the least number at masked keys, never NaN."""
    return torch.zeros(mask.shape, dtype=kind, device=mask.device).masked_fill(~mask, torch.finfo(kind).min)[
        :, None, None
    ]


def truncated(vectors: Tensor, *, threshold: float = 0.0, top_k: int | None = None) -> Tensor:
    """Keep of each row what an inverted index stores.

    Args:
        vectors: (batch, vocab), none negative.
        threshold: activations up to it become zero.
        top_k: words kept of a row at most, the largest, of equal ones the first.

    Returns:
        (batch, vocab).
    """
    above = vectors.masked_fill(vectors <= threshold, 0)
    return above if top_k is None else keep_top_k(above, top_k)
