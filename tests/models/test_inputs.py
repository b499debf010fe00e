"""Images go in as users have them: paths, PIL images, arrays and tensors; what is no image is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frugalclip.core.errors import DataError, ModelError
from frugalclip.models import Model

from .photos import photo


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Files of several sizes."""
    found = []
    for colour, size in (("red", (30, 20)), ("blue", (9, 90)), ("teal", (16, 16))):
        photo(colour, size).save(tmp_path / f"{colour}.png")
        found.append(tmp_path / f"{colour}.png")
    return found


def test_paths_arrays_and_tensors_give_what_their_images_give(model: Model, files: list[Path]):
    images = [Image.open(file) for file in files]
    expected = model.encode_image(images)
    arrays = [np.asarray(image) for image in images]
    tensors = [torch.from_numpy(array.copy()).permute(2, 0, 1) for array in arrays]
    for given in (files, [str(file) for file in files], arrays, tensors, [files[0], images[1], tensors[2]]):
        assert torch.equal(model.encode_image(given), expected)
    for given in (files[0], str(files[0]), arrays[0], tensors[0]):
        found = model.encode_image(given)
        assert found.shape == (1, 12)
        torch.testing.assert_close(found, expected[:1])


def test_stacked_images_are_several(model: Model):
    images = [photo("red"), photo("blue")]
    expected = model.encode_image(images)
    stacked = np.stack([np.asarray(image) for image in images])
    assert torch.equal(model.encode_image(stacked), expected)
    assert torch.equal(model.encode_image(torch.from_numpy(stacked).permute(0, 3, 1, 2)), expected)
    pixels = model.preprocess(images)
    assert torch.equal(model.encode_image(pixels), expected)
    assert torch.equal(model.encode_image(pixels.numpy()), expected)
    assert torch.equal(model.encode_image(list(pixels)), expected)


def test_batches_do_not_change_a_vector(model: Model, files: list[Path]):
    torch.testing.assert_close(model.encode_image(files, batch=2), model.encode_image(files))
    assert model.encode_image(files * 3, batch=2).shape == (9, 12)


def test_images_rank_by_a_product_with_texts(model: Model, files: list[Path]):
    scores = model.encode_image(files) @ model.encode_text(["a red square", "a blue circle"]).T
    assert scores.shape == (3, 2) and scores.abs().max() <= 1 + 1e-6


def test_files_that_are_no_images_are_named(model: Model, files: list[Path], tmp_path: Path):
    (tmp_path / "cut.png").write_bytes(files[0].read_bytes()[:40])
    (tmp_path / "text.png").write_text("no image at all")
    for file, sentence in (
        ("cut.png", r"cut\.png: "),
        ("text.png", r"text\.png: .*expected JPEG, PNG"),
        ("gone.png", r"gone\.png is not there; give the path of an image file"),
        (".", "is a folder, not an image file"),
    ):
        with pytest.raises(DataError, match=sentence):
            model.encode_image([files[0], tmp_path / file])


def test_what_is_no_image_is_refused(model: Model):
    pixels = torch.zeros(3, 16, 16)
    for given, sentence in (
        (torch.zeros(4, 4), r"shape \(4, 4\), expected \(batch, 3, height, width\)"),
        (torch.zeros(1, 4, 16, 16), r"shape \(1, 4, 16, 16\)"),
        (np.zeros((16, 16), np.uint8), r"uint8 of the shape \(16, 16\), expected \(height, width, 3\)"),
        (torch.zeros(16, 16, 3, dtype=torch.uint8), r"uint8 of the shape .*, expected \(3, height, width\)"),
        ([pixels, torch.zeros(3, 8, 8)], r"shapes \[\(3, 8, 8\), \(3, 16, 16\)\]; give one shape"),
        ([1], "got a int; expected paths"),
    ):
        with pytest.raises(ModelError, match=sentence):
            model.encode_image(given)  # pyright: ignore[reportArgumentType]
