"""Towers of open_clip's configurations as ours, and where their tensors go.

Source: open_clip `model.py` (`CLIPVisionCfg`, `CLIPTextCfg`), `transformer.py`, `modified_resnet.py`, `timm_model.py`. Settings that are not read
here and are set to anything but their default are refused by name.
"""

from collections.abc import Mapping
from typing import Any

import torch

from frugalclip.core.errors import ModelError, require
from frugalclip.interop.conversion import OPEN_CLIP, Conversion, refuse_unknown
from frugalclip.interop.timm_vit import image_settings, put_backbone
from frugalclip.towers.bag import BagConfig
from frugalclip.towers.clip_resnet import ClipResNetConfig
from frugalclip.towers.resnet import ResNetConfig
from frugalclip.towers.text import TextConfig
from frugalclip.towers.vit import VitConfig

# Dropout, pretraining of a part and layer scale's first value have no effect on what a trained model computes.
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
    "layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "no_ln_pre", "pos_embed_type", "act_kwargs", "norm_kwargs",
    "attn_pooler_heads", "timm_model_name", "timm_pool", "timm_proj", "timm_proj_bias",
}  # fmt: skip
_TEXT = _TRAINING | {
    "context_length", "vocab_size", "hf_tokenizer_name", "tokenizer_kwargs", "width", "heads", "layers", "mlp_ratio", "pad_id", "eos_id",
    "no_causal_mask", "pool_type", "proj_bias", "act_kwargs", "norm_kwargs", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type",
}  # fmt: skip
_UNSET = (None, False, 0, 0.0, "", "linear", "tok", "default")


def refuse_other_kinds(config: Mapping[str, Any], *, where: str) -> None:
    """Stop at models that are more or other than two towers of ours.

    Raises:
        ModelError: saying what kind of model it is.
    """
    if "multimodal_cfg" in config:
        raise ModelError(
            f"{where} is a CoCa, whose pooling and text tower have no counterpart here; choose another architecture."
        )
    if name := config["text_cfg"].get("hf_model_name"):
        raise ModelError(
            f"{where} has the text tower {name} of transformers, for which our towers have no counterpart; choose another architecture."
        )


def image_tower(config: Mapping[str, Any], *, where: str) -> tuple[dict[str, Any], bool]:
    """Settings of our image tower, and whether it is a backbone of timm.

    Raises:
        ModelError: naming what has no counterpart.
    """
    vision = config["vision_cfg"]
    refuse_unknown(vision, _IMAGE, unset=_UNSET, where=where)
    size = vision.get("image_size", 224)
    if isinstance(size, list | tuple):
        if len(set(size)) != 1:
            raise ModelError(
                f"{where} reads pictures of {size}, ours are square; choose another architecture."
            )
        size = size[0]
    if vision.get("timm_model_name"):
        return {"kind": "vit", **_timm(vision, dim=int(config["embed_dim"]), size=size, where=where)}, True
    if isinstance(vision.get("layers"), list | tuple):
        width, head = int(vision.get("width", 64)), int(vision.get("head_width", 64))
        return {
            "kind": "clip_resnet",
            "width": 32 * width,
            "blocks": tuple(vision["layers"]),
            "resolution": size,
            "head_dim": head,
        }, False
    width, head, patch = (
        int(vision.get("width", 768)),
        int(vision.get("head_width", 64)),
        vision.get("patch_size", 16),
    )
    depth = int(vision.get("layers", 12))
    settings = {
        "kind": "vit",
        "width": width,
        "depth": depth,
        "head_dim": head,
        "neurons": (int(width * vision.get("mlp_ratio", 4.0)),) * depth,
        "patch": patch,
        "resolution": size,
        "trim": bool(size % patch),
        "pre_norm": not vision.get("no_ln_pre", False),
        "activation": _activation(config, vision),
    }
    return settings | _epsilon(vision), False


def text_tower(config: Mapping[str, Any], *, end: int, fill: int | None, where: str) -> dict[str, Any]:
    """Settings of our text tower.

    Args:
        config: of the whole model.
        end: id of the tokenizer's end token.
        fill: id of padding, where the tower sees it.
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
            f"{where} reads texts by '{pool}'; the end token and the last place have counterparts here."
        )
    if pool == "last" and fill is None:
        raise ModelError(
            f"{where} reads the last place of padded texts causally, for which our text tower has no counterpart."
        )
    if pool == "eos" and int(text.get("eos_id", 2)) != end:
        raise ModelError(
            f"{where} reads texts at token {text.get('eos_id', 2)}, but its tokenizer ends them with {end}; put the model's own beside it."
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
    return settings | _epsilon(text) | ({} if fill is None else {"fill": fill})


def put_image(
    conversion: Conversion, config: VitConfig | ResNetConfig | ClipResNetConfig, *, wrapper: bool
) -> None:
    """Move the image tower's tensors."""
    if isinstance(config, ClipResNetConfig):
        _put_resnet(conversion, config)
    elif isinstance(config, VitConfig) and wrapper:
        put_backbone(conversion, config.model_dump() | {"projection": config.projection}, prefix="visual")
    elif isinstance(config, VitConfig):
        conversion.put("image.patch.weight", "visual.conv1.weight", change=lambda x: x.flatten(1))
        conversion.put("image.cls", "visual.class_embedding", change=lambda x: x.reshape(1, 1, -1))
        conversion.put("image.positions", "visual.positional_embedding", change=lambda x: x[None])
        if config.pre_norm:
            conversion.linear("image.norm_before", "visual.ln_pre")
        conversion.layers("image.layers", "visual.transformer.resblocks", depth=config.depth, names=OPEN_CLIP)
        conversion.linear("image.norm_after", "visual.ln_post")
        conversion.put("image.project.weight", "visual.proj", change=lambda x: x.T.contiguous())


def put_text(conversion: Conversion, config: TextConfig | BagConfig, *, rows: int, found: int) -> None:
    """Move the text tower's tensors.

    Args:
        conversion: of the model.
        config: of our tower.
        rows: tokens of our tower.
        found: tokens of theirs.
    """
    assert isinstance(config, TextConfig)
    prefix = "text." if conversion.has("text.token_embedding.weight") else ""
    conversion.lookup(f"{prefix}token_embedding.weight", rows=rows, found=found)
    conversion.put("text.positions", f"{prefix}positional_embedding", change=lambda x: x[None])
    conversion.layers("text.layers", f"{prefix}transformer.resblocks", depth=config.depth, names=OPEN_CLIP)
    conversion.linear("text.norm_after", f"{prefix}ln_final")
    if config.project_bias:
        conversion.linear("text.project", f"{prefix}text_projection")
    else:
        conversion.put("text.project.weight", f"{prefix}text_projection", change=lambda x: x.T.contiguous())


def _put_resnet(conversion: Conversion, config: ClipResNetConfig) -> None:
    for i in range(3):
        _put_convolved(conversion, f"image.stem.{i}", f"visual.conv{i + 1}", f"visual.bn{i + 1}")
    for stage, blocks in enumerate(config.blocks):
        for block in range(blocks):
            ours, theirs = f"image.stages.{stage}.{block}", f"visual.layer{stage + 1}.{block}"
            for i, name in enumerate(("first", "second", "third")):
                _put_convolved(conversion, f"{ours}.{name}", f"{theirs}.conv{i + 1}", f"{theirs}.bn{i + 1}")
            if not block:
                _put_convolved(
                    conversion, f"{ours}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1"
                )
    conversion.put("image.pool.positions", "visual.attnpool.positional_embedding", change=lambda x: x[None])
    conversion.linear("image.pool.q", "visual.attnpool.q_proj")
    conversion.put("image.pool.k.weight", "visual.attnpool.k_proj.weight")
    conversion.take(
        "visual.attnpool.k_proj.bias"
    )  # adds the same to all scores of a query, which softmax does not see
    conversion.linear("image.pool.v", "visual.attnpool.v_proj")
    conversion.linear("image.project", "visual.attnpool.c_proj")


def _put_convolved(conversion: Conversion, ours: str, convolution: str, norm: str) -> None:
    conversion.put(f"{ours}.0.weight", f"{convolution}.weight")
    for name in ("weight", "bias", "running_mean", "running_var"):
        conversion.put(f"{ours}.1.{name}", f"{norm}.{name}")


def _activation(config: Mapping[str, Any], tower: Mapping[str, Any]) -> str:
    if config.get("quick_gelu"):
        return "quick_gelu"
    return "gelu_tanh" if (tower.get("act_kwargs") or {}).get("approximate") == "tanh" else "gelu"


def _epsilon(tower: Mapping[str, Any]) -> dict[str, float]:
    eps = (tower.get("norm_kwargs") or {}).get("eps")
    return {} if eps is None else {"norm_eps": float(eps)}


def _timm(vision: Mapping[str, Any], *, dim: int, size: int, where: str) -> dict[str, Any]:
    """Settings of a backbone of timm, looked up in the module that open_clip would build, without its memory."""
    library = require("open_clip.timm_model", extra="openclip", purpose="a backbone of timm")
    options = {
        "pool": vision.get("timm_pool", "avg"),
        "proj": vision.get("timm_proj", "linear"),
        "proj_bias": vision.get("timm_proj_bias", False),
    }
    try:
        with torch.device("meta"):
            tower = library.TimmModel(
                vision["timm_model_name"], embed_dim=dim, image_size=size, pretrained=False, **options
            )
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise ModelError(
            f"{where}: timm cannot build its backbone {vision['timm_model_name']} ({str(error).splitlines()[0]}); update timm."
        ) from error
    return image_settings(tower, where=where)
