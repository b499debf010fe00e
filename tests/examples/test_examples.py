"""Every example runs in under 20 seconds, is short, and prints what stands beside it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "shapes")
MOST_LINES, MOST_SECONDS = 80, 20


def own_lines(text: str) -> list[str]:
    """What an example prints after training, without numbers, which other processors round."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("trained "))
    return [re.sub(r"-?\d+(?:\.\d+)?", "N", line) for line in lines[start:]]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_and_prints_what_stands_beside_it(name: str, tmp_path: Path):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    before = os.times()
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=6 * MOST_SECONDS,  # the machine may be busy
    )
    assert done.returncode == 0, done.stderr
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < MOST_SECONDS, f"{spent:.0f} s of processor time"
    expected = (EXAMPLES / f"{name}.txt").read_text(encoding="utf-8")
    assert own_lines(done.stdout) == own_lines(expected)


def test_examples_are_short_and_have_the_same_steps():
    assert len(NAMES) >= 5
    for name in NAMES:
        text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
        assert len(text.splitlines()) < MOST_LINES, name
        assert re.findall(r"^    # (\d)\. (\w+)", text, re.M)[:2] == [("1", "Data"), ("2", "Train")], name
