"""Prepares images for a tower, as users have them: paths, PIL images, arrays and tensors."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frugalclip.core.errors import DataError, ModelError
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.types import CachedFeatures
from frugalclip.data.image_faults import BadImage
from frugalclip.data.images import decode

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
ModelInput = ImageLike | Sequence[ImageLike] | CachedFeatures


def pixel_batches(
    images: ImageLike | Sequence[ImageLike], preprocess: Preprocess, *, batch: int
) -> Iterator[Tensor]:
    """Batches of pixels, ready for a tower; files are opened batch by batch.

    Args:
        images: one image or several: paths, PIL images, uint8 arrays (height, width, 3) or uint8 tensors (3,
            height, width). Float arrays and tensors, (3, height, width) or (batch, 3, height, width), are
            taken as already preprocessed.
        preprocess: of the model.
        batch: images of a batch.

    Yields:
        (batch, 3, height, width) float32, normalised.

    Raises:
        DataError: naming the file that is missing or does not decode.
        ModelError: for an array of another shape, or something that is no image.
    """
    if isinstance(images, np.ndarray | Tensor) and not _is_uint8(images):
        yield from _preprocessed(images).split(batch)
        return
    listed = _listed(images)
    for start in range(0, len(listed), batch):
        parts = [_prepared(one, preprocess) for one in listed[start : start + batch]]
        if len(shapes := {tuple(part.shape[1:]) for part in parts}) > 1:
            raise ModelError(
                f"encode_image got preprocessed images of the shapes {sorted(shapes)}; give one shape."
            )
        yield torch.cat(parts)


def _listed(images: ImageLike | Sequence[ImageLike]) -> Sequence[ImageLike]:
    if isinstance(images, np.ndarray | Tensor):
        return list(images) if images.ndim == 4 else [images]
    return [images] if isinstance(images, str | Path | Image.Image) else list(images)


def _prepared(image: ImageLike, preprocess: Preprocess) -> Tensor:
    """(1, 3, height, width) of one image."""
    if isinstance(image, str | Path):
        return preprocess(_opened(Path(image)))
    if isinstance(image, Image.Image):
        return preprocess(image)
    if not isinstance(image, np.ndarray | Tensor):
        raise ModelError(
            f"encode_image got a {type(image).__name__}; expected paths, PIL images, arrays or tensors."
        )
    return preprocess(_pil_image(image)) if _is_uint8(image) else _preprocessed(image)


def _opened(file: Path) -> Image.Image:
    """An image file as upright RGB on white."""
    if not file.is_file():
        what = "a folder, not an image file" if file.is_dir() else "not there"
        raise DataError(f"{file} is {what}; give the path of an image file.")
    try:
        return decode(file.read_bytes())
    except BadImage as error:
        raise BadImage(error.cause, f"{file}: {error}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error}); check its permissions.") from error


def _is_uint8(image: np.ndarray | Tensor) -> bool:
    return image.dtype in (np.uint8, torch.uint8)


def _pil_image(image: np.ndarray | Tensor) -> Image.Image:
    """A PIL image from a uint8 array with channels last, or a uint8 tensor with channels first."""
    values = image.permute(1, 2, 0).cpu().numpy() if isinstance(image, Tensor) and image.ndim == 3 else image
    if values.ndim != 3 or values.shape[2] != 3:
        expected = "(3, height, width)" if isinstance(image, Tensor) else "(height, width, 3)"
        raise ModelError(f"encode_image got uint8 of the shape {tuple(image.shape)}, expected {expected}.")
    return Image.fromarray(np.asarray(values))


def _preprocessed(images: np.ndarray | Tensor) -> Tensor:
    """(batch, 3, height, width) float32 of numbers that are preprocessed already."""
    pixels = torch.as_tensor(images).float()
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ModelError(
            f"encode_image got numbers of the shape {tuple(images.shape)}, expected (batch, 3, height, "
            "width); model.preprocess makes them from PIL images."
        )
    return pixels
