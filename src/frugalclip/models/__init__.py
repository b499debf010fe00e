"""Models as users hold them: pictures and texts in, unit vectors out.

`load` reads a run directory or a checkpoint of this project, or a foreign model through a reader. A checkpoint carries its architecture,
tokenizer and preprocessing, so nothing has to be said twice and nothing can silently disagree with the weights.
"""

from frugalclip.loading.images import prepared_images, readable_images
from frugalclip.models.model import FORMAT, SCHEMES, Layer, ManifestFeatures, Model, ModelInput, load
from frugalclip.models.trunks import (
    LoneTrunk,
    OwnTrunk,
    check_options,
    fill_codebooks,
    image_model,
    is_trunk,
    lend_shapes,
    lend_trunks,
    trunk_tokenizer,
)

__all__ = [
    "FORMAT",
    "SCHEMES",
    "Layer",
    "LoneTrunk",
    "ManifestFeatures",
    "Model",
    "ModelInput",
    "OwnTrunk",
    "check_options",
    "fill_codebooks",
    "image_model",
    "is_trunk",
    "lend_shapes",
    "lend_trunks",
    "load",
    "prepared_images",
    "readable_images",
    "trunk_tokenizer",
]
