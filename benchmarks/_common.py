"""What the benchmarks share: arms in turn, the machine's measured limits, and records.

Times are CPU time on one thread, which other work on the machine changes little, and medians of arms that run in turn in one process; only
ratios within one run are claimed. A limit is the best rate measured in the same run, not a figure from a data sheet.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frugalclip.core.records import environment, write_json

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"


def options(claim: str, name: str, **numbers: int) -> argparse.Namespace:
    """Command line of a benchmark: its numbers, and where the record goes.

    Args:
        claim: the docstring of the file.
        name: of the record.
        numbers: defaults of integer options.
    """
    parser = argparse.ArgumentParser(description=claim, formatter_class=argparse.RawDescriptionHelpFormatter)
    for key, value in numbers.items():
        parser.add_argument(f"--{key}", type=int, default=value)
    parser.add_argument("--json", type=Path, default=RESULTS / f"{name}.json", help="record of the run, read by benchmarks/page.py")
    return parser.parse_args()


def in_turn(arms: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each arm, after one unmeasured turn that allocates."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(repeats + 1):
        for name, run in arms.items():
            begun = time.process_time()
            run()
            if turn:
                seconds[name].append(time.process_time() - begun)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each arm."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def gemm_rate(kind: torch.dtype, *, size: int = 2048, repeats: int = 5) -> float:
    """Operations a second of a square matrix product on one thread."""
    a, b = (torch.randn(size, size).to(kind) for _ in range(2))
    times = in_turn({"product": lambda: a @ b}, repeats=repeats)["product"]
    return 2 * size**3 / min(times)


def peak_growth(run: Callable[[], object]) -> int:
    """Bytes by which the resident memory of this process grows at most while something runs (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is resident now
    before = _resident("VmHWM")
    run()
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def record(path: Path, content: Mapping[str, Any], goals: list[tuple[str, float, float, str]]) -> None:
    """Print goals and write the record.

    Args:
        path: JSON file.
        content: what was measured.
        goals: (what, reached, goal, "at least" or "at most").
    """
    for what, reached, goal, way in goals:
        met = reached >= goal if way == "at least" else reached <= goal
        print(f"goal: {what} {way} {goal:g}: {reached:.3g} {'reached' if met else 'NOT reached'}")
    listed = [{"what": what, "reached": reached, "goal": goal, "way": way} for what, reached, goal, way in goals]
    write_json(path, {**content, "goals": listed, "environment": environment()})


def relative(ours: Tensor, truth: Tensor) -> float:
    """Largest difference of any number, relative to the largest number of the truth."""
    return float((ours.double() - truth.double()).abs().max() / truth.double().abs().max())
