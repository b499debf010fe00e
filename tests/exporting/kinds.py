"""Small models of every kind, with random weights."""

from typing import Any

import torch
from torch import nn

from frugalclip.compression.closing_fit import DESCRIPTORS
from frugalclip.core.preprocess import Preprocess
from frugalclip.data.tokens import Tokenizer, clip_tokenizer, train_tokenizer
from frugalclip.models import Model
from frugalclip.towers.described import WIDTHS
from frugalclip.towers.dual import DualEncoder, ModelConfig

CAPTIONS = ["a large red square", "two blue circles", "green", "the old car &amp; the tree", "a red circle"]
VIT: dict[str, Any] = {"kind": "vit", "width": 64, "depth": 2, "patch": 8, "resolution": 32}
TEXT: dict[str, Any] = {"kind": "transformer", "width": 64, "depth": 2}
RESNET: dict[str, Any] = {"kind": "resnet", "size": "nano", "resolution": 32}
CLIP_RESNET: dict[str, Any] = {
    "kind": "clip_resnet", "width": 128, "blocks": [1, 1, 1, 1], "resolution": 32, "head_dim": 32,
}  # fmt: skip
SIGLIP: dict[str, Any] = {
    "pool": "attention", "pre_norm": False, "patch_bias": True, "projection": "none",
    "activation": "gelu_tanh", "pool_activation": "gelu_tanh",
}  # fmt: skip
FILLED: dict[str, Any] = {
    "attention": "bidirectional", "pool": "last", "fill": 0, "project_bias": True, "activation": "gelu_tanh",
}  # fmt: skip
DESCRIBED: dict[str, Any] = {
    "kind": "described", "tower": RESNET, "embedding": 64, "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711], "descriptors": DESCRIPTORS,
    "head": {"kind": "whitened_parts", "parts": [64, *(WIDTHS[name] for name in DESCRIPTORS)]},
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "vit": {"image": VIT, "text": TEXT, "dim": 48},
    "vit of means": {
        "image": VIT | {"pool": "mean", "pre_norm": False, "patch_bias": True},
        "text": TEXT | {"attention": "bidirectional", "pool": "mean"},
        "dim": 48,
    },
    "siglip": {"image": VIT | SIGLIP, "text": TEXT | FILLED, "dim": 64},
    "resnet and bag": {"image": RESNET, "text": {"kind": "bag"}, "dim": 64},
    "clip_resnet": {"image": CLIP_RESNET, "text": TEXT | {"activation": "quick_gelu"}, "dim": 48},
    "irregular": {
        "image": VIT | {"width": 48, "depth": 3, "head_dim": 32, "heads": [2, 0, 1], "neurons": [40, 7, 0]},
        "text": TEXT | {"width": 40, "head_dim": 16, "heads": [1, 0], "neurons": [0, 9]},
        "dim": 48,
    },
    "described and tfidf": {"image": DESCRIBED, "text": {"kind": "tfidf"}, "dim": 48},
    "facets": {"image": VIT | {"facets": {"hidden": 32}}, "text": {"kind": "bag"}, "dim": 48},
}


def without_texts() -> Model:
    """An image tower alone."""
    config = ModelConfig.model_validate({"image": VIT, "text": {"kind": "none"}, "dim": 48})
    words = train_tokenizer(CAPTIONS, vocabulary=600, context=12)
    network = DualEncoder(config, vocabulary=words.vocabulary, context=words.context, seed=0)
    return Model(network.eval(), words, Preprocess(size=32))


def build(kind: str = "vit", *, tokenizer: Tokenizer | None = None, **changes: Any) -> Model:
    """A model of a kind; `changes` replace settings of both towers."""
    config = dict(KINDS[kind])
    for side, settings in changes.items():
        config[side] = config[side] | settings if isinstance(settings, dict) else settings
    words = tokenizer or train_tokenizer(CAPTIONS, vocabulary=600, context=12)
    if config["text"].get("fill") is not None:
        config["text"] = config["text"] | {"fill": words.pad}
    torch.manual_seed(0)
    network = DualEncoder(
        ModelConfig.model_validate(config), vocabulary=words.vocabulary, context=words.context, seed=0
    )
    _stir(network)
    size = network.config.image.resolution
    return Model(network.eval(), words, Preprocess(size=size), training_data={"path": "sample"})


def clip_words(context: int = 12) -> Tokenizer:
    """CLIP's vocabulary with a short context."""
    return clip_tokenizer(context)


def _stir(network: nn.Module) -> None:
    """Give every weight and fitted buffer a part in the output."""
    generator = torch.Generator().manual_seed(1)
    named = [*network.named_parameters(), *network.named_buffers()]
    for name, tensor in named:
        if not tensor.is_floating_point() or name.endswith(("bias_acts", "log_scale", ".mean", "std")):
            continue
        with torch.no_grad():
            noise = 0.05 * torch.randn(tensor.shape, generator=generator)
            tensor.add_(noise.abs() if name.endswith(("running_var", "level", "rarity")) else noise)
