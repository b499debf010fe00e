"""Where a language model comes from: a Hugging Face folder, or a GGUF file that is converted to one, once.

GGUF files are slow to open (half a minute for 135 million parameters) and cannot be saved again by
transformers, so the converted folder is kept in the cache under the file's SHA-256: a file that changes is
another model, a file that moves is the same one.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from frugalclip.core.errors import ModelError, require
from frugalclip.core.guard import reading
from frugalclip.core.paths import user_path
from frugalclip.core.records import write_json
from frugalclip.core.stored import read_object
from frugalclip.data.parquet_images import cache_folder

CAUSAL = ("ForCausalLM", "LMHeadModel")  # how architectures with an output head for the next word are called
_HEADS = ("lm_head.weight", "embed_out.weight")
_VOLATILE = {
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
    "architectures",
}  # none of them changes a hidden state
_LEFTOVER_SECONDS = 24 * 3600
_PURPOSE = "a frozen language model"


def is_causal(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a causal language model."""
    return any(str(name).endswith(CAUSAL) for name in config.get("architectures") or [])


def model_folder(path: str | Path) -> Path:
    """The folder of a model: `config.json`, safetensors, `tokenizer.json`. Converts a GGUF file on first use.

    Args:
        path: such a folder, a GGUF file, or a folder with exactly one GGUF file.

    Raises:
        ModelError: saying what was found and what was expected.
    """
    path = user_path(path)
    if path.is_file() and path.suffix == ".gguf":
        return converted(path)
    if not path.is_dir():
        raise ModelError(
            f"there is no language model at {path}; give a folder with config.json, safetensors and "
            "tokenizer.json, or a .gguf file."
        )
    if not (path / "config.json").is_file():
        found = sorted(path.glob("*.gguf"))
        if len(found) != 1:
            raise ModelError(
                f"{path} holds no config.json and {len(found)} GGUF files; give a Hugging Face folder, or "
                "name the GGUF file itself."
            )
        return converted(found[0])
    for pattern in ("*.safetensors", "tokenizer.json"):
        if not any(path.glob(pattern)):
            raise ModelError(
                f"{path} holds no {pattern}; save model and tokenizer with save_pretrained of a recent "
                "transformers."
            )
    return path


def converted(gguf: Path) -> Path:
    """The folder that a GGUF file is converted to, once. A conversion that dies leaves nothing behind."""
    with gguf.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    final = cache_folder() / "language_models" / sha256
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    _delete_leftovers(final.parent)
    temporary = Path(tempfile.mkdtemp(dir=final.parent, prefix=".converting-"))
    try:
        convert_gguf(gguf, temporary)
        write_json(temporary / "source.json", {"format": 1, "gguf": gguf.name, "sha256": sha256})
        _flush(temporary)
        temporary.chmod(0o755)  # mkdtemp gives 700, which would make a shared cache unreadable
        try:
            temporary.rename(final)
        except OSError:
            if not final.is_dir():  # otherwise another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write a GGUF file as `config.json`, `model.safetensors` (float32) and `tokenizer.json`."""
    require("gguf", extra="hf", purpose=f"reading {gguf.name}")
    transformers = require("transformers", extra="hf", purpose=_PURPOSE)
    source: dict[str, Any] = {
        "pretrained_model_name_or_path": str(gguf.parent),
        "gguf_file": gguf.name,
        "local_files_only": True,
    }
    with quiet(transformers):
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(**source)
            tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"{gguf} is no GGUF file that transformers reads ({_first_line(error)}); give a Hugging Face "
                "folder."
            ) from error
        tokenizer.save_pretrained(folder)
    config = {k: v for k, v in model.config.to_dict().items() if k != "quantization_config"}
    write_json(folder / "config.json", config | {"architectures": [type(model).__name__], "dtype": "float32"})
    head = (
        model.get_output_embeddings().weight if getattr(model.config, "tie_word_embeddings", True) else None
    )
    weights = {
        name: value.float().contiguous()
        for name, value in model.state_dict().items()
        if head is None or name not in _HEADS
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def read_network(folder: Path, *, dtype: torch.dtype) -> nn.Module:
    """The blocks of a causal language model without its output head, frozen.

    Args:
        folder: as `model_folder` gives it.
        dtype: of the weights.

    Raises:
        MissingExtra: without transformers.
        ModelError: when the folder holds another kind of model, or does not load.
    """
    transformers = require("transformers", extra="hf", purpose=_PURPOSE)
    with reading(folder / "config.json", error=ModelError):
        kind = str((read_object(folder / "config.json").get("architectures") or ["none"])[0])
    if not kind.endswith(CAUSAL):
        raise ModelError(
            f"{folder} holds the architecture {kind}, expected a causal language model such as "
            "LlamaForCausalLM."
        )
    advice = "restore its files, or delete it if it is in the cache"
    with quiet(transformers), reading(folder, advice=advice, error=ModelError):
        # our own masks are booleans, which only this implementation of attention reads as such
        network = transformers.AutoModel.from_pretrained(
            folder, attn_implementation="sdpa", local_files_only=True, use_safetensors=True
        )
    return network.to(dtype).requires_grad_(False).eval()


def without_later_blocks(network: nn.Module, layer: int) -> nn.Module:
    """The network up to a hidden state, in place: later blocks would cost time and get no gradient.

    Args:
        network: as `read_network` gives it.
        layer: hidden state as transformers counts them, 0 the embeddings; that of the last block is left as
            it is, behind the final norm.
    """
    config: Any = network.config
    if layer == config.num_hidden_layers:
        return network
    parent, name = next(
        (part, name)
        for part in network.modules()
        for name, child in part.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == config.num_hidden_layers
    )
    del parent.get_submodule(name)[layer:]  # pyright: ignore[reportIndexIssue]
    norms = [name for name, child in parent.named_children() if "norm" in type(child).__name__.lower()]
    if norms:  # the last: some models have another one behind their embeddings
        setattr(parent, norms[-1], nn.Identity())
    config.num_hidden_layers = layer
    return network


def read_backend(folder: Path) -> tokenizers.Tokenizer:
    """The model's own tokenizer, without truncation and padding."""
    path = folder / "tokenizer.json"
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the backend raises bare Exception
        raise ModelError(f"{path} is not a tokenizers JSON file ({error}); restore it.") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def output_head(folder: Path) -> Tensor | None:
    """(vocab, width) float32 weights of the output head, or None where it is the input embedding."""
    if read_object(folder / "config.json").get("tie_word_embeddings", False):
        return None
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for name in _HEADS:
                if name in weights.keys():  # noqa: SIM118  (the file is no mapping)
                    return weights.get_tensor(name).float()
    return None


def weights_hash(folder: Path) -> str:
    """16 hex digits over the name, type, shape and values of every tensor, and the configuration."""
    config = {
        k: v
        for k, v in read_object(folder / "config.json").items()
        if k not in _VOLATILE and not k.startswith("_")
    }
    state = hashlib.blake2b(json.dumps(config, sort_keys=True).encode(), digest_size=8)
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            found |= dict.fromkeys(weights.keys(), file)
    for name in sorted(found):  # across files, so that sharding makes no difference
        with safe_open(found[name], framework="pt") as weights:
            tensor = weights.get_tensor(name).contiguous()
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return state.hexdigest()


@contextlib.contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' progress bars and advice, which concern training and generation."""
    log = transformers.utils.logging
    verbosity, had_bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if had_bars:
            log.enable_progress_bar()


def _delete_leftovers(parent: Path) -> None:
    """Remove what killed conversions left behind; a running one is younger than a day."""
    for folder in parent.glob(".converting-*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _LEFTOVER_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Bring the files to the disk before their folder gets the name under which they are found."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
