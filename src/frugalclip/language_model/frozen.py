"""A frozen causal language model as text encoder: one vector for each facet of a prompt about a caption.

Source: FLAME, arXiv 2411.11927 (facets, packed attention, last but one block); LexVLA, arXiv 2407.17827 (the
state that predicts the next word). The opening words are the same in every text, so their keys and values are
computed once for all texts, and a caption's are shared by its facets; both are exact. Only hidden states are
computed, never the scores of the vocabulary. What a text gets does not depend on the texts beside it.
"""

import copy
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tokenizers
import torch
from pydantic import Field, field_validator
from torch import Tensor

from frugalclip.core.config import Settings
from frugalclip.core.errors import ModelError
from frugalclip.core.finite import VectorOrigin, refuse_vectors
from frugalclip.data.tokenizer_fit import check_tokenizer
from frugalclip.data.tokens import encoded
from frugalclip.language_model.lexicon import Lexicon
from frugalclip.language_model.packing import FacetRows, PositionIds, batches, pack
from frugalclip.language_model.prompts import CLEANING_VERSION, Prompt, clean_caption, find_prompt
from frugalclip.language_model.source import (
    model_folder,
    output_head,
    read_backend,
    read_network,
    weights_hash,
)

FORMAT = 1
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class LanguageModelSettings(Settings):
    """The prompt, and the hidden states that give its vectors."""

    prompt: str = Field(
        "single", description="single, short, long, lexical, or a YAML file; docs/formats.md has its form"
    )
    layer: int | tuple[int, ...] = Field(
        -2,
        description="hidden states as transformers counts them: 0 embeddings, -1 after the final norm, "
        "-2 last but one block; several are averaged",
    )
    position_ids: PositionIds = Field(
        "reset",
        description="reset: every facet starts behind the prefix; sequential: positions run on, as published",
    )
    caption_tokens: int = Field(
        1024, ge=1, description="longer captions are cut and counted; the prompt never is. paper: 1024"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of weights and states; auto: bf16 where the processor computes it"
    )
    batch_tokens: int = Field(
        512, ge=1, description="padded tokens of a pass; 512 suits a CPU, a GPU takes 16 times as many"
    )

    @field_validator("layer")
    @classmethod
    def _has_layers(cls, layer: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if layer == ():
            raise ValueError("expected a layer, such as -2")
        return layer


@dataclass(frozen=True)
class CausalModel:
    """Network and tokenizer from disk, shared by all settings of one model."""

    network: Any  # a transformers model without its output head
    backend: tokenizers.Tokenizer
    folder: Path
    precision: Literal["fp32", "bf16"]
    device: torch.device

    @functools.cached_property
    def weights(self) -> str:
        """Hash of the weights; reads the whole file once."""
        return weights_hash(self.folder)

    @functools.cached_property
    def tokenizer(self) -> str:
        """Hash of the tokenizer."""
        return hashlib.blake2b(self.backend.to_str().encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as ids; each part is tokenised alone, so that no token crosses its border."""

    opening: list[int]
    closing: list[int]
    facets: list[list[int]]

    @staticmethod
    def of(prompt: Prompt, backend: tokenizers.Tokenizer) -> "PromptTokens":
        """The prompt's ids behind the tokenizer's opening tokens; a prompt may name special tokens itself."""
        backend.encode_special_tokens = False
        bare, full = _ids(backend, "a"), backend.encode("a", add_special_tokens=True).ids
        start = full[: full.index(bare[0])]
        facets = [_ids(backend, facet) for facet in prompt.facets]
        return PromptTokens(start + _ids(backend, prompt.opening), _ids(backend, prompt.closing), facets)

    @property
    def longest(self) -> int:
        """Tokens without a caption, all facets counted."""
        return len(self.opening) + len(self.closing) + sum(map(len, self.facets))


class FrozenLanguageModel:
    """A language model that encodes captions and is never trained. Build one with `read`.

    Args:
        model: network and tokenizer.
        settings: prompt and hidden states.
    """

    def __init__(self, model: CausalModel, settings: LanguageModelSettings) -> None:
        self.model, self.settings = model, settings
        self.prompt = find_prompt(settings.prompt)
        self.layers = layer_indices(settings.layer, count=model.network.config.num_hidden_layers)
        self._openings: dict[
            tuple[int, ...], Any
        ] = {}  # keys and values of opening words, computed once for all texts
        self._check_room(self.prompt)

    @classmethod
    def read(
        cls,
        path: str | Path,
        settings: LanguageModelSettings | None = None,
        *,
        device: str | torch.device = "cpu",
    ) -> "FrozenLanguageModel":
        """Read a model.

        Args:
            path: a Hugging Face folder (config, safetensors, tokenizer.json), a GGUF file, or a folder with
                one GGUF file.
            settings: prompt and hidden states; by default one vector a caption.
            device: where it computes.

        Raises:
            ModelError: saying what was found and what was expected.
            MissingExtra: without transformers, or for a GGUF file without gguf.
        """
        settings = settings or LanguageModelSettings()
        find_prompt(settings.prompt)  # a misspelt name is refused before the weights are read
        place = torch.device(device)
        precision = _precision(settings.precision, place)
        folder = model_folder(path)
        network: Any = read_network(folder, dtype=_DTYPES[precision]).to(place)
        backend = read_backend(folder)
        rows = network.get_input_embeddings().num_embeddings
        check_tokenizer(backend, rows, file=folder / "tokenizer.json")
        return cls(CausalModel(network, backend, folder, precision, place), settings)

    def with_settings(self, **changes: Any) -> "FrozenLanguageModel":
        """The same weights with other settings, such as `prompt="long"`; precision stays what it is."""
        if "precision" in changes:
            raise ModelError("precision belongs to the weights; read the model again with other settings.")
        return FrozenLanguageModel(
            self.model, LanguageModelSettings.model_validate({**self.settings.model_dump(), **changes})
        )

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.model.network.get_input_embeddings().weight.shape[1]

    @property
    def facets(self) -> int:
        """Vectors that a text gets."""
        return len(self.prompt.facets)

    @property
    def description(self) -> dict[str, Any]:
        """Everything that a vector depends on, as JSON."""
        return {
            "format": FORMAT,
            "kind": "frozen_language_model",
            "weights": self.model.weights,
            "tokenizer": self.model.tokenizer,
            "layers": list(self.layers),
            "prompt": {"template": self.prompt.template, "facets": list(self.prompt.facets)},
            "cleaning": CLEANING_VERSION,
            "position_ids": self.settings.position_ids,
            "caption_tokens": self.settings.caption_tokens,
            "precision": self.model.precision,
            "width": self.width,
        }

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the description; equal ones give equal vectors, up to the machine's rounding."""
        return hashlib.blake2b(
            json.dumps(self.description, sort_keys=True).encode(), digest_size=8
        ).hexdigest()

    def truncated(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than `caption_tokens` and are cut."""
        return sum(len(ids) > self.settings.caption_tokens for ids in self._captions(texts))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """The state at the end of each facet, neither centred nor normalised.

        Args:
            texts: captions as they are; equal ones are computed once.

        Returns:
            (texts, facets, width) float32 on the CPU.
        """
        return self._states(texts, self.prompt, self.layers)

    def next_word_states(self, texts: Sequence[str], prompt: str | Path = "lexical") -> Tensor:
        """The state that predicts the next word: its product with `output_embedding` scores the vocabulary.

        Args:
            texts: captions as they are.
            prompt: name or file of a prompt with one facet; the default shows captions with their key words
                and asks for those of the text.

        Returns:
            (texts, width) float32 on the CPU, after the final norm.
        """
        requested = find_prompt(prompt)
        if len(requested.facets) != 1:
            raise ModelError(
                f"prompt '{prompt}' has {len(requested.facets)} facets, and a next word needs one; set "
                "prompt=lexical."
            )
        self._check_room(requested)
        return self._states(texts, requested, (self.model.network.config.num_hidden_layers,))[:, 0]

    def output_embedding(self) -> Tensor:
        """(vocab, width) float32 on the CPU that scores the next word; the input embedding where tied."""
        head = output_head(self.model.folder)
        own = self.model.network.get_input_embeddings().weight
        return own.detach().float().cpu() if head is None else head

    def lexicon(self) -> Lexicon:
        """The words among the vocabulary's entries."""
        return Lexicon.of(
            self.model.backend, vocabulary=self.model.network.get_input_embeddings().weight.shape[0]
        )

    def _captions(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of the cleaned captions; special tokens in a caption are split like letters."""
        if isinstance(texts, str):
            raise ModelError("a list of texts is expected, found one string; write [text].")
        self.model.backend.encode_special_tokens = True
        # half a surrogate pair, as broken JSON leaves it, would stop the run
        cleaned = [clean_caption(text).encode("utf-8", "replace").decode() for text in texts]
        return [one.ids for one in encoded(self.model.backend, cleaned, name=self.model.folder)]

    @torch.inference_mode()
    def _states(self, texts: Sequence[str], prompt: Prompt, layers: tuple[int, ...]) -> Tensor:
        """(texts, facets, width) float32 on the CPU; a state that is not finite is a ModelError."""
        tokens = PromptTokens.of(prompt, self.model.backend)
        captions = [tuple(ids[: self.settings.caption_tokens]) for ids in self._captions(texts)]
        unique = sorted(
            set(captions), key=lambda ids: (len(ids), ids)
        )  # neighbours of like length, in an order that the texts alone decide
        states = torch.empty(len(unique), len(prompt.facets), self.width)
        cache = self._opening(tokens.opening) if tokens.opening else None
        lengths = [len(ids) + tokens.longest for ids in unique]
        for part in batches(lengths, tokens=self.settings.batch_tokens):
            rows = pack(tokens.opening, [[*ids, *tokens.closing] for ids in unique[part]], tokens.facets)
            states[part] = self._pass(rows, layers, cache).float().cpu()
        place = {ids: i for i, ids in enumerate(unique)}
        found = states[[place[ids] for ids in captions]]
        refuse_vectors(found, texts, origin=VectorOrigin(str(self.model.folder), "text"))
        return found

    def _opening(self, ids: Sequence[int]) -> Any:
        """Keys and values of the opening words, a transformers cache of one row that is never appended to."""
        key = tuple(ids)
        if key not in self._openings:
            self._openings[key] = self.model.network(
                input_ids=torch.tensor([key], device=self.model.device), use_cache=True
            ).past_key_values
        return self._openings[key]

    def _pass(self, packed: FacetRows, layers: tuple[int, ...], cache: Any = None) -> Tensor:
        """One pass over packed rows, their opening words taken from a cache where one is given.

        Returns:
            (rows, facets, width) states at the ends of the facets, the mean of the layers.
        """
        rows, known = packed.to(self.model.device), 0
        if cache is not None:
            known = packed.opening
            cache = copy.deepcopy(cache)  # a pass appends to it
            cache.batch_repeat_interleave(len(packed.ids))
        given: dict[str, Any] = {
            "input_ids": rows.ids[:, known:],
            "position_ids": rows.positions(self.settings.position_ids)[:, known:],
        }
        given["attention_mask"] = rows.visible()[
            :, None, known:
        ]  # (rows, 1, length - known, length), the heads alike
        output = self.model.network(
            **given, past_key_values=cache, use_cache=cache is not None, output_hidden_states=True
        )
        ends = [end - known for end in packed.ends]
        states = [output.hidden_states[layer][:, ends].float() for layer in layers]
        return torch.stack(states).mean(0)

    def _check_room(self, prompt: Prompt) -> None:
        """Refuse settings under which prompt and caption need more positions than the model has."""
        config: Any = self.model.network.config
        known = [getattr(config, name, None) for name in ("max_position_embeddings", "sliding_window")]
        room = min((int(limit) for limit in known if limit), default=None)
        needed = PromptTokens.of(prompt, self.model.backend).longest + self.settings.caption_tokens
        if room is not None and needed > room:
            left = self.settings.caption_tokens - (needed - room)
            tip = f"set caption_tokens={left} or less" if left > 0 else "take a shorter prompt"
            raise ModelError(
                f"the prompt and {self.settings.caption_tokens} caption tokens need {needed} positions, the "
                f"model has {room}; {tip}."
            )


def _ids(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    return encoded(backend, [text])[0].ids if text else []


def layer_indices(requested: int | tuple[int, ...], *, count: int) -> tuple[int, ...]:
    """Indices into the hidden states, counted from 0, of a network with `count` blocks.

    Raises:
        ModelError: for a layer that the network does not have.
    """
    listed = (requested,) if isinstance(requested, int) else requested
    for layer in listed:
        if not -count - 1 <= layer <= count:
            raise ModelError(
                f"layer is {layer}, expected {-count - 1} to {count}: the model has {count} blocks and "
                f"hidden states 0 to {count}."
            )
    return tuple(layer % (count + 1) for layer in listed)


def _precision(requested: str, device: torch.device) -> Literal["fp32", "bf16"]:
    """`auto` is bfloat16 where the processor multiplies it in hardware."""
    if requested != "auto":
        return "bf16" if requested == "bf16" else "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capable = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    )
    return "bf16" if capable else "fp32"
