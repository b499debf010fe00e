"""Reading back what is known of a scene: the visible region of every object, by pixel and by patch."""

import zlib

import numpy as np
import pyarrow as pa

from frugalclip.core.errors import DataError
from frugalclip.data.manifest import CAPTIONS, IMAGE, Manifest

OBJECT = pa.struct(
    [
        ("concept", pa.string()),
        ("name", pa.string()),
        ("cutout", pa.string()),  # id of the picture it was cut from
        ("style", pa.string()),
        (
            "top",
            pa.int64(),
        ),  # pixels, as the next three; the box of the whole object, also where it is hidden
        ("left", pa.int64()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("visible", pa.float64()),  # share of its pixels that nothing stands in front of
        ("size", pa.string()),
        ("region", pa.string()),  # such as 'top left'
        ("colour", pa.string()),  # painted in; null for its own colours
        ("mirrored", pa.bool_()),
    ]
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image", IMAGE),
        ("captions", CAPTIONS),
        ("scene", pa.int64()),
        ("split", pa.string()),
        ("levels", pa.list_(pa.string())),  # of the captions: short, medium, long
        (
            "mentions",
            pa.list_(pa.list_(pa.int64())),
        ),  # for every caption the objects that it speaks of, truly
        ("concepts", pa.list_(pa.string())),  # of the objects, each once
        ("names", pa.list_(pa.string())),  # of the concepts
        ("style", pa.string()),
        ("objects", pa.list_(OBJECT)),  # from back to front
        ("background", pa.string()),
        ("background_colours", pa.list_(pa.string())),
        ("background_direction", pa.string()),
        ("key_object", pa.int64()),  # named only after the 77th token of the long caption
        ("key_word", pa.string()),
        ("key_token", pa.int64()),
        ("planted", pa.string()),
        ("planted_from", pa.string()),
        ("planted_detail", pa.string()),
        (
            "mask",
            pa.binary(),
        ),  # zlib of (height, width) uint8: 0 background, k + 1 the visible part of object k
    ]
)


def pack_labels(labels: np.ndarray) -> bytes:
    """A map of objects as the manifest stores it.

    Args:
        labels: (height, width) uint8.
    """
    return zlib.compress(labels.tobytes(), 1)


def regions(manifest: Manifest, row: int) -> np.ndarray:
    """The visible region of every object of a composed scene.

    Args:
        manifest: of scenes, as `data compose` writes it.
        row: of the manifest.

    Returns:
        (objects, height, width) bool, objects in the order of the field `objects`.

    Raises:
        DataError: when the data set has no masks.
    """
    if "mask" not in manifest.field_names or "objects" not in manifest.field_names:
        raise DataError(
            f"{manifest.name} has no field 'mask', so regions are not known; compose scenes with: "
            "frugalclip data compose PATH --out DIR"
        )
    labels = np.frombuffer(zlib.decompress(manifest.table["mask"][row].as_py()), dtype=np.uint8)
    side = round(len(labels) ** 0.5)
    count = len(manifest.table["objects"][row])
    return labels.reshape(side, side)[None] == np.arange(1, count + 1, dtype=np.uint8)[:, None, None]


def patch_labels(regions: np.ndarray, patch: int) -> np.ndarray:
    """How much of every patch each region covers.

    Args:
        regions: (objects, height, width) bool.
        patch: pixels of a patch's side, as in a vision transformer.

    Returns:
        (objects, rows, columns) float32 in 0 to 1.

    Raises:
        DataError: when patches do not fill the picture.
    """
    objects, height, width = regions.shape
    if patch < 1 or height % patch or width % patch:
        raise DataError(
            f"patches of {patch} pixels do not fill a picture of {height} x {width}; "
            "choose a divisor of both sides."
        )
    split = regions.reshape(objects, height // patch, patch, width // patch, patch)
    return split.mean(axis=(2, 4), dtype=np.float32)
