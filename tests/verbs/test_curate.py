import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

import frugalclip
from frugalclip.cli import main
from frugalclip.core.errors import DataError, FrugalclipError, UsageError
from frugalclip.curation import measures
from frugalclip.curation.stages.near_images import NearImages
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import open_data
from frugalclip.verbs import ledger
from frugalclip.verbs.curate import CurationResult, DryRun

PAIRS = 12
NO_ODD = """
import numpy as np

from frugalclip.curation.base import CurationStage, CurationStageConfig, Verdict


class Config(CurationStageConfig):
    word: str


class NoOdd(CurationStage):
    Config = Config
    reasons = {"odd": "its caption has the word"}

    def decide(self, rows):
        verdict = Verdict(len(rows))
        verdict.drop(np.array([self.config.word in " ".join(t) for t in rows.manifest.captions()]), "odd")
        return verdict
"""
FILES = ("manifest.parquet", "ledger.parquet", "rows.parquet")


def drawing(seed: int) -> Image.Image:
    """A picture of random boxes, unlike those of other seeds."""
    draw, image = random.Random(seed), Image.new("RGB", (64, 64), "white")
    for _ in range(6):
        x, y = draw.randrange(48), draw.randrange(48)
        colour = tuple(draw.randrange(256) for _ in range(3))
        ImageDraw.Draw(image).rectangle((x, y, x + draw.randrange(8, 32), y + draw.randrange(8, 32)), colour)
    return image


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve pictures, two of them copied byte for byte, two saved again as JPEG, and a broken one."""
    folder = tmp_path / "data"
    folder.mkdir()
    for seed in range(PAIRS):
        drawing(seed).save(folder / f"p{seed:02d}.png")
        (folder / f"p{seed:02d}.txt").write_text(f"boxes number {seed % 6}")
    for seed in (0, 1):
        shutil.copy(folder / f"p{seed:02d}.png", folder / f"same{seed}.png")
        (folder / f"same{seed}.txt").write_text("the same")
    for seed in (2, 3):
        drawing(seed).save(folder / f"twin{seed}.jpg", quality=85)
        (folder / f"twin{seed}.txt").write_text("nearly the same")
    (folder / "broken.png").write_bytes((folder / "p05.png").read_bytes()[:200])
    (folder / "broken.txt").write_text("a broken picture")
    return folder


def fates(out: Path) -> dict[str, dict]:
    rows = pq.read_table(out / "ledger.parquet").to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def test_every_row_has_one_fate_and_a_reason(data: Path, tmp_path: Path):
    result = frugalclip.curate(data, plan="dedup", out=tmp_path / "out")
    assert isinstance(result, CurationResult)
    found, kept = fates(tmp_path / "out"), Manifest.read(tmp_path / "out" / "manifest.parquet")
    assert len(found) == PAIRS + 5 == result.summary.rows
    assert sorted(kept.ids) == sorted(f"p{seed:02d}" for seed in range(PAIRS))
    assert {id for id, row in found.items() if row["fate"] == "kept"} == set(kept.ids)
    assert [found[f"same{i}"]["reason"] for i in (0, 1)] == ["same-bytes"] * 2
    assert [found[f"twin{i}"]["keeper"] for i in (2, 3)] == ["p02", "p03"]
    assert found["twin2"]["value"] > found["twin2"]["threshold"]
    assert (found["broken"]["stage"], found["broken"]["reason"]) == ("decode", "truncated")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    for stage in summary["stages"]:
        assert stage["rows_in"] - stage["rows_out"] == sum(stage["dropped"].values())
    assert summary["kept"] == len(kept) == summary["stages"][-1]["rows_out"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(text in page for text in ("12 of 17 rows stay", "near_images", "twin2: near-duplicate"))


def test_what_was_chosen_is_read_as_a_data_set_and_a_second_call_drops_nothing(data: Path, tmp_path: Path):
    frugalclip.curate(data, plan="dedup", out=tmp_path / "first")
    again = frugalclip.curate(tmp_path / "first" / "manifest.parquet", plan="dedup", out=tmp_path / "second")
    assert again.summary.kept == again.summary.rows == PAIRS


def test_the_order_of_rows_changes_no_fate(data: Path, tmp_path: Path):
    frugalclip.curate(data, plan="dedup", out=tmp_path / "one")
    rows = Manifest.read(tmp_path / "one" / "rows.parquet")
    rows.take(list(range(len(rows)))[::-1]).write(tmp_path / "turned.parquet")
    frugalclip.curate(tmp_path / "turned.parquet", plan="dedup", out=tmp_path / "other")
    assert fates(tmp_path / "one") == fates(tmp_path / "other")


def test_rows_far_from_all_others_change_nothing_else(data: Path, tmp_path: Path):
    frugalclip.curate(data, plan="dedup", out=tmp_path / "one")
    drawing(99).save(data / "p99.png")
    (data / "p99.txt").write_text("far away")
    frugalclip.curate(data, plan="dedup", out=tmp_path / "other")
    before, after = fates(tmp_path / "one"), fates(tmp_path / "other")
    assert after.pop("p99")["fate"] == "kept"
    assert before == after


@pytest.mark.parametrize("stopped", ["measuring", "near_images"])
def test_stopped_and_resumed_gives_the_same_bytes(
    stopped: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(measures, "ROWS", 4)
    frugalclip.curate(data, plan="dedup", out=tmp_path / "whole", workers=1)
    measured, decide, calls = measures.measured, NearImages.decide, Counter()

    def failing(*arguments: object) -> object:
        calls["calls"] += 1
        if calls["calls"] > (10 if stopped == "measuring" else 0):
            raise KeyboardInterrupt
        return measured(*arguments)

    with monkeypatch.context() as patch:
        if stopped == "measuring":
            patch.setattr(measures, "measured", failing)
        else:
            patch.setattr(NearImages, "decide", failing)
        with pytest.raises(KeyboardInterrupt):
            frugalclip.curate(data, plan="dedup", out=tmp_path / "stopped", workers=1)
    with pytest.raises(DataError, match="add --resume"):
        frugalclip.curate(data, plan="dedup", out=tmp_path / "stopped")
    frugalclip.curate(data, plan="dedup", out=tmp_path / "stopped", resume=True, workers=1)
    assert NearImages.decide is decide
    for name in FILES:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name


def test_another_plan_in_the_same_folder_is_refused(data: Path, tmp_path: Path):
    frugalclip.curate(data, plan="dedup", out=tmp_path / "out")
    with pytest.raises(DataError, match="stages of a curation made with stages"):
        frugalclip.curate(data, plan="clean", out=tmp_path / "out", resume=True)
    with pytest.raises(UsageError, match="--out DIR"):
        frugalclip.curate(data, plan="clean")


def test_a_dry_run_writes_nothing_and_prints_what_to_expect(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = sorted(tmp_path.rglob("*"))
    assert main(["curate", str(data), "--plan", "dedup", "--dry-run"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    printed = capsys.readouterr().out
    assert "Expected of 17 rows, from all; nothing was written." in printed
    expected = frugalclip.curate(data, plan="dedup", dry_run=True)
    assert isinstance(expected, DryRun)
    assert [round(stage.rows_out) for stage in expected.stages] == [16, 14, 12]


def test_a_plan_that_drops_everything_is_refused(data: Path, tmp_path: Path):
    (tmp_path / "plan.yaml").write_text("stages: [{stage: rules, min_words: 100}]")
    with pytest.raises(FrugalclipError, match="drops all 17 rows"):
        frugalclip.curate(data, plan=tmp_path / "plan.yaml", out=tmp_path / "out")


def test_a_stage_of_ones_own_lies_beside_the_plan(data: Path, tmp_path: Path):
    (tmp_path / "no_odd.py").write_text(NO_ODD)
    (tmp_path / "plan.yaml").write_text("stages: [{stage: no_odd, word: number 3}]")
    frugalclip.curate(data, plan=tmp_path / "plan.yaml", out=tmp_path / "out")
    assert {id for id, row in fates(tmp_path / "out").items() if row["reason"] == "odd"} == {"p03", "p09"}


def test_explain_tells_the_story_of_a_row(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    frugalclip.curate(data, plan="dedup", out=tmp_path / "out")
    story = ledger.explain(tmp_path / "out", "twin2")
    assert (story.fate, story.stage, story.keeper) == ("dropped", "near_images", "p02")
    assert story.image == data / "twin2.jpg"
    assert story.keeper_image == data / "p02.png"
    assert [(one.stage, one.reason) for one in story.stages] == [
        ("exact_images", None),
        ("near_images", "near-duplicate"),
    ]
    assert main(["ledger", "explain", str(tmp_path / "out"), "twin2"]) == 0
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("twin2 is dropped", "hardly differs", "In its place stays p02"))
    with pytest.raises(DataError, match="is no row of"):
        ledger.explain(tmp_path / "out", "twin99")
    with pytest.raises(DataError, match="no ledger of a finished curation"):
        ledger.explain(data, "twin2")


def test_the_folder_of_a_curation_is_the_data_that_was_chosen(data: Path, tmp_path: Path):
    frugalclip.curate(data, plan="dedup", out=tmp_path / "out")
    chosen = open_data(tmp_path / "out")
    assert chosen.ids == Manifest.read(tmp_path / "out" / "manifest.parquet").ids
    assert chosen.image_files(chosen.ids[:1])[0].is_file()


def test_a_ledger_without_a_column_is_a_sentence(data: Path, tmp_path: Path):
    frugalclip.curate(data, plan="dedup", out=tmp_path / "out")
    path = tmp_path / "out" / "ledger.parquet"
    table = pq.read_table(path)
    renamed = table.rename_columns(["Id", *table.column_names[1:]])
    pq.write_table(renamed.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(DataError, match="its columns are not those of a ledger"):
        ledger.explain(tmp_path / "out", "p00")


@pytest.mark.parametrize("name", ["ledger.parquet", "stages/02-near_images.parquet"])
def test_damaged_files_of_a_curation_are_named(name: str, data: Path, tmp_path: Path):
    frugalclip.curate(data, plan="dedup", out=tmp_path / "out")
    path = tmp_path / "out" / name
    table = pq.read_table(path)
    broken = pa.array([b"\xff" * 5] * len(table)).view(pa.string())
    pq.write_table(table.set_column(table.column_names.index("detail"), "detail", broken), path)
    with pytest.raises(DataError, match=f"{path.name} cannot be read"):
        ledger.explain(tmp_path / "out", "p00")


def test_undo_takes_a_stage_back_and_keeps_what_it_had_decided(data: Path, tmp_path: Path):
    out = tmp_path / "out"
    frugalclip.curate(data, plan="dedup", out=out)
    assert main(["ledger", "undo", str(out), "exact_images"]) == 0
    assert len(Manifest.read(out / "manifest.parquet")) == PAIRS + 2
    row = fates(out)["same0"]
    assert (row["fate"], row["reason"], row["detail"]) == ("kept", "undone", "same-bytes")
    assert json.loads((out / "summary.json").read_text())["stages"][1]["taken_back"]
    assert fates(out)["twin2"]["fate"] == "dropped"
    assert "exact_images (taken back)" in (out / "report.html").read_text()
    with pytest.raises(DataError, match="did you mean 'near_images'"):
        ledger.undo(out, "near_image")


def test_a_stage_that_was_taken_back_stays_so_when_the_call_is_made_again(data: Path, tmp_path: Path):
    out = tmp_path / "out"
    frugalclip.curate(data, plan="dedup", out=out)
    ledger.undo(out, "exact_images")
    before = fates(out)
    result = frugalclip.curate(data, plan="dedup", out=out, resume=True)
    assert fates(out) == before
    assert result.summary.kept == len(Manifest.read(out / "manifest.parquet")) == PAIRS + 2
    assert [one.name for one in result.summary.stages if one.taken_back] == ["exact_images"]
