"""Images of a model that drops patches: those that its [CLS] attends to least are faded.

The trained tower scores its own view of whole images, as the average of the weights scored crops during
training (A-CLIP, arXiv 2212.08653, section 3.2 and figure 3), and keeps as many blocks. Images are drawn at
random.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frugalclip.core.random import stream_seed
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest
from frugalclip.models import Model
from frugalclip.objectives.attentive_mask import Config as AttentiveConfig
from frugalclip.objectives.attentive_mask import block_scores, highest_blocks
from frugalclip.report.gallery import Thumbnail, thumbnail

IMAGES = 8
SIDE = 96  # px
FADED = 0.25  # of a dropped patch's colour that is left; the rest is white


def selection_of(objectives: Mapping[str, Any]) -> AttentiveConfig | None:
    """The recipe's attentive selection that counts, if it has one.

    Args:
        objectives: their settings by name.
    """
    found = [
        one
        for one in objectives.values()
        if isinstance(one, AttentiveConfig) and one.weight > 0 and one.choose == "attentive"
    ]
    return found[0] if found else None


def kept_images(
    model: Model, manifest: Manifest, config: AttentiveConfig, *, seed: int = 0
) -> tuple[Thumbnail, ...]:
    """Images drawn at random, dropped patches faded.

    Args:
        model: an image tower with a [CLS] token.
        manifest: images to draw from.
        config: share and size of the blocks that are kept.
        seed: of the draw.
    """
    reader, captions = ImageReader(manifest), [next(iter(texts), "") for texts in manifest.captions()]
    images, texts = [], []
    for row in np.random.default_rng(stream_seed(seed, "report/kept")).permutation(len(manifest)).tolist():
        try:
            images.append(reader.image(row))
            texts.append(captions[row])
        except BadImage:
            continue
        if len(images) == IMAGES:
            break
    if not images:
        return ()
    kept = kept_patches(model, model.preprocess(images), config)  # (images, rows, columns)
    return tuple(
        thumbnail(_faded(model.preprocess.resized(image), mask), text, side=SIDE)
        for image, mask, text in zip(images, kept, texts, strict=True)
    )


@torch.inference_mode()
def kept_patches(model: Model, pixels: Tensor, config: AttentiveConfig) -> Tensor:
    """(images, rows, columns) bool of the patches that stay."""
    attention = model.network.image(pixels.to(model.device), with_attention=True).attention
    assert attention is not None, "requested above"
    grid = model.network.config.image.grid
    blocks = block_scores(attention, grid=grid, block=config.block)
    patches = highest_blocks(
        blocks, grid=grid, block=config.block, number=config.blocks_kept(blocks.shape[1])
    )
    return torch.zeros_like(attention, dtype=torch.bool).scatter(1, patches, True).view(-1, *grid).cpu()


def _faded(image: Image.Image, mask: Tensor) -> Image.Image:
    """An enlarged image whose patches outside `mask` (rows, columns) are nearly white."""
    stays = Image.fromarray((mask.numpy() * 255).astype(np.uint8)).resize(
        (SIDE, SIDE), Image.Resampling.NEAREST
    )
    large = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return Image.composite(large, Image.blend(Image.new("RGB", large.size, "white"), large, FADED), stays)
