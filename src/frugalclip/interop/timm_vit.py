"""Plain vision transformers of timm as our image tower: those inside open_clip's SigLIP models.

Source: timm `vision_transformer.py`. Settings are read from the module, built on the meta device, so that
the meaning of timm's names is never guessed. Whatever differs from a plain transformer is refused by name.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from frugalclip.core.errors import ModelError
from frugalclip.interop.tensor_maps import TIMM, Kernel, TensorMap, layers, linear, pair
from frugalclip.towers.blocks import Activation, activated
from frugalclip.towers.vit import VitConfig

POOLS = {"token": "cls", "avg": "mean", "map": "attention"}
POOL_NAMES = {  # of attention pooling: ours, theirs
    "q": "q",
    "kv": "kv",
    "out": "proj",
    "norm": "norm",
    "feed_forward.enter": "mlp.fc1",
    "feed_forward.leave": "mlp.fc2",
}


def image_settings(tower: Any, *, where: str) -> dict[str, Any]:
    """Settings of our tower that compute what open_clip's wrapper around a timm backbone does.

    Args:
        tower: the wrapper, with `backbone` and `head`.
        where: the architecture, for messages.

    Raises:
        ModelError: naming what has no counterpart.
    """
    backbone = tower.trunk  # their name
    if type(backbone).__name__ != "VisionTransformer" or not type(backbone).__module__.startswith("timm."):
        raise ModelError(
            f"{where} has the backbone {type(backbone).__name__} of timm; "
            "only its plain VisionTransformer has a counterpart here."
        )
    _refuse_patches(backbone, where=where)
    _refuse_blocks(backbone, where=where)
    _refuse_heads(tower, where=where)
    block, patch, pool = backbone.blocks[0], backbone.patch_embed, backbone.attn_pool
    eps = next(module.eps for module in backbone.modules() if isinstance(module, nn.LayerNorm))
    projection = getattr(tower.head, "proj", None)
    return {
        "width": backbone.embed_dim,
        "depth": len(backbone.blocks),
        "head_dim": backbone.embed_dim // block.attn.num_heads,
        "neurons": tuple(one.mlp.fc1.out_features for one in backbone.blocks),
        "activation": activation_of(block.mlp.act, where=where),
        "norm_eps": eps,
        "patch": patch.patch_size[0],
        "resolution": patch.img_size[0],
        "trim": bool(patch.img_size[0] % patch.patch_size[0]),
        "pool": POOLS[backbone.global_pool],
        "pre_norm": not _nothing(backbone.norm_pre),
        "patch_bias": patch.proj.bias is not None,
        "projection": "none" if projection is None else "linear",
        **(
            {}
            if pool is None
            else {
                "pool_neurons": pool.mlp.fc1.out_features,
                "pool_activation": activation_of(pool.mlp.act, where=where),
            }
        ),
    }


def _refuse_patches(backbone: Any, *, where: str) -> None:
    """Refuse what differs before the blocks."""
    patch = backbone.patch_embed
    _refuse({f"patches by {type(patch).__name__}": type(patch).__name__ != "PatchEmbed"}, where=where)
    faults = {
        "register tokens": backbone.num_prefix_tokens != int(backbone.has_class_token),
        "no position embedding": backbone.pos_embed is None,
        "a [CLS] without position": backbone.has_class_token and backbone.no_embed_class,
        "normalised patches": not _nothing(getattr(patch, "norm", nn.Identity())),
        "patches or images that are not square": len({*patch.patch_size}) > 1 or len({*patch.img_size}) > 1,
    }
    _refuse(faults, where=where)


def _refuse_blocks(backbone: Any, *, where: str) -> None:
    """Refuse blocks and normalisations other than the plain ones."""
    block = backbone.blocks[0]
    eps = {module.eps for module in backbone.modules() if isinstance(module, nn.LayerNorm)}
    norms = {type(one).__name__ for one in backbone.modules() if "Norm" in type(one).__name__}
    is_plain_mlp = type(block.mlp).__name__ == "Mlp" and _nothing(block.mlp.norm)
    faults = {
        f"blocks {type(block).__name__}": {type(one).__name__ for one in backbone.blocks} != {"Block"},
        f"attention {type(block.attn).__name__}": type(block.attn).__name__ != "Attention",
        "normalised queries": not _nothing(block.attn.q_norm)
        or not _nothing(getattr(block.attn, "norm", None)),
        f"feed-forward {type(block.mlp).__name__}": not is_plain_mlp,
        "normalisations with several epsilons": len(eps) != 1,
        "other normalisations": norms != {"LayerNorm"},
    }
    _refuse(faults, where=where)


def _refuse_heads(tower: Any, *, where: str) -> None:
    """Refuse poolings and projections without a counterpart."""
    backbone, pool = tower.trunk, tower.trunk.attn_pool
    projection = getattr(tower.head, "proj", None)
    has_cls = backbone.has_class_token
    parts = {name for name, _ in tower.head.named_children()}
    has_one_query = pool is None or (
        pool.latent_len == 1 and pool.pos_embed is None and _nothing(pool.q_norm)
    )
    faults = {
        f"pooling '{backbone.global_pool}'": backbone.global_pool not in POOLS,
        "[CLS] beside another pooling": has_cls and backbone.global_pool != "token",
        "no [CLS] to pool": not has_cls and backbone.global_pool == "token",
        "normalisation after pooling": not _nothing(backbone.fc_norm) or _nothing(backbone.norm),
        "a projection of its own": not _nothing(backbone.head),
        "a head of several layers": not parts <= {"drop", "proj"},
        "several queries in its pooling": not has_one_query,
        "a projection with a bias": projection is not None and projection.bias is not None,
    }
    _refuse(faults, where=where)


def timm_maps(config: VitConfig, present: Collection[str] | None, *, prefix: str) -> tuple[TensorMap, ...]:
    """Tensor maps of open_clip's wrapper around a timm backbone, below `prefix`; `present` as in `layers`."""
    backbone = f"{prefix}.trunk"  # their name
    rows = [
        pair("image.patch.weight", f"{backbone}.patch_embed.proj.weight", Kernel(config.patch)),
        pair("image.positions", f"{backbone}.pos_embed"),
    ]
    if config.patch_bias:
        rows.append(pair("image.patch.bias", f"{backbone}.patch_embed.proj.bias"))
    if config.pool == "cls":
        rows.append(pair("image.cls", f"{backbone}.cls_token"))
    if config.pre_norm:
        rows += linear("image.norm_before", f"{backbone}.norm_pre")
    rows += layers("image.layers", f"{backbone}.blocks", config, TIMM, present=present)
    rows += linear("image.norm_after", f"{backbone}.norm")
    if config.pool == "attention":
        rows.append(pair("image.pool.query", f"{backbone}.attn_pool.latent"))
        for ours, theirs in POOL_NAMES.items():
            rows += linear(f"image.pool.{ours}", f"{backbone}.attn_pool.{theirs}")
    if config.projection == "linear":
        rows.append(pair("image.project.weight", f"{prefix}.head.proj.weight"))
    return tuple(rows)


def activation_of(module: nn.Module, *, where: str) -> str:
    """Our name of an activation, found by what it computes.

    Raises:
        ModelError: for another one.
    """
    x = torch.linspace(-4, 4, 65, dtype=torch.float64, device="cpu")
    found = module(x.clone())
    names: tuple[Activation, ...] = ("gelu", "quick_gelu", "gelu_tanh")
    for name in names:
        if torch.allclose(found, activated(x, name), rtol=1e-9, atol=1e-12):
            return name
    raise ModelError(
        f"{where} has the activation {type(module).__name__}; gelu, quick_gelu and gelu_tanh have "
        "counterparts here."
    )


def _nothing(module: Any) -> bool:
    return module is None or isinstance(module, nn.Identity)


def _refuse(faults: dict[str, bool], *, where: str) -> None:
    for name, is_there in faults.items():
        if is_there:
            raise ModelError(
                f"{where} has a backbone of timm with {name}, for which our image tower has no counterpart; "
                "choose another architecture."
            )
