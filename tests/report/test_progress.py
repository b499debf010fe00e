"""What a run prints: chance beside metrics, no long silence in a log, and no broken line."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from frugalclip.report import progress
from frugalclip.report.progress import ConsoleListener, validation_table

EVALUATION = {"zeroshot/top1": 12.34, "retrieval/t2i_r1": 5.0}
CHANCE = {"zeroshot/top1": 1.818, "retrieval/t2i_r1": 0.25}


@pytest.fixture
def listener() -> ConsoleListener:
    made = ConsoleListener(Console(file=io.StringIO(), width=40, color_system=None))
    made.steps = 100
    return made


def text(listener: ConsoleListener) -> str:
    assert isinstance(listener.console.file, io.StringIO)
    return listener.console.file.getvalue()


def test_chance_stands_beside_every_metric_on_one_line(listener: ConsoleListener):
    row = {"step": 10, "seconds": 3.21, "loss": 2.5, "evaluation": EVALUATION, "chance": CHANCE}
    listener.row(row)
    (line,) = text(listener).splitlines()
    assert line == (
        "step     10      3.2 s  loss 2.500  zeroshot/top1 12.3\N{NO-BREAK SPACE}% (chance 1.8), "
        "retrieval/t2i_r1 5.0\N{NO-BREAK SPACE}% (chance 0.25)"
    )


def test_a_log_gets_a_line_every_tenth(listener: ConsoleListener):
    for step in range(1, 101):
        listener.row({"step": step, "seconds": 0.1 * step, "loss": 1.0})
    assert [line.split()[1] for line in text(listener).splitlines()] == [str(10 * i) for i in range(1, 10)]
    assert "of 100 steps" in text(listener)


def test_a_log_is_not_silent_for_long(listener: ConsoleListener, monkeypatch: pytest.MonkeyPatch):
    listener.steps = 10_000
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(progress, "time", clock)
    listener._printed = 0.0, 0
    for step in range(1, 101):
        clock.monotonic = lambda step=step: float(step)
        listener.row({"step": step, "seconds": float(step), "loss": 1.0})
    assert [line.split()[1] for line in text(listener).splitlines()] == ["30", "60", "90"]


def test_the_table_of_metrics_has_chance():
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(validation_table([{"step": 1, "evaluation": EVALUATION, "chance": CHANCE}]))
    assert isinstance(console.file, io.StringIO)
    row = next(line for line in console.file.getvalue().splitlines() if "zeroshot/top1" in line)
    assert row.split("│")[2].strip() == "1.8"
    whole = {"step": 1, "evaluation": {"zeroshot/top5": 100.0}, "chance": {"zeroshot/top5": 100.0}}
    console.print(validation_table([whole]))
    assert "100.0" in console.file.getvalue() and "e+" not in console.file.getvalue()
