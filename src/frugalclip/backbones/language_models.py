"""Causal language models as backbones of text towers: frozen ones that answer prompts, and one that is tuned behind one prompt.

Source: FLAME, arXiv 2411.11927 (frozen, the state at the end of each facet); LexVLA, arXiv 2407.17827 (tuned by LoRA, the state that predicts the
next word). A tuned model reads what the frozen one reads: the same prompt, cleaning, layer and place, so that both give the same vector until
the first step. One facet is one row of tokens, so that a text and its prompt are what any encoder reads: ids, padded on the right.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from frugalclip.core.config import validated
from frugalclip.core.errors import ModelError, RecipeError
from frugalclip.core.types import Strings, Tokens
from frugalclip.interop.tokenizers import PublishedSettings, PublishedTokenizer
from frugalclip.language_model import FrozenLanguageModel, LanguageModelSettings, find_prompt
from frugalclip.language_model.frozen import PromptTokens
from frugalclip.language_model.source import model_folder, read_tokenizer, without_later_blocks
from frugalclip.towers.pretrained import Backbone, BackboneOutput

FROZEN_ONLY = (
    "position_ids",
    "precision",
    "batch_tokens",
)  # a tuned one has one facet, float32 weights and the recipe's precision and batch
_NO_TOKENS = "a language model that answers prompts gives no tokens; use another text tower for an objective that reads them."


class LanguageModelOptions(LanguageModelSettings):
    """`options` of a language model."""

    states: Literal["facets", "next_word"] = Field(
        "facets", description="facets: the end of each facet; next_word: what predicts a key word"
    )

    @property
    def requested(self) -> str:
        """Name or file of the prompt."""
        return (
            "lexical" if self.states == "next_word" and "prompt" not in self.model_fields_set else self.prompt
        )

    @property
    def read(self) -> tuple[int, ...]:
        """Hidden states that a tuned model averages; -1 is the one that the next word is predicted from."""
        layers = -1 if self.states == "next_word" else self.layer
        return (layers,) if isinstance(layers, int) else layers


def language_model_options(
    options: Mapping[str, Any], *, tuned: bool, where: str = "model.text.options"
) -> LanguageModelOptions:
    """Settings of a language model, checked as far as they can be without its weights.

    Args:
        options: as the recipe has them.
        tuned: whether the model is trained, which leaves room for one facet.
        where: dotted name of the options, for messages.

    Raises:
        RecipeError: for an unknown setting, or one that does not go with a tuned model.
        ModelError: for a prompt that is not there, or settings of which one has no effect.
    """
    requested = validated(LanguageModelOptions, dict(options), where=where)
    if requested.states == "next_word" and "layer" in requested.model_fields_set:
        raise ModelError(
            f"{where}.layer has no effect on states=next_word, which are read after the last layer; leave it out."
        )
    facets = len(find_prompt(requested.requested).facets)
    if requested.states == "next_word" and facets != 1:
        raise ModelError(
            f"prompt '{requested.requested}' has {facets} facets, and states=next_word reads one; set {where}.prompt=lexical."
        )
    if tuned and facets != 1:
        raise RecipeError(
            f"prompt '{requested.requested}' has {facets} facets, and a language model that is tuned gives one vector a text; set {where}.prompt=single, or "
            "leave model.text.tune and model.text.lora out, which keeps it frozen."
        )
    if tuned and (idle := [name for name in FROZEN_ONLY if name in requested.model_fields_set]):
        raise RecipeError(
            f"{where}.{idle[0]} has no effect on a language model that is tuned, only on a frozen one; leave it out."
        )
    return requested


class LanguageModelBackbone(Backbone):
    """A frozen causal language model that answers prompts; see `frugalclip.language_model`."""

    def __init__(
        self,
        model: FrozenLanguageModel,
        *,
        states: Literal["facets", "next_word"] = "facets",
        prompt: str | Path = "lexical",
    ) -> None:
        super().__init__()
        self.model, self.states, self.prompt = model, states, prompt
        self.width = model.width
        self.fingerprint = model.fingerprint if states == "facets" else f"{model.fingerprint}-{states}"

    def forward(self, inputs: Strings, *, with_tokens: bool = False) -> BackboneOutput:
        """Read texts: (batch, facets, width), or (batch, width) where there is one facet."""
        if with_tokens:
            raise ModelError(_NO_TOKENS)
        if self.states == "next_word":
            return BackboneOutput(self.model.next_word_states(inputs.texts, self.prompt))
        output = self.model.encode_texts(inputs.texts)
        return BackboneOutput(output[:, 0] if output.shape[1] == 1 else output)


class TunedLanguageModelBackbone(Backbone):
    """A causal language model whose weights are part of the model: the state of the last token, which is the end of the prompt.

    Args:
        module: the blocks without the output head; those behind the last layer that is read are taken out, in place.
        layers: hidden states to average, 0 the embeddings, as `FrozenLanguageModel` counts them.
        fingerprint: of its weights and settings before training.
    """

    def __init__(self, module: nn.Module, *, layers: Sequence[int], fingerprint: str) -> None:
        super().__init__()
        if max(layers) == 0:
            raise RecipeError(
                "model.text.options.layer is 0, the embeddings before any block, where nothing is tuned; set -1, or above 0."
            )
        self.module, self.layers, self.fingerprint = (
            without_later_blocks(module, max(layers)),
            tuple(layers),
            fingerprint,
        )
        self.width = int(module.config.hidden_size)  # pyright: ignore

    def forward(self, inputs: Tokens, *, with_tokens: bool = False) -> BackboneOutput:
        """Read token ids (batch, length) with their prompt around them; padding stands behind what is read, where causal attention never looks."""
        if with_tokens:
            raise ModelError(_NO_TOKENS)
        lengths = inputs.lengths.to(inputs.ids.device)
        is_real = (
            torch.arange(inputs.ids.shape[1], device=lengths.device) < lengths[:, None]
        )  # (batch, length)
        states = self.module(
            input_ids=inputs.ids, attention_mask=is_real.long(), use_cache=False, output_hidden_states=True
        ).hidden_states
        rows = torch.arange(len(lengths), device=lengths.device)
        ends: list[Tensor] = [
            states[layer][rows, lengths - 1] for layer in self.layers
        ]  # each (batch, width)
        return BackboneOutput(torch.stack(ends).mean(dim=0))


def read_language_model(
    path: Path, requested: LanguageModelOptions, *, tuned: bool = False, device: str | torch.device = "cpu"
) -> Backbone:
    """A language model as backbone.

    Args:
        path: a Hugging Face folder or a GGUF file, which is converted once.
        asked: from `language_model_options`.
        tuned: whether its weights, or additions to them, are trained.
        device: where a frozen one computes; one that is tuned goes where the rest of the network goes.

    Raises:
        ModelError: when there is no such model, or its positions do not suffice for prompt and caption.
    """
    plain = LanguageModelSettings.model_validate(requested.model_dump(exclude={"states"}))
    if not tuned:
        model = FrozenLanguageModel.read(path, plain, device=device)
        return (
            LanguageModelBackbone(model)
            if requested.states == "facets"
            else LanguageModelBackbone(model, states="next_word", prompt=requested.requested)
        )
    model = FrozenLanguageModel.read(
        path,
        plain.model_copy(
            update={"prompt": requested.requested, "layer": requested.read, "precision": "fp32"}
        ),
    )
    return TunedLanguageModelBackbone(model.parts.network, layers=model.layers, fingerprint=model.fingerprint)


def prompted_tokenizer(path: Path, requested: LanguageModelOptions) -> PublishedTokenizer:
    """A language model's own tokenizer with the prompt around every text, without its weights.

    Args:
        path: a Hugging Face folder or a GGUF file, which is converted once.
        asked: from `language_model_options`, for a model that is tuned.
    """
    backend = read_tokenizer(model_folder(path))
    prompt = PromptTokens.of(find_prompt(requested.requested), backend)
    suffix = (*prompt.closing, *prompt.facets[0])
    # any id pads, since nothing sees it, and no objective masks words of a pretrained tower
    rules = PublishedSettings(
        context=prompt.longest + requested.caption_tokens,
        prefix=tuple(prompt.opening),
        suffix=suffix,
        pad=0,
        mask=0,
        cleaning="prompt",
    )
    return PublishedTokenizer(backend, rules)
