import colorsys
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.random import uniform
from frugalclip.loading.colours import gaussian_blur, jitter
from frugalclip.loading.crops import boxes_around, crop_boxes
from frugalclip.loading.views import PRESETS, ViewConfig, make_view, source_size, view_order

IDENTITY = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
EVERYTHING = ViewConfig(
    crop_scale=(0.08, 1),
    flip=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_probability=0.8,
    grayscale=0.3,
    blur=0.5,
    solarize=0.3,
)


def photos(batch: int, side: int = 40) -> torch.Tensor:
    """Smooth colourful pictures: (batch, 3, side, side) uint8."""
    generator = torch.Generator().manual_seed(side)
    coarse = torch.rand(batch, 3, 6, 6, generator=generator)
    return (
        (torch.nn.functional.interpolate(coarse, size=side, mode="bicubic").clamp(0, 1) * 255)
        .round()
        .to(torch.uint8)
    )


def view(config: ViewConfig, pixels: torch.Tensor, *, rows=None, epoch=0, size=24, name="main", sizes=None):
    rows = np.arange(len(pixels)) if rows is None else rows
    sizes = torch.full((len(pixels), 2), 100) if sizes is None else sizes
    made = make_view(pixels, sizes, config, size=size, rows=rows, epoch=epoch, seed=3, name=name, **IDENTITY)
    return made.images, made.boxes


def as_pil(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [12, 31, 60])  # smaller than, near and larger than the crop
def test_a_crop_is_what_pillow_cuts_and_resizes(name, size):
    pixels = photos(4)
    config = ViewConfig(crop_scale=(0.2, 0.9), interpolation=name)
    sizes = torch.tensor([[40, 40], [80, 20], [400, 700], [40, 44]])
    ours, boxes = view(config, pixels, sizes=sizes, size=size)
    kind = getattr(Image.Resampling, name.upper())
    for photo, out, (top, left, height, width), (full_height, full_width) in zip(
        pixels, ours, boxes.tolist(), sizes.tolist(), strict=True
    ):
        y, x = 40 / full_height, 40 / full_width
        box = (left * x, top * y, min((left + width) * x, 40), min((top + height) * y, 40))
        expected = np.asarray(as_pil(photo).resize((size, size), kind, box=box)) / 255
        error = np.abs(
            out.permute(1, 2, 0).numpy() - expected
        )  # Pillow rounds and clips to 8 bit after each direction
        assert error.max() < 2.1 / 255
        assert error.mean() < 0.5 / 255


def test_boxes_follow_torchvisions_rule_written_as_a_loop():
    sizes = np.array([[100, 100], [30, 200], [200, 30], [1, 50], [1, 1], [640, 480]] * 5)
    config = ViewConfig(crop_scale=(0.3, 1), crop_ratio=(0.75, 4 / 3))
    draws = uniform(0, "t", np.arange(len(sizes)), 32)
    boxes = crop_boxes(sizes, draws, scale=config.crop_scale, ratio=config.crop_ratio)
    fallbacks = 0
    for (height, width), draw, box in zip(sizes.tolist(), draws, boxes.tolist(), strict=True):
        for i in range(10):
            area = height * width * (0.3 + 0.7 * draw[i])
            ratio = math.exp(math.log(0.75) + (math.log(4 / 3) - math.log(0.75)) * draw[10 + i])
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                expected = [
                    math.floor(draw[20] * (height - h + 1)),
                    math.floor(draw[21] * (width - w + 1)),
                    h,
                    w,
                ]
                break
        else:
            fallbacks += 1
            h, w = height, width
            if width / height < 0.75:
                h = round(width / 0.75)
            elif width / height > 4 / 3:
                w = round(height * 4 / 3)
            expected = [(height - h) // 2, (width - w) // 2, h, w]
        assert box == expected
    assert 0 < fallbacks < len(sizes)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**40), st.floats(0.01, 1))
@settings(max_examples=100, deadline=None)
def test_boxes_lie_inside_any_image(height, width, row, scale):
    config = ViewConfig(crop_scale=(scale, 1))
    draws = uniform(1, "v", np.array([row]), 32)
    top, left, h, w = crop_boxes(
        np.array([[height, width]]), draws, scale=config.crop_scale, ratio=config.crop_ratio
    )[0]
    assert 0 <= top <= top + h <= height
    assert 0 <= left <= left + w <= width
    assert min(h, w) >= 1


def test_a_row_does_not_depend_on_its_batch_mates():
    pixels = photos(70)
    sizes = torch.randint(20, 200, (70, 2), generator=torch.Generator().manual_seed(0))
    rows = np.arange(70) * 13
    together, boxes = view(EVERYTHING, pixels, rows=rows, sizes=sizes)
    order = np.random.default_rng(0).permutation(70)
    shuffled, _ = view(EVERYTHING, pixels[order], rows=rows[order], sizes=sizes[order])
    # 1e-6, not to the bit: matrix products and means may be split another way in a batch of another shape
    torch.testing.assert_close(shuffled, together[order], rtol=0, atol=1e-6)
    for i in (0, 37, 69):
        alone, box = view(EVERYTHING, pixels[i : i + 1], rows=rows[i : i + 1], sizes=sizes[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-6)
        assert box[0].tolist() == boxes[i].tolist()
    again, _ = view(EVERYTHING, pixels, rows=rows, sizes=sizes)
    assert torch.equal(again, together)  # the same batch is the same to the bit, which resuming stands on


def test_choices_change_with_epoch_row_and_view_and_nothing_else():
    pixels = photos(1).expand(6, -1, -1, -1)
    config = ViewConfig(crop_scale=(0.3, 1))
    _, boxes = view(config, pixels)
    assert len(set(map(tuple, boxes.tolist()))) == 6  # rows
    assert view(config, pixels)[1].equal(boxes)
    assert not view(config, pixels, epoch=1)[1].equal(boxes)
    assert not view(config, pixels, name="second")[1].equal(boxes)
    with_colour = config.model_copy(update={"jitter": (0.4, 0.4, 0.4, 0.1), "flip": 0.5, "blur": 1.0})
    assert view(with_colour, pixels)[1].equal(boxes)  # an option more leaves the crops alone


def test_flip_mirrors_the_same_crop():
    pixels = photos(3)
    plain, boxes = view(ViewConfig(crop_scale=(0.3, 0.8)), pixels)
    flipped, same = view(ViewConfig(crop_scale=(0.3, 0.8), flip=1), pixels)
    assert same.equal(boxes)
    torch.testing.assert_close(flipped.flip(-1), plain, rtol=0, atol=1e-5)
    assert not torch.allclose(flipped, plain, atol=1e-2)


def test_jitter_in_the_order_brightness_contrast_saturation_hue_one_pixel_at_a_time():
    generator = torch.Generator().manual_seed(1)
    photo = torch.rand(3, 3, 4, 4, generator=generator)
    photo[0, :, 0, 0] = 0.5  # gray, black and white pixels have no hue
    photo[0, :, 0, 1] = 0
    photo[0, :, 0, 2] = 1
    settings_of_rows = torch.tensor([[1.3, 0.7, 1.4, 0.09], [0.6, 1.4, 0.2, -0.4], [1.0, 1.0, 1.0, 0.5]])
    ours = jitter(photo.clone(), settings_of_rows)
    for row, (brightness, contrast, saturation, turn) in zip(
        range(3), settings_of_rows.tolist(), strict=True
    ):
        x = (photo[row].double() * brightness).clamp(0, 1)
        luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None, None]
        x = (contrast * x + (1 - contrast) * (x * luma).sum(0).mean()).clamp(0, 1)
        x = (saturation * x + (1 - saturation) * (x * luma).sum(0)).clamp(0, 1)
        for i in range(4):
            for j in range(4):
                hue, colour, value = colorsys.rgb_to_hsv(*x[:, i, j].tolist())
                expected = colorsys.hsv_to_rgb((hue + turn) % 1, colour, value)
                assert ours[row, :, i, j].tolist() == pytest.approx(expected, abs=2e-5)


def test_blur_is_a_gaussian_average_that_keeps_flat_images():
    flat = torch.full((2, 3, 9, 9), 0.7)
    torch.testing.assert_close(gaussian_blur(flat, torch.tensor([0.3, 3.0])), flat)
    point = torch.zeros(1, 3, 21, 21)
    point[:, :, 10, 10] = 1
    out = gaussian_blur(point, torch.tensor([1.0]))[0, 0]
    distance = torch.arange(21) - 10
    weights = torch.exp(-0.5 * distance.double() ** 2)
    weights /= weights.sum()
    torch.testing.assert_close(out.double(), weights[:, None] * weights, rtol=0, atol=1e-6)


def test_gray_and_solarized_images_are():
    pixels = photos(4)
    gray, _ = view(ViewConfig(grayscale=1), pixels)
    torch.testing.assert_close(gray[:, 0], gray[:, 2])
    assert view(ViewConfig(solarize=1), pixels)[0].max() <= 0.5
    plain, solarized = view(ViewConfig(), pixels)[0], view(ViewConfig(solarize=1), pixels)[0]
    torch.testing.assert_close(solarized, torch.where(plain >= 0.5, 1 - plain, plain))


def test_each_operation_happens_as_often_as_wanted():
    pixels = photos(1).expand(400, -1, -1, -1)
    half = ViewConfig(grayscale=0.25)
    images, _ = view(half, pixels, size=6)
    share = (images[:, 0] - images[:, 2]).abs().amax(dim=(1, 2)).lt(1e-6).float().mean().item()
    assert 0.18 < share < 0.32


def test_blur_keeps_its_strength_at_every_size():
    pixels = photos(2, side=112)
    config = ViewConfig(blur=1, blur_sigma=(20, 20), crop_scale=(1, 1))
    small, large = view(config, pixels, size=28)[0], view(config, pixels, size=56)[0]
    pooled = torch.nn.functional.avg_pool2d(large, 2)
    assert (small - pooled).abs().max() < 0.01


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_named_validated_and_bounded(name):
    config = validated(_Section, {"views": {"main": name}}, where="").views["main"]
    assert config == PRESETS[name] == ViewConfig.model_validate(json.loads(config.model_dump_json()))
    images, _ = view(config, photos(5))
    assert images.shape == (5, 3, 24, 24)
    assert images.dtype == torch.float32
    assert (images >= 0).all()
    assert (images <= 1).all()


class _Section(Settings):
    views: dict[str, ViewConfig]


def test_a_preset_can_be_changed_and_mistakes_say_what_is_known():
    config = validated(_Section, {"views": {"main": {"preset": "clip", "flip": 0.5}}}, where="").views["main"]
    assert config == PRESETS["clip"].model_copy(update={"flip": 0.5})
    for value, message in [
        ("clipp", "'clipp' is not a view; did you mean 'clip'"),
        ({"preset": "clip", "flop": 1}, r"views\.main\.flop is not a setting; did you mean 'flip'"),
        ({"crop_scale": [0.9, 0.5]}, r"\[smallest, largest\]"),
        ({"crop_scale": [0.9, 1.5]}, "at most 1"),
        ({"jitter": [0.4, 0.4, 0.4, 0.7]}, r"hue at most 0\.5"),
    ]:
        with pytest.raises(RecipeError, match=message):
            validated(_Section, {"views": {"main": value}}, where="")


def test_source_size_covers_the_smallest_crop_within_reason():
    assert source_size([PRESETS["none"]], size=64) == 64
    assert source_size([PRESETS["clip"]], size=64) == 91
    assert source_size([PRESETS["clip"], PRESETS["slip"]], size=64) == 96
    assert source_size([PRESETS["clip"], ViewConfig(size=128)], size=64) == 128


def test_the_view_none_is_the_preprocessing_of_evaluation():
    image = as_pil(photos(1, side=64)[0]).resize((90, 60))
    preprocess = Preprocess(size=24, **IDENTITY)
    squashed = torch.from_numpy(np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC)).copy()).permute(
        2, 0, 1
    )[None]
    config = PRESETS["none"].model_copy(update={"interpolation": "bicubic"})
    ours, box = view(config, squashed, sizes=torch.tensor([[60, 90]]))
    assert box.tolist() == [[0, 15, 60, 60]]
    assert (ours - preprocess(image)).abs().mean() < 0.01


def test_a_box_around_others_holds_them_and_stays_inside_the_image_in_ten_thousand_draws():
    shapes = np.array([[375, 500], [500, 375], [480, 480], [31, 200], [1, 1]])
    sizes = shapes[np.arange(10_000) % 5]
    config = ViewConfig(crop_scale=(0.3, 1))
    inner = [
        crop_boxes(
            sizes,
            uniform(0, name, np.arange(10_000), 32),
            scale=config.crop_scale,
            ratio=config.crop_ratio,
        )
        for name in ("main", "second")
    ]
    boxes = boxes_around(inner, sizes, uniform(0, "around", np.arange(10_000), 4))
    assert (
        (boxes == np.rint(boxes)).all()
        and (boxes[:, :2] >= 0).all()
        and (boxes[:, :2] + boxes[:, 2:] <= sizes).all()
    )
    for box in inner:
        assert (boxes[:, :2] <= box[:, :2]).all() and (
            boxes[:, :2] + boxes[:, 2:] >= box[:, :2] + box[:, 2:]
        ).all()
    tightest = np.minimum(inner[0][:, :2], inner[1][:, :2])
    assert (boxes[:, :2] < tightest).any(axis=0).all() and (boxes[:, :2] == tightest).any(axis=0).all(), (
        "anywhere between the edges"
    )


def test_edges_of_a_box_around_others_are_drawn_one_by_one():
    inner, size = np.array([[20.0, 30, 10, 40]]), np.array([[50, 100]])
    for draws, expected in [
        ([0, 0, 0, 0], [0, 0, 30, 70]),
        ([0.999, 0.999, 0, 0], [20, 30, 10, 40]),
        ([0.999, 0.999, 0.999, 0.999], [20, 30, 30, 70]),
        ([0, 0, 0.999, 0.999], [0, 0, 50, 100]),
        ([0.5, 0, 0.5, 0], [10, 0, 30, 70]),
    ]:
        assert boxes_around([inner], size, np.array([draws])).tolist() == [expected]


def test_each_place_of_an_edge_is_as_likely():
    inner, sizes = np.tile([[3.0, 0, 2, 5]], (4000, 1)), np.tile([[9, 5]], (4000, 1))
    boxes = boxes_around([inner], sizes, uniform(0, "around", np.arange(4000), 4))
    tops, ends = (
        np.unique(boxes[:, 0], return_counts=True),
        np.unique(boxes[:, 0] + boxes[:, 2], return_counts=True),
    )
    assert tops[0].tolist() == [0, 1, 2, 3] and ends[0].tolist() == [5, 6, 7, 8, 9]
    assert (abs(tops[1] / 4000 - 1 / 4) < 0.03).all() and (abs(ends[1] / 4000 - 1 / 5) < 0.03).all()
    assert (boxes[:, [1, 3]] == [0, 5]).all(), "no room across"


def test_a_view_that_holds_others_is_cut_there_and_draws_no_crop_of_its_own():
    pixels, sizes = photos(6), np.full((6, 2), 100)
    _, inner = view(ViewConfig(crop_scale=(0.2, 0.4)), pixels)
    settings_of = {"sizes": sizes, "size": 24, "rows": np.arange(6), "epoch": 0, "seed": 3, **IDENTITY}
    made = make_view(
        pixels, config=ViewConfig(contains=("main",)), name="around", inner=[inner], **settings_of
    )
    draws = uniform(3, "view/around", np.stack([np.arange(6), np.zeros(6, np.int64)], axis=1), 4)
    assert made.boxes.tolist() == boxes_around([inner.double().numpy()], sizes, draws).tolist()
    other_scale = make_view(
        pixels,
        config=ViewConfig(contains=("main",), crop_scale=(0.1, 0.1)),
        name="around",
        inner=[inner],
        **settings_of,
    )
    assert other_scale.boxes.equal(made.boxes) and other_scale.images.equal(made.images)
    for photo, out, (top, left, height, width) in zip(pixels, made.images, made.boxes.tolist(), strict=True):
        box = (left * 0.4, top * 0.4, (left + width) * 0.4, (top + height) * 0.4)
        expected = np.asarray(as_pil(photo).resize((24, 24), Image.Resampling.BILINEAR, box=box)) / 255
        assert np.abs(out.permute(1, 2, 0).numpy() - expected).mean() < 0.5 / 255


def test_where_a_image_is_mirrored_is_reported():
    pixels = photos(1).expand(400, -1, -1, -1)
    some = make_view(
        pixels,
        np.full((400, 2), 40),
        ViewConfig(flip=0.3),
        size=8,
        rows=np.arange(400),
        epoch=0,
        seed=3,
        name="main",
        **IDENTITY,
    )
    plain = make_view(
        pixels,
        np.full((400, 2), 40),
        ViewConfig(),
        size=8,
        rows=np.arange(400),
        epoch=0,
        seed=3,
        name="main",
        **IDENTITY,
    )
    assert 0.2 < some.mirrored.double().mean() < 0.4 and not plain.mirrored.any()
    expected = torch.where(some.mirrored[:, None, None, None], plain.images.flip(-1), plain.images)
    torch.testing.assert_close(some.images, expected, rtol=0, atol=1e-5)


def test_views_that_hold_others_come_last_and_may_not_hold_each_other():
    plain, around = ViewConfig(), ViewConfig(contains=("second", "main"))
    assert view_order({"around": around, "main": plain, "second": plain}) == ["main", "second", "around"]
    assert view_order({"second": plain, "main": plain}) == ["second", "main"]
    with pytest.raises(
        DataError,
        match=r"views\.around\.contains names 'mian', expected a view with .* did you mean 'main'\?",
    ):
        view_order({"around": ViewConfig(contains=("mian",)), "main": plain})
    for config in (ViewConfig(contains=("around",)), ViewConfig(contains=("wide",))):
        with pytest.raises(DataError, match="expected a view with a crop of its own; Known: main"):
            view_order({"around": config, "wide": ViewConfig(contains=("main",)), "main": plain})
