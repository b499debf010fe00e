"""Text encoders of Hugging Face, such as BERT and sentence encoders: `hf:DIR`, `package:minilm`."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor

from frugalclip.backbones.base import BackboneKind, Side
from frugalclip.backbones.configurations import transformers_config, valid_config
from frugalclip.backbones.packages import packaged_kind, path_of
from frugalclip.core.config import Settings
from frugalclip.core.devices import without_weights
from frugalclip.core.errors import ModelError, require
from frugalclip.core.records import read_json
from frugalclip.core.stored import read_object
from frugalclip.core.types import Tokens
from frugalclip.data.tokenizer_fit import check_tokenizer, how_to_get
from frugalclip.data.tokens import END, MASK, PAD, START, Tokenizer, file_tokenizer
from frugalclip.interop.preprocessing import IMAGE_ENCODERS
from frugalclip.interop.source import ModelSource
from frugalclip.language_model.source import is_causal, quiet
from frugalclip.towers.pretrained import Backbone, BackboneOutput

Pool = Literal["mean", "first", "end"]
CONTEXT = 256  # tokens of a text, as sentence encoders are trained


class TextEncoderOptions(Settings):
    """`options` of a text encoder."""

    pool: Pool = Field(
        "mean", description="what gives the vector: mean over tokens, first token, or end token"
    )
    context: int | None = Field(
        None,
        ge=3,
        description="longest text in tokens; null: 256, or the encoder's positions where they are fewer",
    )


class TextEncoderBackbone(Backbone):
    """An encoder of Hugging Face's library.

    Args:
        module: the encoder.
        pool: the mean over all tokens, special ones included, as sentence encoders do; the first token; or
            the last.
        fingerprint: of its weights and settings.
    """

    def __init__(self, module: Any, *, pool: Pool, fingerprint: str) -> None:
        super().__init__()
        if getattr(module, "pooler", None) is not None:
            # unused, and a trained parameter without gradient would stop several processes
            module.pooler = None
        self.module, self.pool, self.fingerprint = module, pool, fingerprint
        self.width = int(module.config.hidden_size)  # pyright: ignore

    def forward(self, inputs: Tokens, *, with_tokens: bool = False) -> BackboneOutput:
        """Encode token ids (batch, length)."""
        places = torch.arange(inputs.ids.shape[1], device=inputs.ids.device)
        is_real = places < inputs.lengths[:, None].to(inputs.ids.device)  # (batch, length)
        states: Tensor = self.module(
            input_ids=inputs.ids, attention_mask=is_real.long()
        ).last_hidden_state  # (batch, length, width)
        if self.pool == "mean":
            pooled = (states * is_real[:, :, None]).sum(dim=1) / is_real.sum(dim=1, keepdim=True)
        else:
            last = torch.zeros_like(inputs.lengths) if self.pool == "first" else inputs.lengths - 1
            pooled = states[torch.arange(len(states), device=states.device), last.to(states.device)]
        return BackboneOutput(pooled, states * is_real[:, :, None] if with_tokens else None)


class TextEncoder(BackboneKind[TextEncoderOptions]):
    """An encoder in a folder with config.json, weights and tokenizer.json."""

    form: ClassVar[str] = "hf:DIR with a text encoder"
    sides: ClassVar[tuple[Side, ...]] = ("text",)
    Options = TextEncoderOptions

    @classmethod
    def matches(cls, source: ModelSource) -> bool:
        if source.scheme == "package":
            return packaged_kind(source) == "text_encoder"
        if source.scheme != "hf" or source.config is None or "vision_config" in source.config:
            return False
        return str(source.config.get("model_type")) not in IMAGE_ENCODERS and not is_causal(source.config)

    @classmethod
    def may_match(cls, source: ModelSource) -> bool:
        return source.scheme == "hf" and source.config is None

    def tokenizer(self) -> Tokenizer:
        context, folder = self.options().context, path_of(self.source)
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise ModelError(f"{file} is not there, and texts cannot be read without it. {how_to_get(file)}")
        tokenizer = file_tokenizer(file, context=context or _context(folder))
        _check_tokenizer(tokenizer, folder)
        return tokenizer

    def load(self) -> TextEncoderBackbone:
        options, folder = self.options(), path_of(self.source)
        module = _module(folder)
        places = getattr(module.config, "max_position_embeddings", None)
        context = options.context or _context(folder)
        if places is not None and context > places:
            raise ModelError(
                f"{folder} has {places} positions, and options.context is {context}; "
                f"set model.text.options.context={places}."
            )
        digest = hashlib.blake2b(f"encoder pool={options.pool} context={context}".encode(), digest_size=8)
        for name, tensor in sorted(module.state_dict().items()):
            content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            digest.update(name.encode() + content)
        return TextEncoderBackbone(module, pool=options.pool, fingerprint=digest.hexdigest())

    def on_meta(self) -> TextEncoderBackbone:
        purpose = f"counting the parameters of {self.source}"
        transformers = require("transformers", extra="hf", purpose=purpose)
        with valid_config(self.source, "text"), without_weights():
            module = transformers.AutoModel.from_config(transformers_config(transformers, self.source))
        return TextEncoderBackbone(module, pool=self.options().pool, fingerprint="")


def _module(folder: Path) -> Any:
    """The encoder of transformers, in evaluation mode."""
    transformers = require("transformers", extra="hf", purpose=f"reading {folder}")
    try:
        with quiet(transformers):
            module = transformers.AutoModel.from_pretrained(
                str(folder), local_files_only=True, dtype=torch.float32
            ).eval()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{folder} cannot be read as a text encoder ({str(error).splitlines()[0]}); give the folder of "
            "one."
        ) from error
    if getattr(module.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{folder} holds a {module.config.model_type}, expected an encoder alone; give another model."
        )
    return module


def _check_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Refuse a tokenizer of another encoder, and special tokens that the encoder does not have."""
    config, file = folder / "config.json", folder / "tokenizer.json"
    rows = read_json(config).get("vocab_size") if config.is_file() else None
    if not isinstance(rows, int):
        return
    check_tokenizer(tokenizer.backend, rows, file=file, appended=(START, END, PAD, MASK))
    used = {"start": tokenizer.start, "end": tokenizer.end, "padding": tokenizer.pad}
    if beyond := [name for name, identity in used.items() if identity >= rows]:
        raise ModelError(
            f"{file} has no {beyond[0]} token, and the encoder's embedding of {rows:,} rows has no room for "
            "one; give another encoder."
        )


def _context(folder: Path) -> int:
    path = folder / "config.json"
    places = read_object(path).get("max_position_embeddings") if path.is_file() else None
    return min(CONTEXT, places or CONTEXT)
