"""How far an exported folder is from its model, measured on rows of the user's."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frugalclip.core.errors import DataError, ModelError
from frugalclip.core.finite import VectorOrigin, refuse_vectors
from frugalclip.data.manifest import Manifest
from frugalclip.exporting.base import ReadBack
from frugalclip.models import Model, readable_images

ROWS = 64  # images and texts that are compared
BATCHES = (1, 2, 7, 64)
LARGEST, LEAST_COSINE = 1e-4, 0.99999  # of fp32
STEPPED_SHARE, STEPPED_COSINE = 0.9, 0.999  # of towers that round: rows within `LARGEST`, and the others
STEPS = (
    "The image tower rounds pixel values on its way, so a last bit moves a few vectors by a step; "
    "'rows_within' in parity.json is the share of those that are equal."
)
_TIMED, _REPEATS = 16, 3
_CAPTIONED = 16  # rows whose captions are met, for each text: rows of a class have the same


@dataclass(frozen=True)
class ComparedRows:
    """What is compared."""

    name: str  # of the data set
    images: list[Image.Image]
    texts: list[str]


def sample_rows(manifest: Manifest, *, number: int = ROWS) -> ComparedRows:
    """Images of the first rows that can be read, and captions of the first rows.

    Raises:
        DataError: where no image can be read.
    """
    images = next(iter(readable_images(manifest, batch=number, faults=[])), (None, []))[1]
    if not images:
        raise DataError(f"no image of {manifest.name} can be read, so nothing can be compared; give --data.")
    first = manifest.take(np.arange(min(len(manifest), _CAPTIONED * number)))  # a table may be huge
    captions = [text for row in first.captions() for text in row if text.strip()]
    return ComparedRows(manifest.name, images, list(dict.fromkeys(captions))[:number])


def measure(model: Model, back: ReadBack, rows: ComparedRows, *, engine: str, folder: Path) -> dict[str, Any]:
    """What `parity.json` holds.

    Args:
        model: that was exported.
        back: the folder, read by its library.
        rows: to compare on.
        engine: name of the library's side of the speeds.
        folder: that was written, without anything else in it.
    """
    pixels = model.preprocess(rows.images)
    expected = model.encode_image(pixels)
    refuse_vectors(expected, origin=VectorOrigin("the model", "image"))
    content: dict[str, Any] = {
        "image": _apart(back.encode_pixels(pixels), expected),
        "text": None,
        "batches": {"sizes": list(BATCHES), "max_abs": _batches_apart(back.encode_pixels, pixels)},
        "size_mb": round(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6, 3),
        "images_per_second": _speeds(model, back, pixels, engine=engine),
        "rows": {"data": rows.name, "images": len(rows.images), "texts": len(rows.texts)},
        "library": back.library,
    }
    if back.encode_images is not None:
        content["image_own_preprocessing"] = _apart(back.encode_images(rows.images), expected)
    if back.encode_texts is not None and rows.texts:
        expected = model.encode_text(rows.texts)
        refuse_vectors(expected, rows.texts, origin=VectorOrigin("the model", "text"))
        content["text"] = _apart(back.encode_texts(rows.texts), expected)
    return content


def refuse_apart(parity: dict[str, Any], *, has_steps: bool = False) -> None:
    """Refuse an export in fp32 that does not compute what the model does.

    Args:
        parity: as measured.
        has_steps: whether the image tower rounds, so that a few of its vectors may move by a step.

    Raises:
        ModelError: with what was measured.
    """
    for side in ("image", "text"):
        found = parity[side]
        if found is None or _is_equal(found, may_step=has_steps and side == "image"):
            continue
        raise ModelError(
            f"the exported {side} tower is up to {found['max_abs']:.1e} from the model's vectors (cosine "
            f"{found['min_cosine']:.6f}), expected at most {LARGEST:.0e}; nothing was written. Report it "
            "with the model's recipe."
        )


def _is_equal(found: dict[str, float], *, may_step: bool) -> bool:
    if may_step:
        return found["rows_within"] >= STEPPED_SHARE and found["min_cosine"] >= STEPPED_COSINE
    return found["max_abs"] <= LARGEST and found["min_cosine"] >= LEAST_COSINE


def _apart(found: Tensor, expected: Tensor) -> dict[str, float]:
    """Largest difference and least cosine of (batch, dim) unit rows; zeros equal zeros."""
    is_zero = (expected.norm(dim=-1) == 0) & (found.norm(dim=-1) == 0)
    cosines = torch.where(is_zero, 1.0, torch.nn.functional.cosine_similarity(found, expected, dim=-1))
    apart = (found - expected).abs().amax(dim=-1)
    return {
        "max_abs": apart.max().item(),
        "min_cosine": cosines.min().item(),
        "rows_within": (apart <= LARGEST).float().mean().item(),
    }


def _batches_apart(encode: Callable[[Tensor], Tensor], pixels: Tensor) -> float:
    """Largest difference between batches of several sizes; few images are repeated."""
    many = pixels.repeat(-(-max(BATCHES) // len(pixels)), 1, 1, 1)[: max(BATCHES)]
    whole = encode(many)
    return max((encode(many[:size]) - whole[:size]).abs().max().item() for size in BATCHES)


def _speeds(model: Model, back: ReadBack, pixels: Tensor, *, engine: str) -> dict[str, float]:
    """Images a second, the best of a few runs, of images that are decoded."""
    some = pixels[:_TIMED]
    runs = {"torch": lambda: model.encode_image(some), engine: lambda: back.encode_pixels(some)}
    return {name: round(len(some) / _best(run), 1) for name, run in runs.items()}


def _best(run: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return max(min(seconds), 1e-9)
