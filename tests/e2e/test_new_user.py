"""A new user's way through the command line, in an empty folder, with nothing but what the README says."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

pytestmark = pytest.mark.e2e

COLOURS = ["red", "green", "blue", "orange", "purple", "black"]


def draw(folder: Path, count: int, *, seed: int) -> None:
    """Coloured discs and squares, each with its caption beside it."""
    folder.mkdir()
    generator = random.Random(seed)
    for i in range(count):
        colour, shape = generator.choice(COLOURS), generator.choice(["disc", "square"])
        image = Image.new("RGB", (72, 64), "white")
        x, y, r = generator.randint(20, 50), generator.randint(20, 44), generator.randint(8, 16)
        pen = ImageDraw.Draw(image)
        (pen.ellipse if shape == "disc" else pen.rectangle)((x - r, y - r, x + r, y + r), fill=colour)
        image.save(folder / f"{i:03d}.png")
        (folder / f"{i:03d}.txt").write_text(f"a {colour} {shape}\n")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's folder: pictures to train on with two files that are no samples, pictures to test on."""
    folder = tmp_path_factory.mktemp("user")
    draw(folder / "my", 160, seed=1)
    draw(folder / "my_test", 48, seed=2)
    (folder / "my" / "broken.png").write_bytes(b"\x89PNG and then nothing")
    (folder / "my" / "broken.txt").write_text("a broken file\n")
    return folder


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "frugalclip", *words]


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command(*words), cwd=home, env=env, capture_output=True, text=True, timeout=600)


TRAIN = ["train", "clip", "data=my/", "epochs=12", "batch=32", "evaluation.points=4"]


def test_four_commands(home: Path):
    checked = run(home, "data", "check", "my/")
    assert checked.returncode == 0, checked.stderr
    assert "161 samples" in checked.stdout
    assert "broken" in checked.stdout

    trained = run(home, *TRAIN, "--out", "runs/first")
    assert trained.returncode == 0, trained.stderr
    assert (home / "runs/first/report.html").is_file()

    judged = run(home, "evaluate", "runs/first", "--data", "my_test/", "--baselines", "--json", "first.json")
    assert judged.returncode == 0, judged.stderr
    result = json.loads((home / "first.json").read_text())
    assert result["samples"] == 48
    assert result["metrics"]["top1"] > 2 * result["chance"]["top1"]
    assert result["baselines"]

    stored = run(home, "embed", "runs/first", "my_test/", "--out", "store")
    assert stored.returncode == 0, stored.stderr


def test_an_interrupted_run_says_how_to_go_on_and_does(home: Path):
    process = subprocess.Popen(
        command(*TRAIN, "--out", "runs/second"),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 300
    while not (home / "runs/second/checkpoints").is_dir() and time.monotonic() < until:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output
    assert "--out runs/second --resume" in output

    resumed = run(home, "train", "clip", "--out", "runs/second", "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    steps = [
        json.loads(line)["step"] for line in (home / "runs/second/metrics.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(steps)
    again = run(home, *TRAIN, "--out", "runs/second")
    assert again.returncode == 2
    assert "--resume" in again.stderr
