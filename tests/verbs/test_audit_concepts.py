"""`audit concepts`: the JSON of the contract, counts of captions and images, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frugalclip.cli import main
from frugalclip.core.errors import InUseError, UsageError
from frugalclip.core.locks import writing, writing_file
from frugalclip.verbs.audit_concepts import audit_concepts

CAPTIONS = ["a red disc", "two red discs", "a blue ring and a red bus", "a blue ring"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for number, caption in enumerate(CAPTIONS):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"p{number}.png")
        (folder / f"p{number}.txt").write_text(caption)
    (tmp_path / "classes.txt").write_text("red disc\nblue ring | azure ring\nunicorn\n")
    return folder


def test_the_json_of_the_contract(data: Path, capsys: pytest.CaptureFixture[str]):
    classes, out = data.parent / "classes.txt", data.parent / "counts.json"
    assert main(["audit", "concepts", str(data), "--classes", str(classes), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["concepts"] == {
        "red disc": {"text": 2, "image": None, "both": None},
        "blue ring": {"text": 2, "image": None, "both": None},
        "unicorn": {"text": 0, "image": None, "both": None},
    }
    assert found["absent_words"] == {"unicorn": ["unicorn"]}
    printed = capsys.readouterr().out
    assert "3 concepts" in printed
    assert "'unicorn' of 'unicorn'" in printed


def test_images_by_a_tagger_and_misalignment(data: Path):
    ids = ["p0", "p1", "p2", "p3"]
    scores = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    tags = data.parent / "tags.npz"
    np.savez(tags, ids=np.array(ids), concepts=np.array(["red disc", "blue ring"]), scores=scores)
    found = audit_concepts(data, classes=data.parent / "classes.txt", tags=tags, released=data.parent / "out")
    assert found["concepts"]["red disc"] == {"text": 2, "image": 3, "both": 2}
    assert found["concepts"]["blue ring"] == {"text": 2, "image": 1, "both": 1}
    assert found["concepts"]["unicorn"] == {"text": 0, "image": None, "both": None}
    assert found["misalignment"]["misaligned"] == 1
    assert found["misalignment"]["both"] == 4
    assert len(list((data.parent / "out").glob("*_search_counts.json"))) == 3


def test_concepts_are_mined_or_fields(data: Path):
    mined = audit_concepts(data, least=2)
    assert set(mined["concepts"]) == {"disc", "ring", "red disc", "blue ring"}
    (data.parent / "pairs.csv").write_text(
        "image,caption,kind\n" + "\n".join(f"data/p{i}.png,{c},red disc" for i, c in enumerate(CAPTIONS))
    )
    found = audit_concepts(data.parent / "pairs.csv", field="kind", match="phrase")
    assert found["concepts"] == {"red disc": {"text": 2, "image": None, "both": None}}


def test_what_excludes_each_other_is_refused(data: Path):
    with pytest.raises(UsageError, match="exclude each other"):
        audit_concepts(data, classes="c.txt", field="kind")
    with pytest.raises(UsageError, match="--model and --tags"):
        audit_concepts(data, model="m", tags="t.npz")


@pytest.mark.parametrize("number", ["threshold", "deviations"])
def test_a_number_that_is_none_is_refused(number: str, data: Path):
    with pytest.raises(UsageError, match=f"--{number} is nan"):
        audit_concepts(data, **{number: float("nan")})


def test_folders_that_another_command_writes_are_refused(data: Path, tmp_path: Path):
    with writing(tmp_path / "released"), pytest.raises(InUseError, match="is in use"):
        audit_concepts(data, least=1, released=tmp_path / "released")
    with writing_file(tmp_path / "postings"), pytest.raises(InUseError, match="is in use"):
        audit_concepts(data, least=1, postings=tmp_path / "postings")
