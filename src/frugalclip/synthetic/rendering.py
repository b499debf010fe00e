"""Layouts to pixels, and what of every object can be seen."""

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from frugalclip.core.random import uniform
from frugalclip.synthetic.atlas import Atlas
from frugalclip.synthetic.colours import rgb
from frugalclip.synthetic.layout import Background, Layout
from frugalclip.synthetic.plan import ScenePlan

EXTENSIONS = {"jpeg": "jpg", "webp": "webp", "png": "png"}
_SPECKLE = 44.0  # range of brightness of a speckled background
_STRIPES = 8  # over the canvas


@dataclass(frozen=True)
class Rendering:
    """A scene in pixels."""

    pixels: np.ndarray  # (canvas, canvas, 3) uint8
    labels: np.ndarray  # (canvas, canvas) uint8: 0 background, k + 1 where object k is the foremost
    visible: np.ndarray  # (objects,) float64, share of an object's pixels that can be seen
    # (objects, objects) float64, share of the first object's pixels that the second covers
    hidden_by: np.ndarray


def paint(layout: Layout, plan: ScenePlan, atlas: Atlas) -> Rendering:
    """Put every object on the background, from back to front."""
    canvas = _paint_background(layout.background, plan, layout.number).copy()
    labels = np.zeros((plan.canvas, plan.canvas), dtype=np.uint8)
    count = len(layout.objects)
    areas, hidden = np.zeros(count), np.zeros((count, count))
    for place, one in enumerate(layout.objects):
        layer = atlas.layer(one.cutout, one.side, mirrored=one.mirrored, colour=one.colour)
        box = np.s_[one.top : one.top + one.height, one.left : one.left + one.width]
        part = canvas[box]
        part *= layer.through
        part += 127
        part //= 255
        part += layer.colours
        areas[place] = max(1, np.count_nonzero(layer.solid))
        behind = labels[box]
        if behind.any():
            hidden[:place, place] = np.bincount(behind[layer.solid], minlength=count + 1)[1 : place + 1]
        behind[layer.solid] = place + 1
    visible = np.bincount(labels.ravel(), minlength=count + 1)[1:] / areas
    return Rendering(np.minimum(canvas, 255).astype(np.uint8), labels, visible, hidden / areas[:, None])


def encode(pixels: np.ndarray, plan: ScenePlan) -> bytes:
    """A picture as a file.

    Args:
        pixels: (height, width, 3) uint8.
        plan: format and quality. Pillow encodes, whatever else is installed, so that the bytes do not depend
            on it.
    """
    options = {
        "jpeg": {"quality": plan.quality, "subsampling": 0},
        "webp": {"quality": plan.quality, "method": 2},
        "png": {"compress_level": 6},
    }
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, plan.format.upper(), **options[plan.format])
    return buffer.getvalue()


def _paint_background(background: Background, plan: ScenePlan, number: int) -> np.ndarray:
    """(canvas, canvas, 3) uint16, not to be written to."""
    if background.kind != "speckled":
        return _plain_background(background, plan.canvas)
    grains = -(-plan.canvas // 2)
    noise = uniform(plan.seed, "scenes/speckle", np.array([number]), grains * grains).reshape(grains, grains)
    grain = (
        ((noise - 0.5) * _SPECKLE)
        .astype(np.float32)
        .repeat(2, 0)
        .repeat(2, 1)[: plan.canvas, : plan.canvas, None]
    )
    return _clipped(rgb(background.colours[0]) + background.shade + grain)


@lru_cache(maxsize=1024)
def _plain_background(background: Background, side: int) -> np.ndarray:
    """(side, side, 3) uint16 of what needs no noise; there are some thousand of them, and many scenes."""
    first, last = (rgb(name) + background.shade for name in (background.colours[0], background.colours[-1]))
    if background.kind == "plain":
        return _clipped(np.broadcast_to(first, (side, side, 3)))
    along = (np.arange(side, dtype=np.float32) + 0.5) / side  # 0 to 1
    down, right = along[:, None], along[None, :]
    place = {"vertical": down, "horizontal": right, "diagonal": (down + right) / 2}[background.direction]
    if background.kind == "split":
        place = np.where(place < 0.5, 0.0, 1.0).astype(np.float32)
    elif background.kind == "striped":
        place = (np.floor(place * _STRIPES) % 2).astype(np.float32)
    place = np.broadcast_to(place, (side, side))[..., None]
    return _clipped(first + place * (last - first))


def _clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint16)
