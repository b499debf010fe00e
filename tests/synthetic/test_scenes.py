import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.data.manifest import Manifest
from frugalclip.data.tokens import clip_tokenizer
from frugalclip.synthetic.captions import CONTEXT
from frugalclip.synthetic.colours import PALETTE, TINTS
from frugalclip.synthetic.composing import Composer, Scene
from frugalclip.synthetic.english import noun
from frugalclip.synthetic.layout import lay_out
from frugalclip.synthetic.plan import ScenePlan
from frugalclip.synthetic.planting import assign
from frugalclip.synthetic.rendering import paint
from frugalclip.synthetic.shards import compose_shard
from frugalclip.synthetic.truth import pack_labels, patch_labels, regions

from . import scene_parts

ONE_SPLIT = {"scenes": {"train": 1}, "cutouts": {"train": 1}}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return scene_parts.manifest_at(tmp_path_factory.mktemp("cutouts"))


@pytest.fixture(scope="module")
def plain(parts: Manifest) -> list[dict[str, Any]]:
    """Rows of two hundred scenes with nothing asked for."""
    return scene_parts.rows(parts, 200, splits=ONE_SPLIT)


def pixels(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


def labels(row: dict[str, Any], canvas: int = 96) -> np.ndarray:
    import zlib

    return np.frombuffer(zlib.decompress(row["mask"]), dtype=np.uint8).reshape(canvas, canvas)


def test_a_scene_is_a_function_of_seed_and_number(parts: Manifest):
    faults = {
        "swapped": 0.1,
        "duplicates": 0.1,
        "near_duplicates": 0.1,
        "leaks": 0.1,
        "dropped_words": 0.1,
        "wrong_object": 0.1,
    }
    few = scene_parts.scenes(parts, 40, planted=faults)
    many = scene_parts.composer(parts, count=3000, planted=faults)
    assert [many.scene(number) for number in (39, 7, 20)] == [
        few[39],
        few[7],
        few[20],
    ]  # in any order, of any total
    other = scene_parts.scenes(parts, 3, seed=1, splits=ONE_SPLIT)
    assert [one.image for one in other] != [one.image for one in few[:3]]


def test_boxes_and_masks_say_where_objects_are(parts: Manifest):
    maker = scene_parts.composer(parts, splits=ONE_SPLIT, format="png")
    for number in range(60):
        row = maker.scene(number).row
        shown = labels(row)
        layout = lay_out(maker.plan, maker.pool, maker.atlas, split="train", number=number)
        for place, one in enumerate(row["objects"]):
            box = np.s_[one["top"] : one["top"] + one["height"], one["left"] : one["left"] + one["width"]]
            seen = shown == place + 1
            assert seen.sum() == seen[box].sum() > 0  # nothing outside the box, something inside
            alone = paint(
                type(layout)(number, "train", None, layout.background, (layout.objects[place],)),
                maker.plan,
                maker.atlas,
            )
            assert one["visible"] == pytest.approx(seen.sum() / (alone.labels == 1).sum(), abs=1e-3)
            assert not (seen & (alone.labels == 0)).any()


def test_pixels_of_an_object_differ_from_the_background(parts: Manifest):
    maker = scene_parts.composer(parts, splits=ONE_SPLIT, format="png", backgrounds={"plain": 1})
    for number in range(40):
        scene = maker.scene(number)
        ground = np.array(PALETTE[scene.row["background_colours"][0]])
        image, shown = pixels(scene.image).astype(int), labels(scene.row)
        assert (image[shown == 0] == ground).all(axis=-1).mean() > 0.9  # soft edges aside
        for place in range(len(scene.row["objects"])):
            apart = np.linalg.norm(image[shown == place + 1] - ground, axis=-1) > 60
            assert apart.mean() > 0.3


def test_objects_are_as_many_as_wanted_and_seen(plain: list[dict[str, Any]], parts: Manifest):
    counts = Counter(len(row["objects"]) for row in plain)
    assert set(counts) == {2, 3, 4, 5, 6}
    assert min(one["visible"] for row in plain for one in row["objects"]) > 0.3
    assert {len(row["objects"]) for row in scene_parts.rows(parts, 20, splits=ONE_SPLIT, objects=[1, 1])} == {
        1
    }


def shares(rows: list[dict[str, Any]], name: str) -> dict[Any, float]:
    every = [one[name] for row in rows for one in row["objects"]]
    return {value: count / len(every) for value, count in Counter(every).items()}


def test_settings_of_objects(parts: Manifest):
    def some(**settings: Any) -> list[dict[str, Any]]:
        return scene_parts.rows(
            parts, 30, splits=ONE_SPLIT, captions={"long": 0, "medium": 0}, canvas=64, **settings
        )

    assert shares(some(tint=0), "colour") == {None: 1}
    assert set(shares(some(tint=1), "colour")) - {None} == set(TINTS)
    sided = {one["name"]: one["mirrored"] for row in some(mirror=1) for one in row["objects"]}
    assert (
        sided == {name: name != "left arrow" for name in sided} and "left arrow" in sided
    )  # mirrored it would be a right arrow
    assert shares(some(mirror=0), "mirrored") == {False: 1}
    assert shares(some(sizes={"tiny": 1}), "size") == {"tiny": 1}
    assert min(one["visible"] for row in some(overlap=0, objects=[2, 2]) for one in row["objects"]) > 0.9
    assert np.mean([one["visible"] < 0.99 for row in some(overlap=1) for one in row["objects"]]) > 0.2
    repeated = [max(Counter(one["concept"] for one in row["objects"]).values()) for row in some(repeat=1)]
    assert repeated == [len(row["objects"]) for row in some(repeat=1)]
    assert {row["style"] for row in some(mixed_styles=0)} == set(scene_parts.STYLES)
    assert None in {row["style"] for row in some(mixed_styles=1)}
    for kind in ("plain", "gradient", "speckled", "striped", "split"):
        assert {row["background"] for row in some(backgrounds={kind: 1})} == {kind}


@pytest.mark.parametrize(("format", "magic"), [("jpeg", b"\xff\xd8"), ("webp", b"RIFF"), ("png", b"\x89PNG")])
def test_formats_canvas_and_quality(parts: Manifest, format: str, magic: bytes):
    (scene,) = scene_parts.scenes(parts, 1, format=format, canvas=64)
    assert scene.image.startswith(magic)
    assert pixels(scene.image).shape == (64, 64, 3)
    (low,) = scene_parts.scenes(parts, 1, format=format, canvas=64, quality=10)
    assert (len(low.image) < len(scene.image)) == (format != "png")


def test_a_near_duplicate_is_nearly_the_same_image(parts: Manifest):
    made = scene_parts.scenes(parts, 80, splits=ONE_SPLIT, planted={"near_duplicates": 0.3})
    copies = [one for one in made if one.row["planted"] == "near-duplicate"]
    assert len(copies) > 10
    by_id = {one.row["id"]: one for one in made}
    for copy in copies:
        source = by_id[copy.row["planted_from"]]
        assert copy.row["captions"] != source.row["captions"]
        assert copy.image != source.image
        assert [one["concept"] for one in copy.row["objects"]] == [
            one["concept"] for one in source.row["objects"]
        ]
        thumbnails = [
            np.asarray(Image.open(io.BytesIO(one.image)).resize((8, 8), Image.Resampling.BOX)).astype(int)
            for one in (copy, source)
        ]
        assert np.abs(thumbnails[0] - thumbnails[1]).mean() < 15


def test_planted_faults_are_what_they_say(parts: Manifest):
    faults = {
        "swapped": 0.15,
        "duplicates": 0.1,
        "leaks": 0.1,
        "dropped_words": 0.15,
        "dropped_share": 0.4,
        "wrong_object": 0.15,
    }
    made = scene_parts.scenes(parts, 250, planted=faults, captions={"long": 0}, canvas=48)
    clean = Clean(scene_parts.composer(parts, count=1024, captions={"long": 0}, canvas=48))
    by_kind: dict[str, list] = {}
    for one in made:
        by_kind.setdefault(one.row["planted"], []).append(one)
    assert set(by_kind) == {None, "swapped", "duplicate", "leak", "dropped-words", "wrong-object"}
    assert all(one == clean[one.row["id"]] for one in by_kind[None])
    assert {one.row["split"] for kind, some in by_kind.items() if kind for one in some} == {"train"}
    for one in by_kind["swapped"]:
        assert (
            one.row["captions"]
            == clean[one.row["planted_from"]].row["captions"]
            != clean[one.row["id"]].row["captions"]
        )
        assert one.image == clean[one.row["id"]].image
        assert set(map(tuple, one.row["mentions"])) == {()}
    for kind, split in (("duplicate", {"train"}), ("leak", {"val", "test"})):
        for one in by_kind[kind]:
            source = clean[one.row["planted_from"]]
            assert (one.image, one.row["captions"]) == (source.image, source.row["captions"])
            assert source.row["split"] in split
            assert source.row["id"] < one.row["id"]
    lost = [len(b.split()) / len(a.split()) for one in by_kind["dropped-words"] for a, b in pairs(clean, one)]
    assert 0.5 < np.mean(lost) < 0.7
    for one in by_kind["wrong-object"]:
        right, wrong = one.row["planted_detail"].split(" -> ")
        assert right in {item["name"] for item in one.row["objects"]}
        assert wrong not in {item["name"] for item in one.row["objects"]}
        text = one.row["captions"][1]  # the medium one speaks of everything
        assert (
            noun(wrong).many.split()[-1] in text
            or noun(wrong).one.split()[-1] in text
            or noun(wrong).rest in text
        )
        there = {place for place, item in enumerate(one.row["objects"]) if item["name"] == right}
        assert not there & {place for places in one.row["mentions"] for place in places}


class Clean(dict):
    """Scenes without faults by id, made when asked for."""

    def __init__(self, composer: Composer) -> None:
        self.composer = composer

    def __missing__(self, id: str) -> Scene:
        self[id] = self.composer.scene(int(id.removeprefix("scene-")))
        return self[id]


def pairs(clean: dict, one: Any) -> list[tuple[str, str]]:
    return list(zip(clean[one.row["id"]].row["captions"], one.row["captions"], strict=True))


def test_rates_are_met_and_never_change_what_came_before():
    plan = ScenePlan(planted={"swapped": 0.05, "leaks": 0.02, "duplicates": 0.1})
    found = assign(plan, 20_480)
    train = found.splits == "train"
    assert train.mean() == pytest.approx(0.9, abs=0.01)
    for kind, rate in (("swapped", 0.05), ("leak", 0.02), ("duplicate", 0.1)):
        assert (found.planted[train] == kind).mean() == pytest.approx(rate, abs=0.008)
    assert not (found.planted[~train] != "").any()
    swapped = np.flatnonzero(found.planted == "swapped")
    inside = swapped[found.sources[swapped] < 20_480]
    assert len(set(found.sources[swapped])) == len(swapped)  # captions go round: none is given twice
    assert (found.planted[found.sources[inside]] == "swapped").all()
    assert (found.sources[swapped] != swapped).all()
    fewer = assign(plan, 1500)
    assert len(fewer.splits) >= 1500
    assert all(
        (getattr(fewer, name) == getattr(found, name)[: len(fewer.splits)]).all()
        for name in ("splits", "planted", "sources")
    )


def test_concepts_of_test_scenes_are_new_unless_shared(parts: Manifest):
    def seen(**splits: Any) -> dict[str, set[str]]:
        result: dict[str, set[str]] = {}
        for row in scene_parts.rows(
            parts, 150, captions={"long": 0}, splits={"scenes": {"train": 1, "test": 1}, **splits}
        ):
            result.setdefault(row["split"], set()).update(one["cutout"] for one in row["objects"])
        return result

    families = dict(zip(parts.ids, parts.field("family"), strict=True))
    alone, shared = seen(), seen(shared=0.5)
    assert not {families[one] for one in alone["train"]} & {families[one] for one in alone["test"]}
    assert {families[one] for one in shared["train"]} & {families[one] for one in shared["test"]}
    styled = seen(styles={"train": ["flat"], "test": ["line"]})
    assert {one.split("-")[0] for one in styled["train"]} == {"flat"}
    assert {one.split("-")[0] for one in styled["test"]} == {"line"}
    with pytest.raises(DataError, match=r"splits.styles.test names 'lines'.*did you mean 'line'"):
        seen(styles={"test": ["lines"]})


WORDS = re.compile(r"[\w'-]+")


def test_captions_are_of_the_levels_and_wanted_lengths(plain: list[dict[str, Any]], parts: Manifest):
    lengths: dict[str, list[int]] = {}
    for row in plain:
        assert len(row["captions"]) == len(row["levels"]) == len(row["mentions"])
        for level, text in zip(row["levels"], row["captions"], strict=True):
            lengths.setdefault(level, []).append(len(text.split()))
    assert len(lengths["short"]) == len(lengths["medium"]) == 200
    assert 70 < len(lengths["long"]) < 130
    assert np.mean(lengths["short"]) < np.mean(lengths["medium"]) < np.mean(lengths["long"])
    assert min(lengths["long"]) > 25 and max(lengths["long"]) > 120
    longer = scene_parts.rows(
        parts,
        20,
        captions={"short": 0, "medium": 0, "long": 1, "long_words": [100, 110]},
        objects=[6, 6],
        repeat=0,
        splits=ONE_SPLIT,
    )
    assert all(row["levels"] == ["long"] for row in longer)
    assert np.mean([len(row["captions"][0].split()) for row in longer]) == pytest.approx(108, abs=12)


def test_clip_tokens_run_from_five_to_two_hundred_and_fifty(parts: Manifest):
    tokenizer = clip_tokenizer(context=400)
    rows = scene_parts.rows(parts, 300, splits=ONE_SPLIT, captions={"long": 1})
    counts = np.diff(tokenizer.table([text for row in rows for text in row["captions"]]).offsets)
    assert counts.min() <= 7
    assert 180 < counts.max() <= 255


def test_captions_are_true_varied_and_well_formed(plain: list[dict[str, Any]]):
    texts = [text for row in plain for text in row["captions"]]
    assert len(set(texts)) > 0.97 * len(texts)
    for text in texts:
        assert "  " not in text
        assert not re.search(r"\b(\w+) \1\b", text.replace("that that", "")), text  # no word twice in a row
        assert not re.search(r"\ba [aeio]|\ban [bcdfgjklmnpqrstvwz]", text), text
        assert "{" not in text
    openings = Counter(" ".join(text.split()[:2]) for row in plain for text in row["captions"][1:2])
    assert len(openings) > 25  # no template with one order
    for row in plain:
        output = {place for places in row["mentions"] for place in places}
        assert output == set(range(len(row["objects"])))  # the medium caption speaks of all
        for places, text in zip(row["mentions"], row["captions"], strict=True):
            for concept in {row["objects"][place]["concept"] for place in places}:
                item = next(one for one in row["objects"] if one["concept"] == concept)
                name = noun(item["name"])
                assert any(form and form.lower() in text.lower() for form in (name.one, name.many)), (
                    name,
                    text,
                )


def test_relations_and_places_in_captions_hold(parts: Manifest):
    checked: Counter[str] = Counter()
    for row in scene_parts.rows(
        parts, 250, splits=ONE_SPLIT, repeat=0, captions={"short": 0, "medium": 1, "long": 1}
    ):
        names = {noun(one["name"]).phrase(): one for one in row["objects"]}
        middle = {
            name: (one["top"] + one["height"] / 2, one["left"] + one["width"] / 2)
            for name, one in names.items()
        }
        for sentence in re.split(r"(?<=\.) ", row["captions"][1]):
            found = re.fullmatch(
                r"The (.+?) is (left of|to the left of|on the left of|above|below|under|smaller than"
                r"|larger than) the (.+)\.",
                sentence,
            )
            if found and found[1] in names and found[3] in names:
                (down, right), (other_down, other_right) = middle[found[1]], middle[found[3]]
                first, second = names[found[1]], names[found[3]]
                area = first["height"] * first["width"] - second["height"] * second["width"]
                truth = {
                    "above": other_down - down,
                    "below": down - other_down,
                    "under": down - other_down,
                    "smaller than": -area,
                    "larger than": area,
                }
                assert truth.get(found[2], other_right - right) > 0, sentence
                checked[found[2]] += 1
        for name, one in names.items():
            if re.search(
                rf"(There is|there is) an? (small |tiny |large )?{re.escape(name)} in the top left corner",
                row["captions"][1],
            ):
                assert one["region"] == "top left"
                checked["place"] += 1
    assert len(checked) > 6


def test_a_key_word_stands_behind_what_clip_reads(parts: Manifest):
    rows = scene_parts.rows(parts, 80, splits=ONE_SPLIT, captions={"long": 1, "key_word": 1})
    with_key = [row for row in rows if row["key_object"] is not None]
    assert len(with_key) > 50
    tokenizer = clip_tokenizer(context=1000)
    for row in with_key:
        text, name = row["captions"][-1], row["key_word"]
        assert row["levels"][-1] == "long"
        assert row["key_object"] in row["mentions"][-1]
        assert text.lower().count(name.lower()) == 1
        ids = tokenizer.encode([text]).ids[0].tolist()
        first = tokenizer.encode([name]).ids[0].tolist()[1]
        assert row["key_token"] >= CONTEXT
        assert ids[row["key_token"]] == first
        read = tokenizer.decode(ids[:CONTEXT])
        assert noun(row["objects"][row["key_object"]]["name"]).one.lower() not in read
    none = scene_parts.rows(parts, 20, splits=ONE_SPLIT, captions={"long": 1})
    assert {row["key_object"] for row in none} == {None}


def test_regions_and_patches(parts: Manifest, tmp_path: Any):
    maker = scene_parts.composer(parts, count=5, canvas=64)
    tar, table = compose_shard(maker, "scenes-00000", range(5))
    assert len(tar) % 512 == 0
    manifest = Manifest(table, tmp_path, "scenes")
    for row in range(5):
        found = regions(manifest, row)
        assert found.shape == (len(table["objects"][row]), 64, 64) and found.dtype == bool
        assert found.sum(axis=0).max() == 1  # nobody sees two objects in one pixel
        assert (found.sum(axis=0) * 1 == (labels(table.slice(row, 1).to_pylist()[0], 64) > 0)).all()
        patches = patch_labels(found, 16)
        slow = [
            [
                [found[k, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16].mean() for x in range(4)]
                for y in range(4)
            ]
            for k in range(len(found))
        ]
        assert np.allclose(patches, slow)
        assert patches.sum() * 256 == pytest.approx(found.sum())
    with pytest.raises(DataError, match="choose a divisor of both sides"):
        patch_labels(regions(manifest, 0), 10)
    with pytest.raises(DataError, match="no field 'mask'"):
        regions(parts, 0)
    assert len(pack_labels(np.zeros((96, 96), dtype=np.uint8))) < 100


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"canvass": 96}, "canvass is not a setting; did you mean 'canvas'"),
        ({"canvas": 16}, "canvas is 16; expected greater than or equal to 32"),
        ({"objects": [4, 2]}, "objects takes the fewest and the most"),
        ({"sizes": {"huge": 1}}, "sizes has no 'huge'; known: tiny, small, medium, large"),
        ({"backgrounds": {"plain": 0}}, "expected weights of which none is negative"),
        ({"captions": {"short": 0, "medium": 0, "long": 0}}, "no scene would have a caption"),
        ({"captions": {"key_word": 0.9}}, "set captions.long"),
        ({"captions": {"long_words": [9, 5]}}, "long_words takes the least and the most"),
        ({"frequencies": "table"}, "kind: table and a table go together"),
        ({"planted": {"swapped": 0.8, "leaks": 0.8}}, "add up to 1.6, expected at most 1"),
        ({"planted": {"leaks": 0.1}, "splits": {"scenes": {"train": 1}}}, "every scene is in train"),
        ({"splits": {"styles": {"tests": ["x"]}}}, "names the split 'tests'"),
        ({"splits": {"shared": 0.5, "scenes": {"test": 1}}}, "shared draws from the concepts of train"),
    ],
)
def test_a_wrong_plan_says_what_to_set(content: dict, words: str):
    with pytest.raises(RecipeError, match=re.escape(words)):
        validated(ScenePlan, content, where="")


def settings_of(settings: Any, prefix: str = "") -> dict[str, str]:
    """Dotted name -> description."""
    found: dict[str, str] = {}
    for name, one in settings.model_fields.items():
        inner = hasattr(one.annotation, "model_fields")
        found |= (
            settings_of(one.annotation, f"{prefix}{name}.") if inner else {f"{prefix}{name}": one.description}
        )
    return found


def test_every_setting_is_described_and_in_the_docs():
    docs = (Path(__file__).resolve().parents[2] / "docs" / "scenes.md").read_text(encoding="utf-8")
    for name, description in settings_of(ScenePlan).items():
        assert description, name
        assert re.search(rf"^\| `{re.escape(name)}` \|.*\| {re.escape(description)} \|$", docs, re.M), name
