"""Settings of our towers as `open_clip_config.json`: the other direction of `open_clip_towers`.

What reading the written settings gives must be the model's own settings; whatever differs has no counterpart.
"""

from typing import Any

from frugalclip.core.errors import ModelError
from frugalclip.core.preprocess import Preprocess
from frugalclip.data.tokens import Tokenizer
from frugalclip.interop.counterparts import TIP, refuse_difference, refuse_uneven
from frugalclip.interop.open_clip_towers import image_tower, text_tower
from frugalclip.towers.base import ImageTowerConfig
from frugalclip.towers.blocks import NORM_EPS
from frugalclip.towers.clip_resnet import ClipResNetConfig
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.sizes import TransformerConfig
from frugalclip.towers.text import TextConfig
from frugalclip.towers.vit import VitConfig

FOLDER = "open_clip"


def written_model_config(network: DualEncoder, tokenizer: Tokenizer) -> dict[str, Any]:
    """`model_cfg` of the architecture that computes what our network does.

    Args:
        network: to write.
        tokenizer: as it is written beside it, with its padding.

    Raises:
        ModelError: naming the setting that open_clip has no counterpart for.
    """
    image, text = network.config.image, network.config.text
    if not isinstance(text, TextConfig):
        raise ModelError(_no_tower("text", text))
    refuse_uneven(text, where=FOLDER, tower="text tower")
    quick = text.activation == "quick_gelu"
    config: dict[str, Any] = {
        "embed_dim": network.config.dim,
        "quick_gelu": quick,
        "vision_cfg": _vision(image),
        "text_cfg": _layers(text)
        | {
            "context_length": network.context,
            "vocab_size": network.vocabulary,
            "heads": max(1, text.width // text.head_dim),
            "hf_tokenizer_name": FOLDER,  # any name: the folder's own files are read
            "tokenizer_kwargs": {"clean": "lower"},
            "pool_type": "last" if text.pool == "last" else "eos",
            "eos_id": tokenizer.settings.end,
            "pad_id": tokenizer.settings.pad,
            **({"no_causal_mask": True} if text.attention == "bidirectional" else {}),
            **({"proj_bias": True} if text.project_bias else {}),
        },
    }
    fill = tokenizer.settings.pad if text.attention == "bidirectional" else None
    found = image_tower(config, where=FOLDER)
    refuse_difference(image, found.config, where=FOLDER, tower="image tower")
    words = text_tower(config, end=tokenizer.settings.end, fill=fill, where=FOLDER)
    refuse_difference(text, words, where=FOLDER, tower="text tower")
    return config


def written_preprocess_config(preprocess: Preprocess, *, where: str = FOLDER) -> dict[str, Any]:
    """`preprocess_cfg`, which programs beside open_clip read too; `where` is for the message.

    Raises:
        ModelError: for images that are cut with a margin.
    """
    if preprocess.crop != 1:
        raise ModelError(
            f"images are cut with a margin (crop: {preprocess.crop:g}), for which {where} has no "
            f"counterpart; {TIP}."
        )
    return {
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "interpolation": preprocess.interpolation,
        "resize_mode": "squash" if preprocess.resize == "squash" else "shortest",
    }


def _vision(image: ImageTowerConfig) -> dict[str, Any]:
    if isinstance(image, ClipResNetConfig):
        return {
            "layers": list(image.blocks),
            "width": image.width // 32,
            "head_width": image.head_dim,
            "image_size": image.resolution,
        }
    if not isinstance(image, VitConfig) or image.pool == "attention":
        raise ModelError(_no_tower("image", image))
    refuse_uneven(image, where=FOLDER, tower="image tower")
    size = {"image_size": image.resolution, "patch_size": image.patch, "head_width": image.head_dim}
    return _layers(image) | size | ({} if image.pre_norm else {"no_ln_pre": True})


def _layers(config: TransformerConfig) -> dict[str, Any]:
    neurons = max(config.neurons, default=4 * config.width)
    ratio = neurons / config.width
    if int(config.width * ratio) != neurons:  # a product that rounds down
        ratio = (neurons + 0.5) / config.width
    return {
        "width": config.width,
        "layers": config.depth,
        "mlp_ratio": ratio,
        **({"act_kwargs": {"approximate": "tanh"}} if config.activation == "gelu_tanh" else {}),
        **({"norm_kwargs": {"eps": config.norm_eps}} if config.norm_eps != NORM_EPS else {}),
    }


def _no_tower(side: str, config: Any) -> str:
    kind = (
        f"{config.kind} with attention pooling" if getattr(config, "pool", "") == "attention" else config.kind
    )
    other = "; --to huggingface takes SigLIP's form" if "pooling" in kind else ""
    return f"{FOLDER} has no counterpart for the {side} tower {kind}; {TIP}{other}."
