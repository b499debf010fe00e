"""`data divide`: a manifest that training and evaluation read, and sentences where it cannot be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frugalclip.cli import main
from frugalclip.core.errors import DataError
from frugalclip.data.splits import divide as divide_for_a_run
from frugalclip.sources.open import open_data
from frugalclip.verbs.data_divide import divide

from .data_folders import fill


def noise(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(f"drawing {number}")
    return folder


def test_the_manifest_divides_training_and_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder, out = noise(tmp_path / "my", 60), tmp_path / "divided"
    assert main(["data", "divide", str(folder), "--out", str(out)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "60 rows in 60 groups" in text
    assert "train 42 (70 %), val 6 (10 %), test 12 (20 %); no group is divided" in text
    assert f"evaluate runs/first --data {out}.parquet --where split=test" in text
    manifest = open_data(f"{out}.parquet")
    assert manifest.field("split").count("test") == 12
    assert (tmp_path / "divided.ledger.parquet").is_file()
    run = divide_for_a_run(manifest, where=None, validation="auto")
    assert (len(run.train), len(run.validation or ())) == (42, 6)


def test_a_split_of_the_data_is_kept_unless_asked(tmp_path: Path):
    noise(tmp_path / "my", 40)
    first = divide(tmp_path / "my", out=tmp_path / "one.parquet").path
    with pytest.raises(
        DataError, match=r"divides itself, by its field split \(test, train, val\).*--replace"
    ):
        divide(first, out=tmp_path / "two.parquet")
    again = divide(first, out=tmp_path / "two.parquet", seed=1, replace=True).path
    assert open_data(again).field("split") != open_data(first).field("split")


def test_a_share_of_zero_leaves_a_split_out(tmp_path: Path):
    path = divide(
        noise(tmp_path / "my", 40), out=tmp_path / "d.parquet", shares={"val": 0, "test": 0.25}
    ).path
    assert sorted(set(open_data(path).field("split"))) == ["test", "train"]


def test_pictures_that_are_all_alike_are_one_group(tmp_path: Path):
    with pytest.raises(DataError, match="1 groups"):
        divide(fill(tmp_path / "my", 4), out=tmp_path / "d.parquet")
