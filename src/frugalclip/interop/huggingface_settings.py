"""Settings of `CLIPModel` and `SiglipModel` as ours, and ours as theirs.

Source: transformers `modeling_clip.py`, `modeling_siglip.py` and their configurations. What reading the
written settings gives must be the model's own settings; whatever differs has no counterpart there.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from frugalclip.core.errors import ModelError
from frugalclip.data.tokens import Tokenizer
from frugalclip.interop.counterparts import TIP, refuse_difference, refuse_uneven
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.sizes import TransformerConfig
from frugalclip.towers.text import TextConfig
from frugalclip.towers.vit import VitConfig

HuggingFaceKind = Literal["clip", "siglip"]
CLASSES: dict[HuggingFaceKind, str] = {"clip": "CLIPModel", "siglip": "SiglipModel"}
KINDS_BY_TYPE: dict[str, HuggingFaceKind] = {str(kind): kind for kind in CLASSES}
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
}
_NAMES = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}  # ours: theirs
ConfigT = TypeVar("ConfigT", bound=TransformerConfig)


def image_config(vision: Mapping[str, Any], kind: HuggingFaceKind, *, where: str) -> VitConfig:
    """Settings of our image tower for a `vision_config` with all its keys.

    Raises:
        ModelError: naming what has no counterpart here.
    """
    if vision["num_channels"] != 3:
        raise ModelError(f"{where} encodes images of {vision['num_channels']} channels, ours have 3.")
    if kind == "siglip" and not vision["vision_use_head"]:
        raise ModelError(
            f"{where} has no pooling (vision_use_head: false), so its image tower gives no embedding."
        )
    size, patch = int(vision["image_size"]), int(vision["patch_size"])
    settings = {**_layers(vision, where), "patch": patch, "resolution": size, "trim": bool(size % patch)}
    if kind == "siglip":
        settings |= {
            "pool": "attention",
            "pre_norm": False,
            "patch_bias": True,
            "projection": "none",
            "pool_neurons": int(vision["intermediate_size"]),
            "pool_activation": settings["activation"],
        }
    return VitConfig.model_validate(settings)


def text_config(text: Mapping[str, Any], kind: HuggingFaceKind, *, fill: int, where: str) -> TextConfig:
    """Settings of our text tower for a `text_config` with all its keys; `fill` is the id of padding."""
    settings = _layers(text, where)
    if kind == "siglip":
        settings |= {"attention": "bidirectional", "pool": "last", "fill": fill, "project_bias": True}
    return TextConfig.model_validate(settings)


def written_config(network: DualEncoder, tokenizer: Tokenizer) -> dict[str, Any]:
    """`config.json` of the class that computes what our network does.

    Raises:
        ModelError: naming the setting that neither class has a counterpart for.
    """
    image, text, dim = network.config.image, network.config.text, network.config.dim
    if not (isinstance(image, VitConfig) and isinstance(text, TextConfig)):
        kinds = " and ".join(str(getattr(one, "kind", type(one).__name__)) for one in (image, text))
        raise ModelError(
            "Hugging Face's CLIPModel and SiglipModel are two transformers, and this model has the towers "
            f"{kinds}; {TIP}."
        )
    kind: HuggingFaceKind = "siglip" if image.pool == "attention" else "clip"
    where = f"Hugging Face's {CLASSES[kind]}"
    for tower, config in (("image tower", image), ("text tower", text)):
        refuse_uneven(config, where=where, tower=tower)
    size = {"image_size": image.resolution, "patch_size": image.patch, "num_channels": 3}
    of_kind: dict[str, Any] = {"vision_use_head": True} if kind == "siglip" else {"projection_dim": dim}
    vision = _written_layers(image) | size | of_kind
    of_text = {"projection_size": dim} if kind == "siglip" else of_kind
    words = _written_layers(text) | _text_sizes(network, tokenizer) | of_text
    refuse_difference(image, image_config(vision, kind, where=where), where=where, tower="image tower")
    filled = text_config(words, kind, fill=tokenizer.settings.pad, where=where)
    refuse_difference(text, filled, where=where, tower="text tower")
    return {
        "architectures": [CLASSES[kind]],
        "model_type": kind,
        **({"projection_dim": dim} if kind == "clip" else {}),
        "text_config": {"model_type": f"{kind}_text_model", **words},
        "vision_config": {"model_type": f"{kind}_vision_model", **vision},
        "dtype": "float32",
        "torch_dtype": "float32",
    }


def sizes_config(network: DualEncoder, tokenizer: Tokenizer) -> dict[str, Any]:
    """`config.json` of graphs that stand for a `CLIPModel`: sizes and ids alone, whatever the towers are."""
    dim, sizes = network.config.dim, _text_sizes(network, tokenizer)
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": dim,
        "text_config": {"model_type": "clip_text_model", "projection_dim": dim, **sizes},
        "vision_config": {
            "model_type": "clip_vision_model",
            "projection_dim": dim,
            "image_size": network.config.image.resolution,
        },
    }


def _text_sizes(network: DualEncoder, tokenizer: Tokenizer) -> dict[str, int]:
    """What `text_config` holds of the vocabulary, whatever the tower is."""
    special = tokenizer.settings
    return {
        "vocab_size": network.vocabulary,
        "max_position_embeddings": network.context,
        "bos_token_id": special.start,
        "eos_token_id": special.end,
        "pad_token_id": special.pad,
    }


def _layers(tower: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What both towers' settings share."""
    width, depth = int(tower["hidden_size"]), int(tower["num_hidden_layers"])
    return {
        "width": width,
        "depth": depth,
        "head_dim": width // int(tower["num_attention_heads"]),
        "neurons": (int(tower["intermediate_size"]),) * depth,
        "activation": _activation(tower, where),
        "norm_eps": float(tower["layer_norm_eps"]),
    }


def _written_layers(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `_layers`; what layers have in different sizes, the comparison names."""
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": max(1, config.width // config.head_dim),
        "intermediate_size": max(config.neurons, default=4 * config.width),
        "hidden_act": _NAMES[config.activation],
        "layer_norm_eps": config.norm_eps,
    }


def _activation(tower: Mapping[str, Any], where: str) -> str:
    name = str(tower["hidden_act"])
    if name not in ACTIVATIONS:
        raise ModelError(
            f"{where} has the activation {name}; {', '.join(ACTIVATIONS)} have counterparts here."
        )
    return ACTIVATIONS[name]
