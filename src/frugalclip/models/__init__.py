"""Models as users hold them: pictures and texts in, unit vectors out.

`load` reads a run directory or a checkpoint of this project, or a foreign model through a reader. A checkpoint carries its architecture,
tokenizer and preprocessing, so nothing has to be said twice and nothing can silently disagree with the weights.
"""

from frugalclip.loading.images import prepared_images, readable_images
from frugalclip.models.backbones import (
    TextOnlyModel,
    TowerBackbone,
    attach_backbones,
    attach_backbones_on_meta,
    backbone_tokenizer,
    check_options,
    fill_codebooks,
    image_model,
    is_backbone,
)
from frugalclip.models.model import FORMAT, SCHEMES, Layer, ManifestFeatures, Model, ModelInput, load

__all__ = [
    "FORMAT",
    "SCHEMES",
    "Layer",
    "ManifestFeatures",
    "Model",
    "ModelInput",
    "TextOnlyModel",
    "TowerBackbone",
    "attach_backbones",
    "attach_backbones_on_meta",
    "backbone_tokenizer",
    "check_options",
    "fill_codebooks",
    "image_model",
    "is_backbone",
    "load",
    "prepared_images",
    "readable_images",
]
