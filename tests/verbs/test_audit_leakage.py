"""`audit leakage`: the JSON of the contract, the repaired split, and what is printed."""

import json
from pathlib import Path

import pytest

from frugalclip.cli import main
from frugalclip.data.manifest import Manifest

from ..curation.test_near import drawing, saved


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    train, test = tmp_path / "train", tmp_path / "test"
    for folder, seeds in ((train, range(6)), (test, range(4, 9))):
        folder.mkdir()
        for seed in seeds:
            (folder / f"p{seed}.png").write_bytes(saved(drawing(seed)))
            (folder / f"p{seed}.txt").write_text(f"a drawing with the number {seed}")
    return train, test


def test_pairs_and_the_repaired_split(sides: tuple[Path, Path], capsys: pytest.CaptureFixture[str]):
    train, test = sides
    out, repaired = train.parent / "leaks.json", train.parent / "clean.parquet"
    words = ["audit", "leakage", str(train), str(test), "--caption-similarity", "1", "--json", str(out)]
    assert main([*words, "--repair", str(repaired)]) == 0
    found = json.loads(out.read_text())
    assert found["pairs"] == [["p4", "p4", "exact", 1.0], ["p5", "p5", "exact", 1.0]]
    assert found["leaking_test_rows"] == {"exact": 2}
    assert found["repaired"]["dropped"] == 2
    assert Manifest.read(repaired).ids == ["p0", "p1", "p2", "p3"]
    assert "2 of 5 test pictures are in" in capsys.readouterr().out
    assert (
        main(["audit", "leakage", str(repaired), str(test), "--caption-similarity", "1", "--json", str(out)])
        == 0
    )
    assert json.loads(out.read_text())["pairs"] == []
    assert "none leaks" in capsys.readouterr().out
