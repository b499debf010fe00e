"""Models as users hold them: images and texts in, unit vectors out.

`load` opens a run, a checkpoint or a foreign model. A checkpoint carries its architecture, tokenizer and
preprocessing, so that nothing has to be given twice and nothing can disagree with the weights unnoticed.
"""

from frugalclip.loading.images import prepared_images, readable_images
from frugalclip.models.description import FILES, FORMAT, read_description
from frugalclip.models.inputs import ImageLike, ModelInput
from frugalclip.models.load import load
from frugalclip.models.model import Layer, ManifestFeatures, Model
from frugalclip.models.text_only import TextOnlyModel

__all__ = [
    "FILES",
    "FORMAT",
    "ImageLike",
    "Layer",
    "ManifestFeatures",
    "Model",
    "ModelInput",
    "TextOnlyModel",
    "load",
    "prepared_images",
    "read_description",
    "readable_images",
]
