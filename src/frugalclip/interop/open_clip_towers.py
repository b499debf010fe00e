"""Towers of open_clip's configurations as ours, and where their tensors go.

Source: open_clip `model.py` (`CLIPVisionCfg`, `CLIPTextCfg`), `transformer.py`, `modified_resnet.py`,
`timm_model.py`. Settings that are not read here and are set to anything but their default are refused by
name.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from frugalclip.core.devices import without_weights
from frugalclip.core.errors import ModelError, require
from frugalclip.interop.foreign import refuse_unknown
from frugalclip.interop.tensor_maps import (
    OPEN_CLIP,
    Default,
    ExtraRows,
    Kernel,
    LeadingAxes,
    TensorMap,
    Transpose,
    UnusedTensor,
    layers,
    linear,
    pair,
)
from frugalclip.interop.timm_vit import image_settings, timm_maps
from frugalclip.towers.clip_resnet import ClipResNetConfig
from frugalclip.towers.text import TextConfig
from frugalclip.towers.vit import VitConfig

# dropout, a part's pretraining and the first value of layer scale do not change a trained model
_TRAINING = {
    "patch_dropout",
    "timm_drop",
    "timm_drop_path",
    "timm_model_pretrained",
    "ls_init_value",
    "output_tokens",
    "attn_pooler_queries",
}
_IMAGE = _TRAINING | {
    "layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "no_ln_pre",
    "pos_embed_type", "act_kwargs", "norm_kwargs", "attn_pooler_heads", "timm_model_name", "timm_pool",
    "timm_proj", "timm_proj_bias",
}  # fmt: skip
_TEXT = _TRAINING | {
    "context_length", "vocab_size", "hf_tokenizer_name", "tokenizer_kwargs", "width", "heads", "layers",
    "mlp_ratio", "pad_id", "eos_id", "no_causal_mask", "pool_type", "proj_bias", "act_kwargs",
    "norm_kwargs", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type",
}  # fmt: skip
_UNSET = (None, False, 0, 0.0, "", "linear", "tok", "default")


def refuse_other_kinds(config: Mapping[str, Any], *, where: str) -> None:
    """Refuse models that are not two towers of ours.

    Raises:
        ModelError: naming the kind of model.
    """
    if "multimodal_cfg" in config:
        raise ModelError(
            f"{where} is a CoCa, whose pooling and text tower have no counterpart here; choose another "
            "architecture."
        )
    if name := config["text_cfg"].get("hf_model_name"):
        raise ModelError(
            f"{where} has the text tower {name} of transformers, for which our towers have no counterpart; "
            "choose another architecture."
        )


@dataclass(frozen=True)
class OpenClipImage:
    """Settings of our image tower for one of open_clip, and its tensor maps."""

    config: VitConfig | ClipResNetConfig
    maps: Callable[[Collection[str] | None], tuple[TensorMap, ...]]  # of a file that holds these tensors
    unused: tuple[UnusedTensor, ...] = ()


def image_tower(config: Mapping[str, Any], *, where: str) -> OpenClipImage:
    """Our settings of an image tower, with its tensor maps.

    Raises:
        ModelError: naming what has no counterpart.
    """
    vision = config["vision_cfg"]
    refuse_unknown(vision, _IMAGE, unset=_UNSET, where=where)
    size = _side(vision, where=where)
    if vision.get("timm_model_name"):
        settings = _timm(vision, dim=int(config["embed_dim"]), size=size, where=where)
        vit = VitConfig.model_validate(settings)
        return OpenClipImage(vit, partial(timm_maps, vit, prefix="visual"))
    if isinstance(vision.get("layers"), list | tuple):
        resnet = ClipResNetConfig(
            kind="clip_resnet",
            width=32 * int(vision.get("width", 64)),
            blocks=tuple(vision["layers"]),
            resolution=size,
            head_dim=int(vision.get("head_width", 64)),
        )
        return OpenClipImage(resnet, partial(resnet_maps, resnet), resnet_unused(resnet))
    vit = _vit(config, vision, size=size)
    return OpenClipImage(vit, partial(vit_maps, vit))


def _side(vision: Mapping[str, Any], *, where: str) -> int:
    """Pixels on a side of the image."""
    size = vision.get("image_size", 224)
    if not isinstance(size, list | tuple):
        return size
    if len(set(size)) != 1:
        raise ModelError(f"{where} encodes images of {size}, ours are square; choose another architecture.")
    return size[0]


def _vit(config: Mapping[str, Any], vision: Mapping[str, Any], *, size: int) -> VitConfig:
    width, depth, patch = (
        int(vision.get("width", 768)),
        int(vision.get("layers", 12)),
        vision.get("patch_size", 16),
    )
    settings = {
        "width": width,
        "depth": depth,
        "head_dim": int(vision.get("head_width", 64)),
        "neurons": (int(width * vision.get("mlp_ratio", 4.0)),) * depth,
        "patch": patch,
        "resolution": size,
        "trim": bool(size % patch),
        "pre_norm": not vision.get("no_ln_pre", False),
        "activation": _activation(config, vision),
    }
    return VitConfig.model_validate(settings | _epsilon(vision))


def text_tower(config: Mapping[str, Any], *, end: int, fill: int | None, where: str) -> TextConfig:
    """Settings of our text tower.

    Args:
        config: of the whole model.
        end: id of the tokenizer's end token.
        fill: id of padding, where the tower attends to it.
        where: the architecture, for messages.

    Raises:
        ModelError: naming what has no counterpart.
    """
    text = config["text_cfg"]
    refuse_unknown(text, _TEXT, unset=_UNSET, where=where)
    pool, width, depth = (
        text.get("pool_type", "argmax"),
        int(text.get("width", 512)),
        int(text.get("layers", 12)),
    )
    if pool not in ("argmax", "eos", "last"):
        raise ModelError(
            f"{where} pools texts by '{pool}'; the end token and the last position have counterparts here."
        )
    if pool == "last" and fill is None:
        raise ModelError(
            f"{where} pools padded texts at the last position with causal attention, for which our text "
            "tower has no counterpart."
        )
    if pool == "eos" and int(text.get("eos_id", 2)) != end:
        raise ModelError(
            f"{where} pools texts at token {text.get('eos_id', 2)}, but its tokenizer ends them with {end}; "
            "put the model's own beside it."
        )
    settings: dict[str, Any] = {
        "width": width,
        "depth": depth,
        "head_dim": width // int(text.get("heads", 8)),
        "neurons": (int(width * text.get("mlp_ratio", 4.0)),) * depth,
        "attention": "bidirectional" if text.get("no_causal_mask") else "causal",
        "pool": "last" if pool == "last" else "end",
        "project_bias": bool(text.get("proj_bias", False)),
        "activation": _activation(config, text),
    }
    return TextConfig.model_validate(settings | _epsilon(text) | ({} if fill is None else {"fill": fill}))


def vit_maps(config: VitConfig, present: Collection[str] | None) -> tuple[TensorMap, ...]:
    """Tensor maps of a vision transformer of open_clip; `present` as in `tensor_maps.layers`."""
    return (
        pair("image.patch.weight", "visual.conv1.weight", Kernel(config.patch)),
        pair("image.cls", "visual.class_embedding", LeadingAxes(2)),
        pair("image.positions", "visual.positional_embedding", LeadingAxes(1)),
        *(linear("image.norm_before", "visual.ln_pre") if config.pre_norm else ()),
        *layers("image.layers", "visual.transformer.resblocks", config, OPEN_CLIP, present=present),
        *linear("image.norm_after", "visual.ln_post"),
        pair("image.project.weight", "visual.proj", Transpose()),
    )


def resnet_maps(config: ClipResNetConfig, present: Collection[str] | None) -> tuple[TensorMap, ...]:
    """Tensor maps of OpenAI's ResNets; `present` are the tensors of the file, None for all."""
    rows: list[TensorMap] = []
    for i in range(3):
        rows += _convolution(f"image.stem.{i}", f"visual.conv{i + 1}", f"visual.bn{i + 1}", present)
    for stage, blocks in enumerate(config.blocks):
        for block in range(blocks):
            ours, theirs = f"image.stages.{stage}.{block}", f"visual.layer{stage + 1}.{block}"
            for i, name in enumerate(("first", "second", "third"), start=1):
                rows += _convolution(f"{ours}.{name}", f"{theirs}.conv{i}", f"{theirs}.bn{i}", present)
            if not block:
                shortcut = f"{theirs}.downsample"
                rows += _convolution(f"{ours}.shortcut", f"{shortcut}.0", f"{shortcut}.1", present)
    return (
        *rows,
        pair("image.pool.positions", "visual.attnpool.positional_embedding", LeadingAxes(1)),
        *linear("image.pool.q", "visual.attnpool.q_proj"),
        *linear("image.pool.k", "visual.attnpool.k_proj", bias=False),
        *linear("image.pool.v", "visual.attnpool.v_proj"),
        *linear("image.project", "visual.attnpool.c_proj"),
    )


def resnet_unused(config: ClipResNetConfig) -> tuple[UnusedTensor, ...]:
    """The bias of keys adds the same to all scores of a query, which softmax does not see."""
    return (UnusedTensor("visual.attnpool.k_proj.bias", rows=config.width),)


def text_maps(
    config: TextConfig, present: Collection[str] | None, *, rows: int, found: int
) -> tuple[TensorMap, ...]:
    """Tensor maps of a text transformer of open_clip.

    Args:
        config: of our tower.
        present: tensors of the file, which tell whether their names begin with `text.`; None: they do not.
        rows: tokens of our tower.
        found: tokens of theirs.
    """
    prefix = "text." if present is not None and "text.token_embedding.weight" in present else ""
    project = (
        linear("text.project", f"{prefix}text_projection")
        if config.project_bias
        else (pair("text.project.weight", f"{prefix}text_projection", Transpose()),)
    )
    return (
        pair("text.lookup.weight", f"{prefix}token_embedding.weight", ExtraRows(theirs=found, ours=rows)),
        pair("text.positions", f"{prefix}positional_embedding", LeadingAxes(1)),
        *layers("text.layers", f"{prefix}transformer.resblocks", config, OPEN_CLIP, present=present),
        *linear("text.norm_after", f"{prefix}ln_final"),
        *project,
    )


def _convolution(ours: str, theirs: str, norm: str, present: Collection[str] | None) -> tuple[TensorMap, ...]:
    """A convolution and its normalisation, whose counter of batches older files leave out."""
    counter = f"{norm}.num_batches_tracked"
    is_there = present is None or counter in present
    return (
        pair(f"{ours}.0.weight", f"{theirs}.weight"),
        *linear(f"{ours}.1", norm),
        *(pair(f"{ours}.1.{name}", f"{norm}.{name}") for name in ("running_mean", "running_var")),
        pair(f"{ours}.1.num_batches_tracked", counter)
        if is_there
        else TensorMap((f"{ours}.1.num_batches_tracked",), (), Default(torch.tensor(0))),
    )


def _activation(config: Mapping[str, Any], tower: Mapping[str, Any]) -> str:
    if config.get("quick_gelu"):
        return "quick_gelu"
    return "gelu_tanh" if (tower.get("act_kwargs") or {}).get("approximate") == "tanh" else "gelu"


def _epsilon(tower: Mapping[str, Any]) -> dict[str, float]:
    eps = (tower.get("norm_kwargs") or {}).get("eps")
    return {} if eps is None else {"norm_eps": float(eps)}


def _timm(vision: Mapping[str, Any], *, dim: int, size: int, where: str) -> dict[str, Any]:
    """Settings of a network of timm, read from the module that open_clip would build, on the meta device."""
    library = require("open_clip.timm_model", extra="openclip", purpose="a backbone of timm")
    options = {
        "pool": vision.get("timm_pool", "avg"),
        "proj": vision.get("timm_proj", "linear"),
        "proj_bias": vision.get("timm_proj_bias", False),
    }
    try:
        with without_weights():
            tower = library.TimmModel(
                vision["timm_model_name"], embed_dim=dim, image_size=size, pretrained=False, **options
            )
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise ModelError(
            f"{where}: timm cannot build its backbone {vision['timm_model_name']} "
            f"({str(error).splitlines()[0]}); update timm."
        ) from error
    return image_settings(tower, where=where)
