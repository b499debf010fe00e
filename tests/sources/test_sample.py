import hashlib
import importlib.util
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from frugalclip.core.errors import DataError
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import open_data
from frugalclip.sources.sample import STYLE_OF, STYLES, sample_folder, sample_manifest

LIMIT = 16_000_000  # bytes in the package


@pytest.fixture(scope="module")
def sample() -> Manifest:
    return open_data("sample")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "scripts" / "build_sample.py"
    spec = importlib.util.spec_from_file_location("build_sample", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_small_and_its_licences_name_every_file():
    files = {path.name: path.stat().st_size for path in sample_folder().iterdir()}
    assert sum(files.values()) < LIMIT
    licences = (sample_folder() / "LICENSES.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in licences for name in files if name != "LICENSES.md")
    assert all(
        name in licences
        for name in (
            "Apache-2.0",
            "CC-BY 4.0",
            "CC-BY-SA 4.0",
            "Unicode-3.0",
            "public domain",
            "CC0-1.0",
            "CC-BY 2.0",
            "Unicode, Inc.",
        )
    )


def test_every_photo_that_asks_for_a_name_is_attributed(sample: Manifest):
    """A line of the licences for each: picture, licence, author and address, as the file has them."""
    photos = sample.where("pack=photos").table.select(["id", "licence", "attribution"]).to_pylist()
    assert Counter(row["licence"] for row in photos) == {
        "PD": 81,
        "CC0-1.0": 68,
        "CC-BY-SA-4.0": 24,
        "CC-BY-2.0": 1,
    }
    named = [row for row in photos if row["licence"].startswith("CC-BY")]
    assert all(bool(row["attribution"]) == (row in named) for row in photos)
    lines = (sample_folder() / "LICENSES.md").read_text(encoding="utf-8").splitlines()
    found = [line for line in lines if line.startswith("| `photo-")]
    rows = [(row, *row["attribution"].rsplit(", ", 1)) for row in named]
    assert found == [f"| `{row['id']}` | {row['licence']} | {author} | {url} |" for row, author, url in rows]


def test_it_opens_in_a_blink():
    code = (
        "import sys, time; from frugalclip.sources.open import open_data; open_data('sample'); "
        "print('torch' in sys.modules, time.process_time())"
    )
    loads_torch, seconds = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert loads_torch == "False"
    assert float(seconds) < 3  # with Python and every import; the machine may be busy
    start = time.process_time()
    open_data("sample")
    assert time.process_time() - start < 0.6


def test_every_style_draws_every_concept(sample: Manifest):
    concepts = {style: sample.where(f"style={style}").field("concept") for style in STYLES}
    assert [len(values) for values in concepts.values()] == [1911] * 3
    assert all(
        len(set(values)) == 1911 and set(values) == set(concepts["noto"]) for values in concepts.values()
    )
    assert sample.field("captions") == [
        [name] if name else captions
        for name, captions in zip(sample.field("name"), sample.captions(), strict=True)
    ]


def test_splits_are_those_of_the_packs(sample: Manifest):
    for style in STYLES:
        part = sample.where(f"style={style}")
        counts = [len(part.where(f"split={split}")) for split in ("train", "val", "test")]
        flags = [len(part.where(f"split={split},is_flag=true")) for split in ("train", "val", "test")]
        assert counts == [1519, 181, 211]
        assert flags == [223, 20, 27]
        assert len(part.where("split=test,compositional=true")) == 66
        assert len(part.where("languages=1")) == 326
    for name in ("family", "concept"):
        owners: dict[str, set[str]] = {}
        for value, split in zip(sample.field(name), sample.field("split"), strict=True):
            owners.setdefault(value or "", set()).add(split)
        owners.pop("")
        assert all(len(splits) == 1 for splits in owners.values()), name


def test_clipart_keeps_whole_components_and_every_split(sample: Manifest):
    clipart = sample.where("pack=clipart")
    assert {split: clipart.field("split").count(split) > 300 for split in ("train", "val", "test")} == {
        "train": True,
        "val": True,
        "test": True,
    }
    owners: dict[str, set[str]] = {}
    for component, split in zip(clipart.field("component"), clipart.field("split"), strict=True):
        owners.setdefault(component, set()).add(split)
    assert all(len(splits) == 1 for splits in owners.values())
    assert set(clipart.field("concept")) == {None}
    assert clipart.captions(language="de") == [[]] * len(clipart) if clipart.languages else True


def test_photos_have_what_their_pack_has(sample: Manifest):
    assert Counter(sample.field("pack")) == {"emoji": 5733, "clipart": 3155, "photos": 174}
    photos = sample.where("pack=photos")
    assert Counter(photos.field("split")) == {"train": 145, "val": 15, "test": 14}
    assert Counter(photos.field("category"))["landmarks"] == 48
    assert set(photos.field("style")) == {"photo"} and set(photos.field("name")) == {None}
    longer = dict(zip(photos.ids, photos.field("captions_en"), strict=True))
    assert longer["photo-details-egeskov-slot-spejling"] == ["Egeskov Castle", "Egeskov Castle, Denmark"]
    owners: dict[str, set[str]] = {}
    for component, split in zip(photos.field("component"), photos.field("split"), strict=True):
        owners.setdefault(component, set()).add(split)
    assert all(len(splits) == 1 for splits in owners.values())


def test_the_box_of_a_photo_lies_between_white_bars(sample: Manifest):
    photos = sample.where("pack=photos")
    reader, row = ImageReader(photos), photos.ids.index("photo-india-great-stupa")
    assert photos.field("box")[row] == [0, 26, 160, 133]
    pixels = np.asarray(reader.image(row)).astype(int)
    assert pixels[:25].min() > 245 and pixels[135:].min() > 245  # white, but for the encoder's noise
    assert pixels[26:133].mean() < 235


def test_the_rows_of_recorded_results_are_those_from_before_the_photos(sample: Manifest):
    """Recipes, protocols and suites select by style and pack; photos take no part in their numbers."""
    recorded = {
        "pack=emoji|clipart": "23d179d34d20a88b",
        "pack=emoji": "c737c9965ab3bd19",
        "pack=clipart": "5cee3951540e8966",
        "split=train,style=noto|openmoji": "d5daf2f792eb7c94",
        "split=test,style=twemoji,is_flag=false": "cc2256b7def3a66e",
    }
    assert {where: sample.where(where).fingerprint() for where in recorded} == recorded


def test_languages(sample: Manifest):
    assert len(sample.languages) == 36
    hearts = sample.where("concept=1f5a4")
    assert hearts.captions(language="de") == [["schwarzes Herz"]] * 3
    assert hearts.captions() == [["black heart"]] * 3


def test_every_image_can_be_read(sample: Manifest):
    reader = ImageReader(sample)
    styles = sample.field("style")
    sizes = {style: reader.image(styles.index(style)).size for style in (*STYLES, *STYLE_OF.values())}
    assert sizes == {**dict.fromkeys(STYLES, (64, 64)), "clipart": (96, 96), "photo": (160, 160)}
    digests = {hashlib.blake2b(reader.bytes(row)).digest() for row in range(len(sample))}
    assert len(digests) > 0.9 * len(sample)  # a few concepts share one picture


def test_its_fingerprint_is_recorded(sample: Manifest):
    """A change of the sample changes every number measured on it: note it in the changelog, then here."""
    assert sample.fingerprint() == "b0efaad464f04ace"
    assert sample.where("split=test,is_flag=false").fingerprint() != sample.fingerprint()


def test_a_sample_with_a_missing_file_says_so(tmp_path: Path):
    with pytest.raises(DataError, match=r"is not whole .*install frugalclip again"):
        sample_manifest(tmp_path)


@pytest.fixture
def packs(tmp_path: Path, make: SimpleNamespace) -> Path:
    """Three concepts in three styles, 120 clip-art pictures in 40 components, and a photo."""
    for number, style in enumerate(STYLES):
        members: dict[str, bytes | str] = {}
        for concept in ("1f3", "1f1", "1f2"):
            record = {
                **dict.fromkeys(("category", "subcategory", "family"), "c"),
                "concept": concept,
                "name": f"name {concept}",
                "keywords": ["k"],
                "skin_tone": None,
                "is_flag": False,
                "split": "train",
                "compositional": None,
                "languages": 2,
                "captions": {"en": f"name {concept}", "de": "Name"},
                "style": style,
                "id": concept,
            }
            members |= {
                f"{style}-{concept}.webp": make.encoded((number, int(concept, 16) % 256, 0), kind="WEBP")
            }
            members |= {
                f"{style}-{concept}.txt": f"name {concept}\n",
                f"{style}-{concept}.json": json.dumps(record),
            }
        make.tar(tmp_path / f"emoji-{style}.tar", members)
    members = {}
    for number in range(120):
        component = number % 40
        split = ("train", "train", "val", "test")[component % 4]
        record = {
            "id": f"x/{number}",
            "title": "t",
            "description": "",
            "keywords": [],
            "category": "c",
            "subcategory": "s",
        }
        members[f"clip-{number}.webp"] = make.encoded((number, 9, 9), kind="WEBP")
        members[f"clip-{number}.txt"] = "t"
        members[f"clip-{number}.json"] = json.dumps({**record, "component": f"k{component}", "split": split})
    make.tar(tmp_path / "clipart.tar", members)
    photo = {"group": "g", "category": "c", "licence": "CC0-1.0", "box": [0, 1, 8, 5], "component": "k"}
    members = {
        "photo-1.webp": make.encoded((1, 2, 3), kind="WEBP"),
        "photo-1.txt": "a thing",
        "photo-1.json": json.dumps({**photo, "split": "test", "name": "Thing"}),
    }
    make.tar(tmp_path / "photos.tar", members)
    return tmp_path


def test_the_script_builds_the_same_bytes_again(
    packs: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]
):
    script.build(packs, packs / "one")
    script.build(packs, packs / "two")
    one, two = ({p.name: p.read_bytes() for p in sorted((packs / name).iterdir())} for name in ("one", "two"))
    assert one == two
    assert len(one) == 6
    assert "bytes in all" in capsys.readouterr().out
    manifest = sample_manifest(packs / "one")
    assert manifest.ids[:4] == ["noto-1f1", "noto-1f2", "noto-1f3", "twemoji-1f1"]
    assert manifest.captions(language="de")[:1] == [["Name"]]
    assert ImageReader(manifest).image(2).size == (8, 6)
    photo = manifest.where("pack=photos")
    assert photo.captions() == [["a thing"]] and photo.field("box") == [[0, 1, 8, 5]]
    assert photo.field("attribution") == photo.field("keywords") == photo.field("name") == [None]


def test_the_slice_never_cuts_a_component(packs: Path, script: ModuleType):
    clipart = script.read_pack(packs / "clipart.tar")
    total = sum(len(sample["webp"]) for sample in clipart.values())
    chosen = script.clipart_slice(clipart, total // 2)
    assert sum(len(clipart[key]["webp"]) for key in chosen) <= total // 2
    assert {clipart[key]["json"]["split"] for key in chosen} == {"train", "val", "test"}
    components = {clipart[key]["json"]["component"] for key in chosen}
    assert (
        sorted(key for key, sample in clipart.items() if sample["json"]["component"] in components) == chosen
    )
    assert chosen == script.clipart_slice(dict(reversed(clipart.items())), total // 2)


def test_the_script_stops_when_styles_disagree(packs: Path, script: ModuleType, make: SimpleNamespace):
    members: dict[str, bytes | str] = {
        "noto-1.webp": make.encoded(),
        "noto-1.txt": "x",
        "noto-1.json": json.dumps({"concept": "1"}),
    }
    make.tar(packs / "emoji-twemoji.tar", members)
    with pytest.raises(SystemExit, match="twemoji draws other concepts"):
        script.build(packs, packs / "out")
