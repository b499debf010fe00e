"""`audit noise`: the JSON of the contract, with and without a model."""

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from frugalclip.cli import main
from frugalclip.core.errors import DataError
from frugalclip.verbs.audit_noise import audit_noise

from .test_evaluate import make_model

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Sixty discs in three colours; the captions of six are wrong."""
    folder, names = tmp_path / "data", list(COLOURS)
    folder.mkdir()
    for number in range(60):
        colour = names[number % 3]
        image = Image.new("RGB", (32, 32), "white")
        box = (number % 5, number % 7, 20 + number % 11, 22 + number % 9)
        ImageDraw.Draw(image).ellipse(box, COLOURS[colour])
        image.save(folder / f"p{number:02}.png")
        told = names[(number + 1) % 3] if number < 6 else colour
        (folder / f"p{number:02}.txt").write_text(f"a {told} disc")
    return folder


def test_wrong_captions_come_first(data: Path, capsys: pytest.CaptureFixture[str]):
    out = data.parent / "noise.json"
    assert main(["audit", "noise", str(data), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [set(row) for row in found["rows"][:1]] == [{"id", "score", "reason"}]
    values = [row["score"] for row in found["rows"]]
    assert values == sorted(values, reverse=True)
    assert len(values) == 60
    assert {row["id"] for row in found["rows"][:6]} == {f"p{i:02}" for i in range(6)}
    assert 0.03 < found["rate"] < 0.25
    assert found["features"] == "descriptors and words"
    assert "of 60 pairs are wrong" in capsys.readouterr().out


def test_a_model_scores_pairs_and_rows_without_caption_are_left_out(data: Path):
    (data / "p00.txt").write_text("")
    (data / "p01.png").write_bytes(b"no image")
    found = audit_noise(data, model=make_model())
    assert found["features"] == "model"
    assert len(found["rows"]) == 58


def test_captions_of_collections_come_first(data: Path, capsys: pytest.CaptureFixture[str]):
    names = ["mouse", "trophy", "folder", "penguin", "printer", "lamp"]
    for number, name in enumerate(names):
        (data / f"p{10 + number}.png").rename(data / f"icon-{name}.png")
        (data / f"p{10 + number}.txt").unlink()
        (data / f"icon-{name}.txt").write_text("Nice theme")
    out = data.parent / "noise.json"
    assert main(["audit", "noise", str(data), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert {row["id"] for row in found["rows"][:6]} == {f"icon-{name}" for name in names}
    assert all("6 rows share its caption" in row["reason"] for row in found["rows"][:6])
    values = [row["score"] for row in found["rows"]]
    assert values == sorted(values, reverse=True)
    assert [(one["caption"], one["rows"]) for one in found["collections"]] == [("Nice theme", 6)]
    assert "may name a collection" in capsys.readouterr().out


def test_data_without_captions_is_refused(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(" ")
    with pytest.raises(DataError):
        audit_noise(tmp_path)
