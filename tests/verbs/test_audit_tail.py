"""`audit tail`: the manifest of the rarest classes, and models on head and tail."""

import json
from pathlib import Path

from frugalclip.cli import main
from frugalclip.data.manifest import Manifest
from frugalclip.verbs.audit_tail import audit_tail

from ..curation.test_near import drawing, saved
from .test_evaluate import make_model

CLASSES = {"red": 500, "green": 20, "blue": 0}


def written(folder: Path) -> Path:
    """Four drawings of each class, and a copy of one."""
    place = folder / "exam"
    place.mkdir()
    for number, name in enumerate(sorted(CLASSES) * 4):
        (place / f"{number:02}.png").write_bytes(saved(drawing(number)))
        (place / f"{number:02}.txt").write_text(name)
    (place / "copy.png").write_bytes(saved(drawing(0), "JPEG", quality=80))
    (place / "copy.txt").write_text("blue")
    counts = {name: {"text": count, "image": None, "both": None} for name, count in CLASSES.items()}
    (folder / "counts.json").write_text(json.dumps({"concepts": counts}))
    return place


def test_the_tail_is_written_and_models_are_compared(tmp_path: Path, capsys):
    data, out = written(tmp_path), tmp_path / "tail.parquet"
    found = audit_tail(
        tmp_path / "counts.json", data=data, out=out, models=[make_model()], classes=2, least=3
    )
    assert found["tail"]["classes"] == {"blue": 0, "green": 20}
    assert found["head"]["classes"] == {"red": 500, "green": 20}
    assert found["tail"]["images_of_each"] == 4  # the copy is not the fifth
    assert len(Manifest.read(out)) == 8
    (one,) = found["models"]
    assert one["gap"] == one["head"] - one["tail"]
    words = ["--data", str(data), "--out", str(out), "--classes", "2", "--least", "3"]
    assert main(["audit", "tail", str(tmp_path / "counts.json"), *words]) == 0
    assert "tail: 2 classes of 4 images: blue 0, green 20" in capsys.readouterr().out
