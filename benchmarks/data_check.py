"""Claim: `frugalclip data check` checks a CSV of 100,000 pairs in under 20 seconds.

The pairs are 100,000 files and captions of 3 to 12 words, some empty, some missing, some repeated. The files
are links to 500 images of 64 px, so that the disk is not measured. The time is the command's own, from start
to exit.
Run: python benchmarks/data_check.py [--rows 100000]
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import options, record
from PIL import Image

IMAGES = 500


def write_pairs(folder: Path, rows: int) -> Path:
    """A CSV and its pictures."""
    draw = np.random.default_rng(0)
    (folder / "originals").mkdir()
    for i in range(IMAGES):
        Image.fromarray(draw.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
            folder / "originals" / f"{i}.jpg"
        )
    words = [f"word{i}" for i in range(2000)]
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        for i in range(rows):
            place = folder / "images" / f"{i // 1000:03}"
            place.mkdir(parents=True, exist_ok=True)
            if i % 997:  # now and then a picture is missing
                os.link(folder / "originals" / f"{i % IMAGES}.jpg", place / f"{i}.jpg")
            caption = "" if i % 1009 == 0 else " ".join(draw.choice(words, draw.integers(3, 13)))
            writer.writerow([f"images/{i // 1000:03}/{i}.jpg", caption])
    return folder / "pairs.csv"


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__ or "", "data-check", rows=100_000)
    with tempfile.TemporaryDirectory() as folder:
        path = write_pairs(Path(folder), chosen.rows)
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "frugalclip", "data", "check", str(path)], capture_output=True, text=True
        )
        seconds = time.perf_counter() - begun
    print(done.stdout[-1500:], done.stderr[-500:])
    content = {"rows": chosen.rows, "seconds": seconds, "returned": done.returncode}
    record(
        chosen.json,
        content,
        [(f"seconds of data check on {chosen.rows:,} rows of CSV", seconds, 20, "at most")],
    )


if __name__ == "__main__":
    main()
