import io
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from frugalclip.cli import main
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.core.executors import SHARED
from frugalclip.core.jobs import FOLDER
from frugalclip.core.yaml_text import read_yaml
from frugalclip.data.image_reader import ImageReader
from frugalclip.sources.open import open_data
from frugalclip.synthetic.truth import regions
from frugalclip.verbs import data_check
from frugalclip.verbs import data_compose as verb

from ..synthetic import scene_parts

ONE_SPLIT = "splits={scenes: {train: 1}, cutouts: {train: 1}}"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scene_parts.write_cutouts(tmp_path_factory.mktemp("cutouts"))


@pytest.fixture(scope="module")
def composed(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> verb.Composition:
    return verb.compose(
        parts,
        ["shard=8", "planted.duplicates=0.3"],
        out=tmp_path_factory.mktemp("out") / "scenes",
        scenes=30,
        workers=1,
    )


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").iterdir())}


def test_the_result_is_an_ordinary_data_set(composed: verb.Composition):
    manifest = open_data(composed.path)
    assert len(manifest) == composed.scenes == composed.made == 30
    assert manifest.fingerprint() == composed.fingerprint
    reader = ImageReader(manifest)
    assert all(reader.image(row).size == (96, 96) for row in range(30))
    assert set(open_data(composed.path, where="split=train").field("split")) == {"train"}
    name = manifest.field("names")[0][0]
    assert all(name in found for found in open_data(composed.path, where=f'names="{name}"').field("names"))
    assert regions(manifest, 3).shape == (len(manifest.field("objects")[3]), 96, 96)


def test_check_reads_it(composed: verb.Composition):
    (found,) = data_check.check([str(composed.path)])
    assert found.is_clean
    console = Console(file=io.StringIO(), width=160)
    data_check.show_check([found], console)
    distinct = {one.name: one.distinct for one in found.fields}
    assert distinct["objects"] is distinct["mentions"] is distinct["mask"] is None
    assert distinct["scene"] == 30


def test_the_truth_adds_up(composed: verb.Composition):
    manifest, truth = open_data(composed.path), composed.path / "truth"
    concepts = pq.read_table(truth / "concepts.parquet").to_pylist()
    assert sum(one["objects"] for one in concepts) == sum(map(len, manifest.field("objects")))
    assert sum(one["scenes"] for one in concepts) == sum(map(len, manifest.field("concepts")))
    assert max(one["captions"] for one in concepts) > 1
    planted = pq.read_table(truth / "planted.parquet").to_pylist()
    assert {one["id"] for one in planted} == {
        id for id, fault in zip(manifest.ids, manifest.field("planted"), strict=True) if fault
    }
    assert composed.planted == {"duplicate": len(planted)} and len(planted) > 2
    by_id = dict(zip(manifest.ids, manifest.captions(), strict=True))
    assert all(by_id[one["id"]] == by_id[one["from"]] for one in planted)
    assert pq.read_table(truth / "cutouts.parquet").num_rows == composed.cutouts == 2 * len(scene_parts.NAMES)
    assert (truth / "sheet.jpg").read_bytes().startswith(b"\xff\xd8")


def test_calling_again_goes_on_and_adds_without_changing(
    composed: verb.Composition, parts: Path, tmp_path: Path
):
    settings = ["shard=8", "planted.duplicates=0.3"]
    out = tmp_path / "scenes"
    verb.compose(parts, settings, out=out, scenes=20, workers=1)
    first = verb.compose(parts, settings, out=out, scenes=30, workers=1)
    assert first.made == 14  # the part of a shard that was there, and a new one
    assert shards(out) == shards(composed.path)
    (out / "shards" / "scenes-00001.tar").write_bytes(b"cut off")
    (out / "shards" / "scenes-00002.parquet").unlink()
    assert verb.compose(parts, settings, out=out, scenes=30, workers=1).made == 16
    assert shards(out) == shards(composed.path)
    again = verb.compose(parts, settings, out=out, scenes=12, workers=1)
    assert (again.made, again.scenes, again.cutouts) == (0, 12, composed.cutouts)
    assert open_data(out).captions() == open_data(composed.path).captions()[:12]


def test_two_processes_write_the_same_bytes(composed: verb.Composition, parts: Path, tmp_path: Path):
    found = verb.compose(
        parts, ["shard=8", "planted.duplicates=0.3"], out=tmp_path / "scenes", scenes=30, workers=2
    )
    assert shards(found.path) == shards(composed.path)
    assert found.fingerprint == composed.fingerprint


@pytest.mark.skipif(SHARED != "fork", reason="starts and kills processes by fork")
def test_a_killed_call_goes_on_to_the_same_bytes(composed: verb.Composition, parts: Path, tmp_path: Path):
    settings, out = ["shard=8", "planted.duplicates=0.3"], tmp_path / "scenes"
    call = multiprocessing.get_context("fork").Process(
        target=verb.compose, args=(parts, settings), kwargs={"out": out, "scenes": 30, "workers": 2}
    )
    call.start()
    while not list(out.glob(f"{FOLDER}/scratch/scenes-00001/files/shards")):
        assert call.is_alive()
        time.sleep(0.001)
    call.kill()
    call.join()
    verb.compose(parts, settings, out=out, scenes=30, workers=1)
    assert shards(out) == shards(composed.path)
    assert not [path for path in out.rglob("*") if path.name.startswith(".") and path.name != FOLDER]


def test_a_folder_of_other_scenes_is_not_touched(composed: verb.Composition, parts: Path, tmp_path: Path):
    before = shards(composed.path)
    with pytest.raises(DataError, match=r"holds scenes made with planted .* give --out a new folder"):
        verb.compose(parts, ["shard=8"], out=composed.path, scenes=30)
    assert shards(composed.path) == before
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="is not an empty folder and holds no scenes"):
        verb.compose(parts, out=tmp_path, scenes=3)
    with pytest.raises(DataError, match="is a file, expected a folder"):
        verb.compose(parts, out=tmp_path / "letter.txt", scenes=3)


def test_a_plan_is_read_overridden_and_kept(parts: Path, tmp_path: Path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("canvas: 48\ncaptions: {long: 0}\nsplits: {scenes: {train: 1}, cutouts: {train: 1}}\n")
    found = verb.compose(parts, ["objects=[3, 3]"], out=tmp_path / "out", scenes=4, plan=plan, workers=1)
    manifest = open_data(found.path)
    assert regions(manifest, 0).shape == (3, 48, 48)
    assert {level for levels in manifest.field("levels") for level in levels} == {"short", "medium"}
    kept = read_yaml(found.path / "plan.yaml")
    assert (kept["canvas"], kept["objects"], kept["seed"]) == (48, [3, 3], 0)
    again = verb.compose(parts, out=tmp_path / "again", scenes=4, plan=found.path / "plan.yaml", workers=1)
    assert shards(again.path) == shards(found.path)
    with pytest.raises(RecipeError, match="is not a file, expected a plan"):
        verb.compose(parts, out=tmp_path / "x", plan=tmp_path / "plam.yaml")


def test_the_command_line(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "scenes"
    assert (
        main(
            [
                "data",
                "compose",
                str(parts),
                "--out",
                str(out),
                "--scenes",
                "5",
                "canvas=32",
                ONE_SPLIT,
                "--workers",
                "1",
            ]
        )
        == 0
    )
    text = capsys.readouterr().out
    assert "5 scenes" in text and "Cut-outs: 56 used" in text and "data.where=split=train" in text
    assert main(["data", "compose", str(parts), "canvass=32", "--out", str(tmp_path / "x")]) == 2
    assert "did you mean 'canvas'?" in capsys.readouterr().err
    assert main(["data", "compose", "canvas=32", "--out", str(tmp_path / "x")]) == 2
    assert "no data set" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_sample_can_be_composed(tmp_path: Path):
    found = verb.compose(
        "sample", ["where=style=openmoji,category=Food & Drink"], out=tmp_path / "scenes", scenes=6, workers=1
    )
    manifest = open_data(found.path)
    assert set(manifest.field("style")) == {"openmoji"}
    assert len(manifest) == 6
    assert np.mean([one["visible"] for objects in manifest.field("objects") for one in objects]) > 0.8
