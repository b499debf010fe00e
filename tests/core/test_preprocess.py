"""Preprocessing: Pillow's resize and centre crop, any mode and shape, upright once, and back from JSON."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from frugalclip.core.errors import DataError
from frugalclip.core.preprocess import Preprocess, centre_box
from frugalclip.data.images import decode

IDENTITY = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def photo() -> Image.Image:
    """A smooth colourful image of 64 pixels."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(64))
    smooth = torch.nn.functional.interpolate(coarse, size=64, mode="bicubic").clamp(0, 1)
    return Image.fromarray((smooth * 255).round().to(torch.uint8)[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("shape", [(90, 60), (61, 200), (24, 24), (300, 299), (7, 5)])
def test_preprocess_is_resize_of_the_shorter_side_and_centre_crop(shape):
    image = photo().resize(shape)
    width, height = shape
    scale = 24 / min(shape)
    resized = image.resize((int(width * scale + 1e-9), int(height * scale + 1e-9)), Image.Resampling.BICUBIC)
    left, top = round((resized.width - 24) / 2), round((resized.height - 24) / 2)
    expected = np.asarray(resized.crop((left, top, left + 24, top + 24))) / 255
    ours = Preprocess(size=24, **IDENTITY)(image)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - expected).max() <= 1.01 / 255


@pytest.mark.parametrize("shape", [(90, 60), (61, 200), (28, 28), (300, 299), (7, 5)])
@pytest.mark.parametrize("resize", ["shorter", "squash"])
def test_a_crop_leaves_the_edge_of_the_resized_image_out(shape, resize):
    image = photo().resize(shape)
    width, height = shape
    sides = (28, 28) if resize == "squash" else (28 * width // min(shape), 28 * height // min(shape))
    left, top = (round((side - 24) / 2) for side in sides)
    resized = image.resize(sides, Image.Resampling.BICUBIC).crop((left, top, left + 24, top + 24))
    ours = Preprocess(size=24, resize=resize, crop=24 / 28, **IDENTITY)(image)[0].permute(1, 2, 0).numpy()
    inner = slice(2, -2)  # what is cut off is not read here, so that its edge is another
    assert np.abs(ours - np.asarray(resized) / 255)[inner, inner].max() <= 1.01 / 255


def test_the_default_crop_is_not_written_so_that_older_models_keep_their_fingerprints():
    assert "crop" not in Preprocess(size=16).model_dump(mode="json")
    assert Preprocess.model_validate(Preprocess(size=16, crop=0.875).model_dump(mode="json")).crop == 0.875


def test_preprocess_takes_any_mode_and_shape_and_comes_back_from_json():
    preprocess = Preprocess(size=16)
    assert Preprocess.model_validate(json.loads(json.dumps(preprocess.model_dump(mode="json")))) == preprocess
    images = [
        Image.new("1", (5, 9)),
        Image.new("P", (1, 1)),
        Image.new("CMYK", (3, 4)),
        Image.new("L", (60_000, 1), 200),
        Image.new("RGB", (1, 60_000), "red"),
        Image.new("RGBA", (8, 8), (255, 0, 0, 0)),
    ]
    out = preprocess(images)
    assert out.shape == (6, 3, 16, 16)
    white = (1 - torch.tensor(preprocess.mean)) / torch.tensor(preprocess.std)
    torch.testing.assert_close(out[5], white[:, None, None].expand(3, 16, 16))
    assert preprocess([]).shape == (0, 3, 16, 16)
    assert not torch.equal(Preprocess(size=16, resize="squash")(images[4]), Preprocess(size=16)(images[0]))
    left, top, right, bottom = centre_box((60_000, 1), 16)
    assert (top, bottom) == (0, 1)
    assert right - left == pytest.approx(1)
    with pytest.raises(DataError, match=r"PIL\.Image\.open"):
        preprocess(["x.png"])  # pyright: ignore[reportArgumentType]


def test_preprocess_turns_photos_upright_once():
    image = Image.new("RGB", (8, 8), "white")
    image.paste((255, 0, 0), (0, 0, 8, 4))
    exif = image.getexif()
    exif[0x0112] = 3
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    for opened in (Image.open(buffer), decode(buffer.getvalue())):
        turned = Preprocess(size=8, **IDENTITY)(opened)
        assert turned[0, 1, 0, 0] == 1  # red was on top; upside down it is below
        assert turned[0, 1, 7, 0] == 0
