"""Models of open_clip: `open_clip:ARCH@FILE`, an architecture by name or JSON file, and a file of weights.

Source: open_clip's `model.py`, `transformer.py`, `modified_resnet.py`, `factory.py` for what the
configurations mean; its tables of architectures and published weights are read from the installed package.

The activation that weights were trained with is not written in them: open_clip keeps it in the name
(`ViT-B-32-quickgelu`), and OpenAI's weights under the plain name give wrong scores without an error
(mlfoundations/open_clip#771). Here the activation is found from what is known about the file, stored with the
weights, and noted where it had to be assumed.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from frugalclip.core.errors import ModelError, known_names, require
from frugalclip.core.paths import user_path
from frugalclip.core.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from frugalclip.core.records import read_json, write_atomically, write_json
from frugalclip.data.tokens import Tokenizer, clip_tokenizer
from frugalclip.interop.foreign import ForeignFormat, ForeignModel, scale_settings, triple, understood
from frugalclip.interop.open_clip_settings import written_model_config, written_preprocess_config
from frugalclip.interop.open_clip_towers import (
    image_tower,
    refuse_other_kinds,
    text_maps,
    text_tower,
)
from frugalclip.interop.source import ModelSource
from frugalclip.interop.tensor_maps import Default, Scalar, TensorMap, TensorTable, UnusedTensor, pair
from frugalclip.interop.tokenizer_files import SPECIAL, written_tokenizer
from frugalclip.interop.tokenizers import Cleaning, published_tokenizer
from frugalclip.interop.weights import read_weights
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.towers.text import TextConfig

SUFFIX = "-quickgelu"
BESIDE = "open_clip_config.json"  # beside weights of the hub: the architecture and the preprocessing
WRITTEN_WEIGHTS = "open_clip_model.safetensors"
OPENAI_MARKS = {
    "input_resolution",
    "context_length",
    "vocab_size",
}  # entries that only OpenAI's own files have
_TOP = {  # what names of tensors begin with
    *("visual", "text", "transformer", "token_embedding", "positional_embedding", "ln_final"),
    *("text_projection", "logit_scale", "logit_bias", *OPENAI_MARKS),
}
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
_PURPOSE = "an architecture of open_clip by its name"


@dataclass(frozen=True)
class Architecture:
    """An architecture of open_clip."""

    name: str  # as given
    config: Mapping[str, Any]
    preprocess: Mapping[str, Any] | None = None  # where its file has it
    tags: Mapping[str, Mapping[str, Any]] | None = None  # published weights of this architecture, by tag

    @property
    def plain(self) -> str:
        """The name without the suffix for OpenAI's activation."""
        return self.name.removesuffix(SUFFIX)


def read_open_clip(source: ModelSource) -> ForeignModel:
    """A model of open_clip as ours.

    Args:
        source: `open_clip:ARCH@FILE`; ARCH is a name or a JSON file.

    Raises:
        ModelError: for a source, architecture or file that cannot be read, with what to write instead.
        MissingExtra: where a name is given and open_clip is not installed.
    """
    name, file = source.name, source.file
    if not name or file is None:
        raise ModelError(
            f"'{source}' names no architecture and file; write open_clip:ARCH@FILE, such as "
            "open_clip:ViT-B-32@weights.safetensors."
        )
    architecture = find_architecture(name)
    where = f"{file} read as {name}"
    tensors, chosen = read_weights(file, _belongs, source.selection)
    tag = published_as(architecture, file)
    is_quick, notes = quick_gelu(architecture, tensors, file=file, tag=tag)
    config = {**architecture.config, "quick_gelu": is_quick}
    with understood(where):
        refuse_other_kinds(config, where=name)
        preprocessing, more = _preprocessing(architecture, file, tag)
        tokenizer, fill = _tokenizer(config, file, where=name)
        network, table, unused = _network(config, tensors, tokenizer, fill=fill, where=where)
        preprocess = _preprocess(preprocessing, size=network.config.image.resolution)
    return ForeignModel(
        network=network.eval(),
        tokenizer=tokenizer,
        preprocess=preprocess,
        source=source.text,
        architecture=name,
        table=table,
        unused=unused,
        notes=(*chosen, *notes, *more),
    )


def _belongs(name: str) -> bool:
    return name.partition(".")[0] in _TOP


def find_architecture(name: str) -> Architecture:
    """An architecture by its name in open_clip, or from a JSON file: a configuration, or a hub folder's.

    Raises:
        ModelError: with the nearest known name.
    """
    if name.endswith(".json"):
        return _from_file(user_path(name))
    library = require("open_clip", extra="openclip", purpose=_PURPOSE)
    known = library.list_models()
    plain = name.removesuffix(SUFFIX)
    found = name if name in known else plain
    config = library.get_model_config(found) if found in known else None
    if config is None:
        raise ModelError(f"open_clip has no architecture '{name}'; {known_names(name, known)}")
    tags = {
        tag: library.get_pretrained_cfg(plain, tag) for tag in library.list_pretrained_tags_by_model(plain)
    }
    return Architecture(
        name, {**config, "quick_gelu": config.get("quick_gelu", False) or name.endswith(SUFFIX)}, tags=tags
    )


def _from_file(file: Path) -> Architecture:
    if not file.is_file():
        raise ModelError(
            f"there is no file {file}; give the name of an architecture, or a JSON file with embed_dim, "
            "vision_cfg and text_cfg."
        )
    content = read_json(file)
    config = content.get("model_cfg", content) if isinstance(content, Mapping) else {}
    if missing := [
        key
        for key in ("embed_dim", "vision_cfg", "text_cfg")
        if not (isinstance(config, Mapping) and key in config)
    ]:
        raise ModelError(
            f"{file} has no {missing[0]}; expected a configuration of open_clip with embed_dim, vision_cfg "
            "and text_cfg."
        )
    return Architecture(str(file), config, preprocess=content.get("preprocess_cfg"))


def published_as(architecture: Architecture, file: Path) -> str | None:
    """The tag of open_clip's table for this file, from its name or its folder in a hub's cache."""
    folders = set(file.absolute().parts[:-1])
    for tag, config in (architecture.tags or {}).items():
        repository = str(config.get("hf_hub", "")).strip("/")
        names = {f"models--{repository.replace('/', '--')}", repository.rpartition("/")[2]} - {"", "models--"}
        if Path(str(config.get("url", ""))).name == file.name or names & folders:
            return tag
    return None


def quick_gelu(
    architecture: Architecture, tensors: Mapping[str, Tensor], *, file: Path, tag: str | None
) -> tuple[bool, list[str]]:
    """Whether the weights were trained with OpenAI's activation, and notes about how that is known.

    Args:
        architecture: as the user named it.
        tensors: of the file, by name.
        file: the file.
        tag: of open_clip's table, where the file is known.

    Raises:
        ModelError: where the name means one activation and the file is known to have the other.
    """
    named = bool(architecture.config.get("quick_gelu"))
    known, reason = _known_activation(architecture, tensors, file=file, tag=tag)
    name = architecture.plain
    if known is None:
        is_ambiguous = not named and any(
            config.get("quick_gelu") for config in (architecture.tags or {}).values()
        )
        assumed = f"activation: not written in {file}, so gelu was assumed, as {name} means"
        return named, [
            f"{assumed}; OpenAI's weights and others of quick_gelu are open_clip:{name}{SUFFIX}@{file}"
        ] if is_ambiguous else []
    if known == named:
        return named, []
    if architecture.name.endswith(SUFFIX):
        raise ModelError(
            f"{file} was trained with gelu ({reason}), {architecture.name} means quick_gelu; write "
            f"open_clip:{name}@{file}."
        )
    return known, [
        f"activation: {'quick_gelu' if known else 'gelu'}, since {reason}; {architecture.name} alone means "
        f"{'quick_gelu' if named else 'gelu'}"
    ]


def _known_activation(
    architecture: Architecture, tensors: Mapping[str, Tensor], *, file: Path, tag: str | None
) -> tuple[bool | None, str]:
    if tensors.keys() >= OPENAI_MARKS:
        return True, "the file holds the entries of OpenAI's own"
    if tag is not None and architecture.tags is not None:
        return bool(architecture.tags[tag].get("quick_gelu", False)), f"it is open_clip's '{tag}'"
    beside = _beside(file)
    if "quick_gelu" in beside.get("model_cfg", {}):
        return bool(beside["model_cfg"]["quick_gelu"]), f"{BESIDE} beside it has it"
    return None, ""


def _beside(file: Path) -> Mapping[str, Any]:
    path = file.parent / BESIDE
    content = read_json(path) if path.is_file() else {}
    return content if isinstance(content, Mapping) else {}


def _preprocessing(
    architecture: Architecture, file: Path, tag: str | None
) -> tuple[Mapping[str, Any], list[str]]:
    """Mean, deviation and resizing from the nearest source, and a note where they were assumed."""
    tags = architecture.tags or {}
    if architecture.preprocess is not None:
        return architecture.preprocess, []
    if beside := _beside(file).get("preprocess_cfg"):
        return beside, []
    if tag is not None:
        return tags[tag], []
    different = {json.dumps([config.get(key) for key in _PREPROCESSING]): config for config in tags.values()}
    if len(different) == 1:
        return next(iter(different.values())), []
    assumed = "preprocessing: mean and deviation of OpenAI's CLIP, bicubic, centre square were assumed"
    return {}, [f"{assumed}; an {BESIDE} with preprocess_cfg beside the weights takes their place"]


def _preprocess(settings: Mapping[str, Any], *, size: int) -> Preprocess:
    mode = settings.get("resize_mode") or "shortest"
    if mode not in ("shortest", "squash"):
        raise ModelError(
            f"the preprocessing resizes images by '{mode}'; shortest and squash have counterparts here."
        )
    return Preprocess(
        size=size,
        resize="squash" if mode == "squash" else "shorter",
        interpolation="bilinear"
        if settings.get("interpolation") == "bilinear"
        else "bicubic",  # 'random' is for training only
        mean=triple(settings.get("mean"), CLIP_MEAN),
        std=triple(settings.get("std"), CLIP_STD),
    )


def _tokenizer(config: Mapping[str, Any], file: Path, *, where: str) -> tuple[Tokenizer, int | None]:
    """The tokenizer, and the id of padding where the text tower sees it."""
    text = config["text_cfg"]
    context, rows = int(text.get("context_length", 77)), int(text.get("vocab_size", 49408))
    options = dict(text.get("tokenizer_kwargs") or {})
    cleaning = options.pop("clean", None)
    if options or text.get("tokenizer_mode"):
        what = next(iter(options), None) or f"tokenizer_mode {text['tokenizer_mode']}"
        raise ModelError(
            f"{where} has a tokenizer with {what}, for which there is no counterpart here; choose another "
            "architecture."
        )
    if name := text.get("hf_tokenizer_name"):
        if not (file.parent / "tokenizer.json").is_file():
            raise ModelError(
                f"{where} reads texts with the tokenizer of {name}; put its tokenizer.json and "
                f"tokenizer_config.json beside {file}."
            )
        tokenizer: Tokenizer = published_tokenizer(
            file.parent, context=context, rows=rows, cleaning=_cleaning(cleaning or "whitespace", where)
        )
    else:
        if cleaning not in (None, "lower"):
            raise ModelError(
                f"{where} cleans texts by '{cleaning}' before CLIP's tokenizer, which always cleans as CLIP "
                "does; choose another."
            )
        tokenizer = clip_tokenizer(context)
        if tokenizer.size != rows:
            raise ModelError(
                f"{where} has {rows:,} tokens, CLIP's tokenizer has {tokenizer.size:,}; the "
                "architecture is not complete."
            )
    return tokenizer, tokenizer.settings.pad if text.get("no_causal_mask") else None


def _cleaning(name: str, where: str) -> Cleaning:
    known: tuple[Cleaning, ...] = ("whitespace", "lower", "canonicalize")
    for one in known:
        if one == name:
            return one
    raise ModelError(f"{where} cleans texts by '{name}', expected one of {', '.join(known)}.")


def _network(
    config: Mapping[str, Any],
    tensors: dict[str, Tensor],
    tokenizer: Tokenizer,
    *,
    fill: int | None,
    where: str,
) -> tuple[DualEncoder, TensorTable, dict[str, Tensor]]:
    """The network, its tensor table, and those tensors of the file that it does without."""
    rows = int(config["text_cfg"].get("vocab_size", 49408))
    image = image_tower(config, where=where)
    text = text_tower(config, end=tokenizer.settings.end, fill=fill, where=where)
    vocabulary = max(rows, tokenizer.vocabulary)
    log_scale = tensors.get("logit_scale", torch.tensor(math.log(1 / 0.07))).float().reshape(())
    table = TensorTable(
        (
            _scale_map(config, tensors, log_scale),
            *image.maps(tensors.keys()),
            *text_maps(text, tensors.keys(), rows=vocabulary, found=rows),
        ),
        (*image.unused, UnusedTensor("logit_bias")),  # the loss adds it: the description keeps it
    )
    model = ModelConfig(
        image=image.config, text=text, dim=int(config["embed_dim"]), **scale_settings(log_scale)
    )
    network = DualEncoder(model, vocabulary=vocabulary, context=tokenizer.settings.context, seed=None)
    return network, table, table.fill(network, tensors, where=where)


def _scale_map(config: Mapping[str, Any], tensors: Mapping[str, Tensor], log_scale: Tensor) -> TensorMap:
    if "logit_scale" not in tensors:
        return TensorMap(("log_scale",), (), Default(log_scale))
    return pair("log_scale", "logit_scale", Scalar((1,) if config.get("nonscalar_logit_scale") else ()))


def write_open_clip(
    network: DualEncoder, tokenizer: Tokenizer, preprocess: Preprocess, folder: Path
) -> list[str]:
    """Write a folder that open_clip reads by `local-dir:`, and `read_open_clip` too.

    Args:
        network: whose towers open_clip has.
        tokenizer: of the model.
        preprocess: of the model.
        folder: to write into.

    Returns:
        What the folder has no counterpart for, and leaves embeddings of most inputs as they are.

    Raises:
        ModelError: naming the setting that has no counterpart.
    """
    written = written_tokenizer(tokenizer)
    config = written_model_config(network, written.tokenizer)
    text = network.config.text
    assert isinstance(text, TextConfig), "the settings were written"
    rows = network.vocabulary
    image = image_tower(config, where="open_clip")
    maps = (*image.maps(None), *text_maps(text, None, rows=rows, found=rows))
    table = TensorTable((pair("log_scale", "logit_scale", Scalar()), *maps), image.unused)
    write_atomically(folder / WRITTEN_WEIGHTS, save(table.export(network.state_dict())))
    content = {"model_cfg": config, "preprocess_cfg": written_preprocess_config(preprocess)}
    write_json(folder / BESIDE, content)
    written.write(folder)
    return [SPECIAL]  # texts are mended there too


FOREIGN_FORMAT = ForeignFormat("open_clip", "open_clip:ARCH@FILE", read_open_clip)
