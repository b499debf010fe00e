"""How much bad data a run tolerates: where it stops, its message, its ledger, and that resuming is exact."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from frugalclip.core.errors import DataError
from frugalclip.core.records import RunDirectory
from frugalclip.data.ledger import Entry, Ledger, read_ledger
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.sources.reading import READING
from frugalclip.training.error_policy import ErrorPolicy, Rows
from frugalclip.training.sections import DataConfig
from frugalclip.verbs.train import train


def rows(count: int) -> Rows:
    ids = [f"s{i}" for i in range(count)]
    every = make_manifest(
        ids=ids, images=image_places(ids), captions=[["x"]] * count, root=Path(), name="pack"
    )
    return Rows(every, every, None)


def error_policy(
    count: int, run: Path, *, max_error_fraction: float = 0.01, read: int = 0, **options: Any
) -> ErrorPolicy:
    ledger = Ledger(READING, [Entry(f"r{i}", READING, "no-caption") for i in range(read)])
    return ErrorPolicy(
        DataConfig(path="my data", max_error_fraction=max_error_fraction),
        rows(count),
        RunDirectory(run),
        read=ledger,
        **options,
    )


def bad(count: int) -> list[tuple[str, str]]:
    return [(f"s{i}", "truncated") for i in range(count)]


def test_share_is_what_reading_and_what_decoding_lost(tmp_path: Path):
    one = error_policy(90, tmp_path, read=10)
    assert one.share == pytest.approx(0.1)
    one.meet(bad(9))
    assert one.share == pytest.approx(0.1 + 0.1)
    assert not one.meet(bad(9))  # the same again
    assert len(one.bad) == 19


@pytest.mark.parametrize(
    ("count", "faults", "max_error_fraction", "stops"),
    [
        (20, 2, 0.01, False),
        (20, 3, 0.01, True),
        (20, 3, 0.2, False),
        (9, 1, 0, True),
        (900, 9, 0.01, False),
        (900, 10, 0.01, True),
        (9, 9, 1, False),
    ],
)
def test_a_share_stops_but_one_or_two_samples_never_do(
    tmp_path: Path, count: int, faults: int, max_error_fraction: float, stops: bool
):
    one = error_policy(count, tmp_path, max_error_fraction=max_error_fraction)
    one.meet(bad(faults))
    assert one.is_exceeded is stops


def test_conditions_are_no_damage(tmp_path: Path):
    one = error_policy(20, tmp_path)
    one.meet([(f"s{i}", "no-text") for i in range(9)])
    one.read.extend(Entry(f"f{i}", READING, "symlink-loop") for i in range(9))
    one.enforce()
    assert one.in_words() is None


def test_the_message_counts_names_and_says_how_to_go_on(tmp_path: Path):
    command = ("frugalclip", "train", "clip", "data=my data", "data.max_error_fraction=0.02")
    one = error_policy(96, tmp_path / "run", read=4, command=command)
    one.meet(bad(5))
    with pytest.raises(DataError) as error:
        one.enforce()
    text = str(error.value)
    for words in (
        "9 samples are bad, 9.2 %, and data.max_error_fraction allows 1 %",
        "5  truncated: the image ends early; copy it again (s0, s1, s2, …)",
        "4  no-caption: the caption is missing or empty (r0, r1, r2, …)",
        f"Every one is named in {tmp_path}/run/ledger.parquet",
        "frugalclip data verify 'my data' --repair",
        f"frugalclip train clip 'data=my data' data.max_error_fraction=0.1 --out {tmp_path}/run",
    ):
        assert words in text, (words, text)
    assert "--resume" not in text
    table = read_ledger(tmp_path / "run/ledger.parquet")
    assert table["status"].to_pylist() == ["kept"] * 91 + ["dropped"] * 9
    with pytest.raises(DataError, match=r"(?s)after step 7, .*data.max_error_fraction=0.2 .*--resume"):
        one.enforce(step=7)


@pytest.fixture
def spoiled(squares: Path, tmp_path: Path) -> Path:
    """The coloured squares, 6 of 96 broken, and one row without a caption."""
    folder = tmp_path / "spoiled"
    shutil.copytree(squares.parent, folder)
    for number in (3, 17, 31, 44, 58, 70):
        (folder / f"{number:03}.png").write_bytes((folder / f"{number:03}.png").read_bytes()[:-30])
    with (folder / "pairs.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"id": "mute", "image": "000.png", "caption": "", "split": "train"}))
    return folder / "pairs.jsonl"


def fates(run: Path) -> dict[str, list[str]]:
    table: pa.Table = read_ledger(run / "ledger.parquet")
    found: dict[str, list[str]] = {}
    for row in table.to_pylist():
        found.setdefault(row["reason"] or row["status"], []).append(row["id"])
    assert table.num_rows == 97
    return found


BROKEN = ["s003", "s017", "s031", "s044", "s058", "s070"]


def test_a_run_stops_before_its_first_step_and_the_command_it_names_goes_on(
    recipe_file: Callable[..., str], spoiled: Path, tmp_path: Path
):
    run, recipe = tmp_path / "run", recipe_file(data={"path": str(spoiled)})
    with pytest.raises(DataError, match=r"(?s)7 samples are bad, 7.3 %.*data.max_error_fraction=0.1 --out"):
        train(recipe, out=run)
    assert [path.name for path in run.iterdir()] == ["ledger.parquet"]
    found = fates(run)
    assert sorted(found["truncated"]) == BROKEN
    assert found["no-caption"] == ["mute"]
    result = train(recipe, ["data.max_error_fraction=0.1"], out=run)
    assert result.is_finished
    found = fates(run)
    assert sorted(found["truncated"]) == BROKEN
    assert len(found["kept"]) + len(found["validation"]) == 90
    assert json.loads((run / "metrics.json").read_text())["training"]["left_out"] == {
        "truncated": 6,
        "no-caption": 1,
    }


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_that_fail_on_the_way_count_and_the_run_can_go_on_exactly(
    recipe_file: Callable[..., str], spoiled: Path, tmp_path: Path, workers: int
):
    data = {
        "path": str(spoiled),
        "validation": "none",
        "cache_bytes": 0,
        "workers": workers,
        "max_error_fraction": 0.03,
    }
    recipe = recipe_file(data=data)
    with pytest.raises(DataError, match=r"samples are bad after step \d") as error:
        train(recipe, out=tmp_path / "stopped")
    assert "--resume" in str(error.value)
    assert RunDirectory(tmp_path / "stopped").steps_saved()
    resumed = train(recipe, ["data.max_error_fraction=1"], out=tmp_path / "stopped", resume=True)
    straight = train(recipe, ["data.max_error_fraction=1"], out=tmp_path / "straight")
    assert fates(tmp_path / "stopped") == fates(tmp_path / "straight")
    assert set(fates(tmp_path / "straight")["truncated"]) == set(BROKEN)
    assert (tmp_path / "stopped/recipe.yaml").read_text() == (tmp_path / "straight/recipe.yaml").read_text()
    for first, second in zip(
        resumed.model.network.parameters(), straight.model.network.parameters(), strict=True
    ):
        assert first.equal(second)


def test_a_manifest_alone_has_a_budget_too(tmp_path: Path):
    assert isinstance(rows(3).everything, Manifest)
    one = ErrorPolicy(DataConfig(), rows(4), RunDirectory(tmp_path))
    one.meet(bad(4))
    with pytest.raises(DataError, match=r"Go on without them: set data.max_error_fraction=1$"):
        one.enforce()
