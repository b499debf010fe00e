"""The sinks of cloud loggers, with the real packages and no network.

`make test-e2e` installs them into a folder of their own, since their requirements are not ours.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .test_new_user import draw

RUN = """
import sys
sys.path.append(sys.argv.pop(1))  # behind our own packages
from frugalclip.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def loggers() -> Path:
    place = os.environ.get("FRUGALCLIP_LOGGERS")
    assert place and Path(place).is_dir(), "run it with 'make test-e2e', which installs wandb and trackio"
    return Path(place)


def train_with(
    sink: str, loggers: Path, folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    draw(folder / "my", 32, seed=1)
    arguments = ["train", "clip-small", f"data={folder / 'my'}", "steps=3", "epochs=null", "batch=8"]
    return subprocess.run(
        [sys.executable, "-c", RUN, loggers, *arguments, f"log=[{sink}]", "--out", folder / "run"],
        env={**os.environ, "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )


@pytest.mark.e2e
def test_wandb_keeps_a_run_offline(loggers: Path, tmp_path: Path):
    train_with("wandb", loggers, tmp_path, WANDB_MODE="offline")
    (record,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = record.read_bytes()
    assert b"loss" in content and b"clip-small" in content


@pytest.mark.e2e
def test_trackio_keeps_a_run_in_its_folder(loggers: Path, tmp_path: Path):
    train_with("trackio", loggers, tmp_path, TRACKIO_DIR=str(tmp_path / "board"))
    (board,) = (tmp_path / "board").glob("frugalclip*.db")
    assert b"loss" in board.read_bytes()
