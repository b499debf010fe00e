"""Causal language models as backbones of text towers: frozen behind prompts, or tuned behind one prompt.

Source: FLAME, arXiv 2411.11927 (frozen, the state at the end of each facet); LexVLA, arXiv 2407.17827 (tuned
by LoRA, the state that predicts the next word). A tuned model uses the prompt, cleaning,
layer and position of the frozen one, so that both give the same vector until the first step. One facet is one
row of token ids, padded on the right, as for any text encoder.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from frugalclip.backbones.base import BackboneKind, Side
from frugalclip.backbones.configurations import transformers_config, valid_config
from frugalclip.backbones.packages import packaged_kind, path_of
from frugalclip.core.devices import without_weights
from frugalclip.core.errors import ModelError, RecipeError, require
from frugalclip.core.types import Strings, Tokens
from frugalclip.data.tokens import Tokenizer
from frugalclip.interop.source import ModelSource
from frugalclip.interop.tokenizers import PassThroughTokenizer, PublishedSettings, PublishedTokenizer
from frugalclip.language_model import FrozenLanguageModel, LanguageModelSettings, find_prompt
from frugalclip.language_model.frozen import PromptTokens, layer_indices
from frugalclip.language_model.source import is_causal, model_folder, read_backend, without_later_blocks
from frugalclip.towers.pretrained import Backbone, BackboneOutput

# a tuned model has one facet, float32 weights, and the recipe's precision and batch
FROZEN_ONLY = ("position_ids", "precision", "batch_tokens")
_NO_TOKENS = "a language model behind a prompt gives no tokens; use another text tower for this objective."


class LanguageModelOptions(LanguageModelSettings):
    """`options` of a language model."""

    states: Literal["facets", "next_word"] = Field(
        "facets", description="facets: the end of each facet; next_word: what predicts a key word"
    )

    @property
    def prompt_name(self) -> str:
        """Name or file of the prompt."""
        is_default = "prompt" not in self.model_fields_set
        return "lexical" if self.states == "next_word" and is_default else self.prompt

    @property
    def hidden_states(self) -> tuple[int, ...]:
        """Hidden states that a tuned model averages; -1 is the one that predicts the next word."""
        layers = -1 if self.states == "next_word" else self.layer
        return (layers,) if isinstance(layers, int) else layers


class LanguageModelBackbone(Backbone):
    """A frozen causal language model behind prompts; see `frugalclip.language_model`."""

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
        """Encode texts: (batch, facets, width), or (batch, width) where there is one facet."""
        if with_tokens:
            raise ModelError(_NO_TOKENS)
        if self.states == "next_word":
            return BackboneOutput(self.model.next_word_states(inputs.texts, self.prompt))
        output = self.model.encode_texts(inputs.texts)
        return BackboneOutput(output[:, 0] if output.shape[1] == 1 else output)


class TunedLanguageModelBackbone(Backbone):
    """A causal language model whose weights are trained; the vector is the state of the prompt's last token.

    Args:
        module: the blocks without the output head; those behind the last of `layers` are removed, in place.
        layers: hidden states to average, 0 the embeddings, as `FrozenLanguageModel` counts them.
        fingerprint: of its weights and settings before training.
    """

    def __init__(self, module: nn.Module, *, layers: Sequence[int], fingerprint: str) -> None:
        super().__init__()
        if max(layers) == 0:
            raise RecipeError(
                "model.text.options.layer is 0, the embeddings before any block, where nothing is tuned; set "
                "-1, or above 0."
            )
        self.module, self.layers, self.fingerprint = (
            without_later_blocks(module, max(layers)),
            tuple(layers),
            fingerprint,
        )
        self.width = int(module.config.hidden_size)  # pyright: ignore

    def forward(self, inputs: Tokens, *, with_tokens: bool = False) -> BackboneOutput:
        """Encode token ids (batch, length), prompt included; causal attention never sees the padding."""
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


class CausalLanguageModel(BackboneKind[LanguageModelOptions]):
    """A causal language model behind a prompt: frozen, or tuned with one prompt of one facet."""

    form: ClassVar[str] = "hf:DIR or FILE.gguf with a causal language model"
    sides: ClassVar[tuple[Side, ...]] = ("text",)
    Options = LanguageModelOptions

    @classmethod
    def matches(cls, source: ModelSource) -> bool:
        if source.scheme == "package":
            return packaged_kind(source) == "language_model"
        if source.folder.suffix == ".gguf":
            return source.scheme in ("hf", "")
        return source.scheme == "hf" and source.config is not None and is_causal(source.config)

    @classmethod
    def may_match(cls, source: ModelSource) -> bool:
        return source.scheme == "hf" and source.config is None

    def options(self) -> LanguageModelOptions:
        """The options, checked as far as they can be without weights.

        Raises:
            RecipeError: for an unknown setting, or one that does not go with a tuned model.
            ModelError: for a prompt that is not there, or a setting without effect.
        """
        return _checked(super().options(), is_tuned=self.use.is_tuned, where=self.use.options_name)

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer with the prompt around every text; a frozen model takes texts as they are."""
        return self._prompted_tokenizer() if self.use.is_tuned else PassThroughTokenizer()

    def load(self) -> Backbone:
        options, path = self.options(), path_of(self.source)
        plain = LanguageModelSettings.model_validate(options.model_dump(exclude={"states"}))
        if self.use.is_tuned:
            changes = {
                "prompt": options.prompt_name,
                "layer": options.hidden_states,
                "precision": "fp32",
            }
            model = FrozenLanguageModel.read(path, plain.model_copy(update=changes))
            return TunedLanguageModelBackbone(
                model.model.network, layers=model.layers, fingerprint=model.fingerprint
            )
        model = FrozenLanguageModel.read(path, plain, device=self.use.device)
        return LanguageModelBackbone(model, states=options.states, prompt=options.prompt_name)

    def on_meta(self) -> TunedLanguageModelBackbone:
        """The blocks that the layer needs, where the model is tuned; all blocks of a frozen one."""
        purpose = f"counting the parameters of {self.source}"
        transformers = require("transformers", extra="hf", purpose=purpose)
        with valid_config(self.source, "text"), without_weights():
            config = transformers_config(transformers, self.source)
            module = transformers.AutoModel.from_config(config)
        wanted = self.options().hidden_states if self.use.is_tuned else -1
        layers = layer_indices(wanted, count=config.num_hidden_layers)
        return TunedLanguageModelBackbone(module, layers=layers, fingerprint="")

    def _prompted_tokenizer(self) -> PublishedTokenizer:
        options = self.options()
        backend = read_backend(model_folder(path_of(self.source)))
        prompt = PromptTokens.of(find_prompt(options.prompt_name), backend)
        # any id pads, since nothing attends to it, and no objective masks words of a pretrained tower
        rules = PublishedSettings(
            context=prompt.longest + options.caption_tokens,
            prefix=tuple(prompt.opening),
            suffix=(*prompt.closing, *prompt.facets[0]),
            pad=0,
            mask=0,
            cleaning="prompt",
        )
        return PublishedTokenizer(backend, rules)


def _checked(options: LanguageModelOptions, *, is_tuned: bool, where: str) -> LanguageModelOptions:
    """The options, unless they contradict each other or a tuned model."""
    if options.states == "next_word" and "layer" in options.model_fields_set:
        raise ModelError(
            f"{where}.layer has no effect on states=next_word, which come after the last layer; leave it out."
        )
    facets = len(find_prompt(options.prompt_name).facets)
    if options.states == "next_word" and facets != 1:
        raise ModelError(
            f"prompt '{options.prompt_name}' has {facets} facets, and states=next_word needs one; "
            f"set {where}.prompt=lexical."
        )
    if is_tuned and facets != 1:
        raise RecipeError(
            f"prompt '{options.prompt_name}' has {facets} facets, and a language model that is tuned gives "
            f"one vector a text; set {where}.prompt=single, or leave model.text.tune and model.text.lora "
            "out, which keeps it frozen."
        )
    if is_tuned and (idle := [name for name in FROZEN_ONLY if name in options.model_fields_set]):
        raise RecipeError(
            f"{where}.{idle[0]} has no effect on a language model that is tuned, only on a frozen one; "
            "leave it out."
        )
    return options


def facets_of(options: Mapping[str, Any]) -> int:
    """Vectors a text from a frozen backbone with these options: the facets of a prompt, otherwise one."""
    has_facets = "prompt" in options and options.get("states") != "next_word"
    return len(find_prompt(options["prompt"]).facets) if has_facets else 1
