"""Plain vision transformers of timm as our image tower: the trunks of open_clip's SigLIP models.

Source: timm `vision_transformer.py`. The trunk is built without memory (on the meta device) and looked at, so that what timm's names stand for is
never guessed; whatever differs from a plain transformer is refused by name.
"""

from typing import Any

import torch
from torch import nn

from frugalclip.core.errors import ModelError
from frugalclip.interop.conversion import TIMM, Conversion
from frugalclip.towers.blocks import Activation, activated

POOLS = {"token": "cls", "avg": "mean", "map": "attention"}


def image_settings(tower: Any, *, where: str) -> dict[str, Any]:
    """Settings of our tower that compute what open_clip's wrapper around a timm trunk does.

    Args:
        tower: the wrapper, with `trunk` and `head`.
        where: the architecture, for messages.

    Raises:
        ModelError: naming what has no counterpart.
    """
    trunk = tower.trunk
    if type(trunk).__name__ != "VisionTransformer" or not type(trunk).__module__.startswith("timm."):
        raise ModelError(
            f"{where} has the trunk {type(trunk).__name__} of timm; only its plain VisionTransformer has a counterpart here."
        )
    block, patch = trunk.blocks[0], trunk.patch_embed
    _refuse({f"patches by {type(patch).__name__}": type(patch).__name__ != "PatchEmbed"}, where=where)
    pool = trunk.attn_pool
    _refuse(
        {
            "register tokens": trunk.num_prefix_tokens != int(trunk.has_class_token),
            "no position embedding": trunk.pos_embed is None,
            "a [CLS] without position": trunk.has_class_token and trunk.no_embed_class,
            f"pooling '{trunk.global_pool}'": trunk.global_pool not in POOLS,
            "[CLS] beside another pooling": trunk.has_class_token and trunk.global_pool != "token",
            "no [CLS] to read": not trunk.has_class_token and trunk.global_pool == "token",
            "normalisation after pooling": not _nothing(trunk.fc_norm) or _nothing(trunk.norm),
            "normalised patches": not _nothing(getattr(patch, "norm", nn.Identity())),
            f"blocks {type(block).__name__}": {type(one).__name__ for one in trunk.blocks} != {"Block"},
            f"attention {type(block.attn).__name__}": type(block.attn).__name__ != "Attention",
            "normalised queries": not _nothing(block.attn.q_norm)
            or not _nothing(getattr(block.attn, "norm", nn.Identity())),
            f"feed-forward {type(block.mlp).__name__}": type(block.mlp).__name__ != "Mlp"
            or not _nothing(block.mlp.norm),
            "a projection of its own": not _nothing(trunk.head),
            "a head of several layers": any(
                name not in ("drop", "proj") for name, _ in tower.head.named_children()
            ),
            "several queries in its pooling": pool is not None
            and (pool.latent_len != 1 or pool.pos_embed is not None or not _nothing(pool.q_norm)),
            "patches or pictures that are not square": len({*patch.patch_size}) > 1
            or len({*patch.img_size}) > 1,
        },
        where=where,
    )
    eps = {module.eps for module in trunk.modules() if isinstance(module, nn.LayerNorm)}
    projection = getattr(tower.head, "proj", None)
    _refuse(
        {
            "normalisations with several epsilons": len(eps) != 1,
            "other normalisations": _norms(trunk) != {"LayerNorm"},
            "a projection with a bias": projection is not None and projection.bias is not None,
        },
        where=where,
    )
    heads = block.attn.num_heads
    return {
        "width": trunk.embed_dim,
        "depth": len(trunk.blocks),
        "head_dim": trunk.embed_dim // heads,
        "neurons": tuple(one.mlp.fc1.out_features for one in trunk.blocks),
        "activation": activation_of(block.mlp.act, where=where),
        "norm_eps": eps.pop(),
        "patch": patch.patch_size[0],
        "resolution": patch.img_size[0],
        "trim": bool(patch.img_size[0] % patch.patch_size[0]),
        "pool": POOLS[trunk.global_pool],
        "pre_norm": not _nothing(trunk.norm_pre),
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


def put_trunk(conversion: Conversion, settings: dict[str, Any], *, prefix: str) -> None:
    """Move the tensors of the wrapper below `prefix` into our image tower."""
    trunk = f"{prefix}.trunk"
    conversion.put("image.patch.weight", f"{trunk}.patch_embed.proj.weight", change=lambda x: x.flatten(1))
    if settings["patch_bias"]:
        conversion.put("image.patch.bias", f"{trunk}.patch_embed.proj.bias")
    conversion.put("image.positions", f"{trunk}.pos_embed")
    if settings["pool"] == "cls":
        conversion.put("image.cls", f"{trunk}.cls_token")
    if settings["pre_norm"]:
        conversion.linear("image.norm_before", f"{trunk}.norm_pre")
    conversion.layers("image.layers", f"{trunk}.blocks", depth=settings["depth"], names=TIMM)
    conversion.linear("image.norm_after", f"{trunk}.norm")
    if settings["pool"] == "attention":
        pool = f"{trunk}.attn_pool"
        conversion.put("image.pool.query", f"{pool}.latent")
        for ours, theirs in (
            ("q", "q"),
            ("kv", "kv"),
            ("out", "proj"),
            ("norm", "norm"),
            ("feed_forward.enter", "mlp.fc1"),
            ("feed_forward.leave", "mlp.fc2"),
        ):
            conversion.linear(f"image.pool.{ours}", f"{pool}.{theirs}")
    if settings["projection"] == "linear":
        conversion.put("image.project.weight", f"{prefix}.head.proj.weight")


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
        f"{where} has the activation {type(module).__name__}; gelu, quick_gelu and gelu_tanh have counterparts here."
    )


def _norms(module: nn.Module) -> set[str]:
    return {type(one).__name__ for one in module.modules() if "Norm" in type(one).__name__}


def _nothing(module: Any) -> bool:
    return module is None or isinstance(module, nn.Identity)


def _refuse(faults: dict[str, bool], *, where: str) -> None:
    for name, is_there in faults.items():
        if is_there:
            raise ModelError(
                f"{where} has a trunk of timm with {name}, for which our image tower has no counterpart; choose another architecture."
            )
