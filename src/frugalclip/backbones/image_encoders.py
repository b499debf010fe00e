"""Image encoders of Hugging Face as backbones: `hf:DIR` with a ViT, DeiT, DINOv2, DINOv3, or the pictures' half of CLIP or SigLIP.

The backbone's vector is the one that each model was published with: [CLS] after the last normalisation, or what SigLIP pools by attention. ViT's and
DeiT's `pooler` is left out, a layer that their published classifiers do not have and that transformers would draw at random. Tokens are the last
layer's states of the patches, without [CLS] and registers.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frugalclip.core.errors import ModelError, require
from frugalclip.core.records import read_json
from frugalclip.interop.foreign import understood
from frugalclip.interop.preprocessing import IMAGE_ENCODERS, read_preprocess
from frugalclip.language_model.source import quiet, weights_hash
from frugalclip.towers.pretrained import Backbone, BackboneOutput

POOLERLESS = ("vit", "deit")


class ImageEncoderBackbone(Backbone):
    """An image encoder of Hugging Face's library.

    Args:
        module: the encoder, of a type in `IMAGE_ENCODERS`.
        fingerprint: of its weights and settings.
    """

    def __init__(self, module: Any, *, fingerprint: str) -> None:
        super().__init__()
        self.module, self.fingerprint = module, fingerprint
        self.module.embeddings.mask_token = (
            None  # only masked pre-training reads it: a trained backbone has no parameter without gradient
        )
        config: Any = module.config
        self.width = int(config.hidden_size)
        self.prefix = IMAGE_ENCODERS[config.model_type] + int(getattr(config, "num_register_tokens", 0))
        # these refuse another size than their own unless asked; the other types always interpolate, or turn places by angles
        is_requested = config.model_type in ("vit", "deit", "clip_vision_model", "siglip_vision_model")
        self.options = {"interpolate_pos_encoding": True} if is_requested else {}

    def forward(self, inputs: Tensor, *, with_tokens: bool = False) -> BackboneOutput:
        """Read pictures (batch, 3, height, width), normalised as the weights want it; pooled (batch, width), tokens (batch, patches, width)."""
        output: Any = self.module(pixel_values=inputs, **self.options)
        states: Tensor = output.last_hidden_state  # (batch, prefix + patches, width)
        pooled = states[:, 0] if output.pooler_output is None else output.pooler_output
        return BackboneOutput(pooled, states[:, self.prefix :] if with_tokens else None)


def arguments(kind: str) -> dict[str, Any]:
    """What a type of model is made with."""
    return {"add_pooling_layer": False} if kind in POOLERLESS else {}


def is_vision_folder(folder: Path) -> bool:
    """Whether a folder's config.json is that of an image encoder alone; no weights are read."""
    file = folder / "config.json"
    content = read_json(file) if file.is_file() else None
    return isinstance(content, dict) and str(content.get("model_type")) in IMAGE_ENCODERS


def read_vision(folder: Path, *, size: int | None = None) -> ImageEncoderBackbone:
    """A backbone, with the preprocessing that the folder asks for. It reads pictures of any size, its embeddings of places interpolated.

    Args:
        folder: with config.json, preprocessor_config.json and safetensors, as `save_pretrained` writes them.
        size: pixels on a side of the pictures to come; default what the preprocessing makes.

    Raises:
        ModelError: for a folder that holds no such encoder, or not all of it.
        MissingExtra: without transformers.
    """
    if not is_vision_folder(folder):
        raise ModelError(
            f"{folder} {_found(folder)}, expected a folder with an image encoder ({', '.join(IMAGE_ENCODERS)}); others are read as timm:NAME@FILE."
        )
    transformers = require("transformers", extra="hf", purpose=f"reading {folder}")
    with understood(str(folder)):
        preprocess = read_preprocess(folder, defaults={})
    kind = read_json(folder / "config.json")["model_type"]
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} holds no *.safetensors; save the model with save_pretrained of a recent transformers."
        )
    try:
        with quiet(transformers):
            module, report = transformers.AutoModel.from_pretrained(
                str(folder),
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **arguments(kind),
            )
    except (
        Exception
    ) as error:  # the checks of a configuration raise classes of their own, and so do those of the weights
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{folder} cannot be read as an image encoder of type {kind} ({first}); copy it again."
        ) from error
    if report["missing_keys"]:
        first = min(report["missing_keys"])
        raise ModelError(
            f"{folder} lacks {len(report['missing_keys'])} tensors of its {kind}, such as {first}; copy it again."
        )
    if kind == "siglip_vision_model" and not module.config.vision_use_head:
        raise ModelError(
            f"{folder} has no pooling (vision_use_head: false), so its image encoder gives no vector of a picture; choose another one."
        )
    if (size or preprocess.size) < module.config.patch_size:
        patch = module.config.patch_size
        raise ModelError(
            f"{folder} reads patches of {patch} pixels, and pictures come with {size or preprocess.size}; set model.image.resolution={2 * patch}."
        )
    backbone = ImageEncoderBackbone(module.eval(), fingerprint=weights_hash(folder))
    backbone.preprocess = preprocess
    return backbone


def _found(folder: Path) -> str:
    file = folder / "config.json"
    if not file.is_file():
        return "has no config.json"
    content = read_json(file)
    return f"holds a model of type '{content.get('model_type') if isinstance(content, dict) else None}'"
