import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from frugalclip.core.errors import DataError
from frugalclip.data.image_faults import BadImage
from frugalclip.data.manifest import Manifest
from frugalclip.synthetic.cutouts import Pool, choose_cutouts, with_pixels
from frugalclip.synthetic.cutting import NotACutout, cut_out, outside_of
from frugalclip.synthetic.draws import Draws
from frugalclip.synthetic.plan import ScenePlan

from . import scene_parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return scene_parts.manifest_at(tmp_path_factory.mktemp("cutouts"))


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def ring(size: int = 40, *, smooth: bool = False) -> Image.Image:
    """A red ring on white, white inside."""
    scale = 4 if smooth else 1
    image = Image.new("RGB", (size * scale, size * scale), "white")
    ImageDraw.Draw(image).ellipse(
        (8 * scale, 8 * scale, 31 * scale, 31 * scale), fill="white", outline=(200, 0, 0), width=4 * scale
    )
    return image.resize((size, size), Image.Resampling.BOX)


def flooded(background: np.ndarray) -> np.ndarray:
    """The slow, obvious way: a queue of pixels."""
    height, width = background.shape
    reached = np.zeros_like(background)
    queue = [
        (y, x)
        for y in range(height)
        for x in range(width)
        if background[y, x] and (y in (0, height - 1) or x in (0, width - 1))
    ]
    while queue:
        y, x = queue.pop()
        if 0 <= y < height and 0 <= x < width and background[y, x] and not reached[y, x]:
            reached[y, x] = True
            queue += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return reached


@pytest.mark.parametrize("seed", range(6))
def test_the_outside_is_what_a_queue_of_pixels_reaches(seed: int):
    background = np.random.default_rng(seed).random((17, 23)) < 0.62
    assert (outside_of(background) == flooded(background)).all()


def test_white_inside_stays_and_the_box_is_tight():
    layer = cut_out(encoded(ring()), side=64)
    assert layer.shape == (24, 24, 4)
    assert layer[12, 12].tolist() == [255, 255, 255, 255]  # inside the ring
    assert layer[0, 0, 3] == 0  # outside it
    assert layer[12, 1].tolist() == [200, 0, 0, 255]


def test_edges_are_soft_and_leave_no_halo():
    image = ring(smooth=True)
    layer = cut_out(encoded(image), side=64).astype(int)
    soft = (layer[..., 3] > 20) & (layer[..., 3] < 235)
    assert soft.sum() > 20
    own = layer[soft][:, :3] * 255 / layer[soft][:, 3:]
    assert own[:, 1:].max() < 40  # the edge is red of its own, not pink
    on_white = layer[..., :3] + 255 - layer[..., 3:]
    box = np.asarray(image)[8:32, 8:32].astype(int)
    assert np.abs(on_white - box).max() <= 2  # put back on white it is the picture


def test_a_transparent_image_keeps_its_opacity():
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((10, 200, 10, 128), (5, 5, 15, 15))
    layer = cut_out(encoded(image), side=64)
    assert layer.shape == (10, 10, 4)
    assert layer[4, 4].tolist() == [5, 100, 5, 128]


def test_large_images_are_made_smaller():
    assert max(cut_out(encoded(ring().resize((400, 400))), side=32).shape) <= 32


def test_specks_of_compression_are_not_object():
    image = ring()
    image.putpixel((2, 2), (236, 236, 236))
    assert cut_out(encoded(image), side=64).shape == (24, 24, 4)


@pytest.mark.parametrize(
    ("colour", "words"), [("white", "% of it is object"), ((90, 120, 30), "0 % of the border is white")]
)
def test_what_is_no_cutout_says_why(colour: str, words: str):
    with pytest.raises(NotACutout, match=words):
        cut_out(encoded(Image.new("RGB", (30, 30), colour)), side=64)
    with pytest.raises(BadImage):
        cut_out(b"no picture", side=64)


def test_families_stay_together_and_more_cutouts_move_none(parts: Manifest):
    plan = ScenePlan()
    items = choose_cutouts(parts, plan).items
    assert len(items) == len(parts)
    by_family = {
        item.family: {other.split for other in items if other.family == item.family} for item in items
    }
    assert all(len(splits) == 1 for splits in by_family.values())
    assert {item.split for item in items} == {"train", "val", "test"}
    part = parts.take([row for row in range(len(parts)) if items[row].split != "train" or row % 3])
    assert all(
        {item.id: item.split for item in items}[one.id] == one.split
        for one in choose_cutouts(part, plan).items
    )


def with_field(manifest: Manifest, name: str, values: list) -> Manifest:
    import pyarrow as pa

    table = manifest.table.drop_columns([name]) if name in manifest.table.column_names else manifest.table
    return Manifest(table.append_column(name, pa.array(values)), manifest.root, manifest.name)


def test_the_split_field_is_used_where_it_keeps_families_whole(parts: Manifest):
    splits = [("train", "val", "test")[int(family[1:]) % 3] for family in parts.field("family")]
    given = with_field(parts, "split", splits)
    assert [item.split for item in choose_cutouts(given, ScenePlan()).items] == splits
    by_hash = choose_cutouts(given, ScenePlan(splits={"field": "none"})).items
    assert [item.split for item in by_hash] != splits
    torn = with_field(parts, "split", [("train", "test")[row % 2] for row in range(len(parts))])
    found = choose_cutouts(torn, ScenePlan())
    assert "into test and train" in found.notes[0]
    assert [item.split for item in found.items] == [item.split for item in by_hash]
    with pytest.raises(DataError, match="cannot divide the cut-outs"):
        choose_cutouts(torn, ScenePlan(splits={"field": "split"}))


def test_shares_of_the_division(parts: Manifest):
    plan = ScenePlan(splits={"cutouts": {"train": 1}, "scenes": {"train": 1}})
    assert {item.split for item in choose_cutouts(parts, plan).items} == {"train"}
    with pytest.raises(DataError, match="no cut-out is left for scenes of the split 'val'"):
        choose_cutouts(parts, ScenePlan(splits={"cutouts": {"train": 1}}))


def test_fields_are_chosen_by_name(parts: Manifest):
    named = with_field(parts, "title", [f"thing {'abcdefgh'[row % 8]}" for row in range(len(parts))])
    items = choose_cutouts(
        named, ScenePlan(name_field="title", concept_field="title", family_field="title", style_field="none")
    ).items
    assert {item.name for item in items} == {f"thing {letter}" for letter in "abcdefgh"}
    assert {item.concept for item in items} == {item.family for item in items}
    assert {item.style for item in items} == {None}
    assert {item.style for item in choose_cutouts(parts, ScenePlan(where="style=flat")).items} == {"flat"}


def test_names_that_are_none_and_theme_names_are_left_out(parts: Manifest):
    names = ["Part of a theme"] * 30 + ["x#1"] + list(scene_parts.NAMES[:25])
    found = choose_cutouts(
        with_field(parts, "name", names), ScenePlan(concept_field="none", family_field="none")
    )
    assert sorted({one.reason for one in found.left_out}) == ["no-name", "theme-name"]
    assert len(found.left_out) == 31
    assert len(found.items) == 25


def test_a_image_that_cannot_be_cut_out_is_left_out(parts: Manifest, tmp_path: Path):
    folder = scene_parts.write_cutouts(tmp_path / "more")
    Image.new("RGB", (24, 24), "green").save(folder / "flat-0.png")
    (folder / "flat-1.png").write_bytes(b"")
    manifest = scene_parts.open_data(folder)
    plan = ScenePlan()
    found = with_pixels(choose_cutouts(manifest, plan), manifest, plan)
    assert {one.id: one.reason for one in found.left_out} == {
        "flat-0": "not-a-cutout",
        "flat-1": "empty-file",
    }
    assert len(found.pixels) == len(found.items) == len(parts) - 2


def test_frequencies(parts: Manifest):
    def counts(**settings) -> dict[str, int]:
        plan = ScenePlan.model_validate(settings)
        cutouts = choose_cutouts(parts, plan)
        pool, draws = Pool(cutouts, plan), Draws(0, "test", 0)
        names = [cutouts.items[pool.draw(draws, "train", None)].name for _ in range(4000)]
        return Counter(names)

    one_split = {"scenes": {"train": 1}, "cutouts": {"train": 1}}
    uniform = counts(splits=one_split)
    assert len(uniform) == len(scene_parts.NAMES)
    assert max(uniform.values()) < 2 * min(uniform.values())
    zipf = sorted(
        counts(splits=one_split, frequencies={"kind": "zipf", "exponent": 1}).values(), reverse=True
    )
    expected = [4000 / sum(1 / rank for rank in range(1, 29)) / rank for rank in (1, 2, 4)]
    assert [zipf[0], zipf[1], zipf[3]] == pytest.approx(expected, rel=0.15)
    flat = counts(splits=one_split, frequencies={"kind": "zipf", "exponent": 0})
    assert max(flat.values()) < 2 * min(flat.values())
    table = counts(splits=one_split, frequencies={"kind": "table", "table": {"cat": 3, "c1": 1}})
    assert table["cat"] == pytest.approx(3000, rel=0.05) and table["cat"] + table["dog"] == 4000
    with pytest.raises(DataError, match=r"names 'catt'.*did you mean 'cat'"):
        counts(splits=one_split, frequencies={"kind": "table", "table": {"catt": 1}})
    with pytest.raises(DataError, match="gives no concept of the split"):
        counts(frequencies={"kind": "table", "table": {"cat": 1}})
