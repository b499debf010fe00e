from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

import frugalclip
from frugalclip.data.manifest import Manifest

from ..test_near import drawing, saved

LEAKS = {
    "same": lambda image: saved(image),
    "jpeg": lambda image: saved(image, "JPEG", quality=60),
    "half": lambda image: saved(image.resize((48, 48))),
    "crop": lambda image: saved(image.crop((3, 2, 94, 93))),
    "turned": lambda image: saved(image.transpose(Image.Transpose.ROTATE_90)),
    "upside": lambda image: saved(image.transpose(Image.Transpose.ROTATE_180)),
    "mirrored": lambda image: saved(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
}
PLAN = "stages: [{stage: decontaminate, against: exam, where: split=test}]"


def write(folder: Path, images: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in images.items():
        (folder / f"{name}.png").write_bytes(data)
        (folder / f"{name}.txt").write_text(name)
    return folder


def test_every_kind_of_leak_is_found_and_nothing_else(tmp_path: Path):
    seeds = range(10)
    leaks = {f"{kind}-{s}": make(drawing(s)) for kind, make in LEAKS.items() for s in seeds}
    clean = {f"clean-{seed}": saved(drawing(seed + 100)) for seed in range(20)}
    data = write(tmp_path / "data", {**leaks, **clean})
    write(tmp_path / "exam" / "test", {f"exam-{seed}": saved(drawing(seed)) for seed in seeds})
    write(tmp_path / "exam" / "train", {"other": saved(drawing(100))})  # also clean-0, left out by where
    (tmp_path / "exam" / "broken.png").write_bytes(b"no image")
    (tmp_path / "plan.yaml").write_text(PLAN)
    frugalclip.curate(data, plan=tmp_path / "plan.yaml", out=tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "ledger.parquet").to_pylist()
    dropped = [row for row in rows if row["fate"] == "dropped"]
    found = Counter(row["id"].partition("-")[0] for row in dropped)
    assert found == dict.fromkeys(LEAKS, 10)
    reasons = {row["id"].partition("-")[0]: row["reason"] for row in dropped}
    assert (reasons["same"], reasons["crop"]) == ("test-image", "near-test-image")
    assert reasons["turned"] == reasons["mirrored"] == "turned-test-image"
    assert all(row["keeper"].endswith(f"exam-{row['id'].partition('-')[2]}") for row in dropped)


def test_a_test_image_that_many_rows_repeat_is_in_none_of_them(tmp_path: Path):
    copies = {f"q{quality}": saved(drawing(0), "JPEG", quality=quality) for quality in range(50, 90)}
    write(tmp_path / "data", {**copies, "clean": saved(drawing(1))})
    write(tmp_path / "exam" / "test", {"exam": saved(drawing(0))})
    (tmp_path / "plan.yaml").write_text(PLAN)
    frugalclip.curate(tmp_path / "data", plan=tmp_path / "plan.yaml", out=tmp_path / "out")
    assert Manifest.read(tmp_path / "out" / "manifest.parquet").ids == ["clean"]
