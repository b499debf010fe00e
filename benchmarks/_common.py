"""What the benchmarks share: interleaved arms, the measured limits of the machine, and records.

Times are CPU time on one thread, which other programs hardly change: medians of arms that take turns in one
process. Only ratios within one run are claimed. A limit is the best rate measured in the same run, not a
value from a data sheet.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from frugalclip.core.records import environment, read_json, write_json
from frugalclip.core.users_text import shell_line
from frugalclip.verbs.compare import compare
from frugalclip.verbs.train import train

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "benchmarks"
EMOJI = HERE / "protocols" / "emoji.yaml"
KEPT = (
    "answer",
    "reference",
    "primary",
    "folds",
    "seeds",
    "samples",
    "clock",
    "tests",
    "baseline_tests",
    "metrics",
    "curves",
    "costs",
    "notes",
    "data",
    "fractions",
    "data_efficiency",
)


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
    parser.add_argument(
        "--json",
        type=Path,
        default=RESULTS / f"{name}.json",
        help="record of the run, read by benchmarks/page.py",
    )
    return parser.parse_args()


def compared(
    arms: Sequence[str | Path],
    chosen: argparse.Namespace,
    *,
    reference: str,
    samples: int | None = None,
    protocol: Any = EMOJI,
    is_record: bool = True,
    folder: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Compare arms, by default on the emoji pack with every style held out in turn.

    Finished trials are not trained again.

    Args:
        arms: names of recipes or of files in benchmarks/arms, or paths.
        chosen: seeds, jobs and json of the command line; the record's name is that of the folder in runs/.
        reference: arm that the others are compared with.
        samples: that every run sees; None leaves each arm its own length.
        protocol: data, splits and metrics.
        is_record: whether the record is written.
        folder: in runs/, where that is not the record's name.
        more: further arguments of `compare`.

    Returns:
        The part of compare.json that is kept as a record.

    Raises:
        SystemExit: if Ctrl-C or SIGTERM stopped it. Half a comparison is no record.
    """
    files = [str(path) if (path := HERE / "arms" / f"{arm}.yaml").is_file() else str(arm) for arm in arms]
    out = HERE.parent / "runs" / (folder or chosen.json.stem)
    found = compare(
        files,
        out=out,
        seeds=chosen.seeds,
        samples=samples,
        protocol=protocol,
        reference=reference,
        jobs=chosen.jobs,
        **more,
    )
    if found["is_stopped"]:
        raise SystemExit(
            "stopped before all trials were finished, so nothing is written; the same command resumes."
        )
    kept = {key: found[key] for key in KEPT if key in found}
    if is_record:
        write_json(chosen.json, kept)
    return kept


def best_rates(
    methods: Mapping[str, Sequence[float]],
    at: Callable[[str, float], dict[str, Any]],
    chosen: argparse.Namespace,
    *,
    samples: int,
    protocol: Any = EMOJI,
) -> dict[str, dict[str, Any]]:
    """Train each method at each of its peak learning rates once, and choose the best on the validation split.

    Args:
        methods: name -> rates.
        at: the content of a method's arm file at a rate.
        chosen: the command line.
        samples: that every run sees.
        protocol: data, splits and metrics.

    Returns:
        name -> `tried` (rate -> primary metric) and `rate`.
    """
    folder = f"{chosen.json.stem}-tuning"
    files = written(
        {f"{name}-{rate:g}": at(name, rate) for name, rates in methods.items() for rate in rates},
        HERE.parent / "runs" / f"{folder}-arms",
    )
    once = argparse.Namespace(**{**vars(chosen), "seeds": 1})
    more: dict[str, Any] = {
        "samples": samples,
        "protocol": protocol,
        "split": "validation",
        "is_record": False,
        "folder": folder,
    }
    found = compared(list(files.values()), once, reference=next(iter(files)), **more)
    values = {name: entry["value"] for name, entry in found["metrics"][found["primary"]]["arms"].items()}
    each = {
        name: {f"{rate:g}": values[f"{name}-{rate:g}"] for rate in rates} for name, rates in methods.items()
    }
    done = {
        name: {rate: value for rate, value in one.items() if value is not None} for name, one in each.items()
    }
    if lost := [name for name, one in done.items() if not one]:
        raise SystemExit(
            f"no run of {', '.join(lost)} finished, so there is no best rate; see "
            f"runs/{folder}/failures.json."
        )
    return {name: {"tried": each[name], "rate": best_rate(one)} for name, one in done.items()}


def best_rate(tried: Mapping[str, float]) -> float:
    """The rate with the highest metric; of equal ones the first."""
    return float(max(tried, key=lambda rate: tried[rate]))


def devices(folder: str) -> list[str]:
    """What the trials of a comparison in runs/ ran on."""
    trials = [
        read_json(path) for path in sorted((HERE.parent / "runs" / folder / "trials").rglob("trial.json"))
    ]
    return sorted({trial["code"]["device"] for trial in trials})


def written(arms: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, Path]:
    """Write arms that are described in the code of a benchmark as files.

    Args:
        arms: name -> content of a recipe.
        folder: of the files.

    Returns:
        name -> file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name}.yaml" for name in arms}
    for name, path in files.items():
        path.write_text(yaml.safe_dump(dict(arms[name]), sort_keys=False), encoding="utf-8")
    return files


def emoji_data() -> str:
    """The three drawing styles as one data set, in the folder that FRUGALCLIP_PACKS names."""
    return f"{os.environ['FRUGALCLIP_PACKS']}/emoji-{{noto,twemoji,openmoji}}.tar"


def encode_all(arms: Sequence[str]) -> None:
    """Encode the emoji pack with the frozen backbones of arms, before several trials would do so at once.

    Nothing happens if the cache holds the features.
    """
    data = f"data={emoji_data()}"
    for arm in arms:
        with tempfile.TemporaryDirectory() as folder:
            words = [data, "data.where=split=train", "data.validation=none", "samples=512", "epochs=null"]
            train(
                str(path) if (path := HERE / "arms" / f"{arm}.yaml").is_file() else arm,
                words,
                out=Path(folder) / "run",
            )


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
    before = resident("VmHWM")
    run()
    return resident("VmHWM") - before


def resident(name: str = "VmRSS", *, process: int | str = "self") -> int:
    """Bytes that a process holds in memory: now (`VmRSS`), or at most until now (`VmHWM`)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
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
    listed = [
        {"what": what, "reached": reached, "goal": goal, "way": way} for what, reached, goal, way in goals
    ]
    where = environment() | {"command": measured_by(sys.argv)}
    write_json(path, {**content, "goals": listed, "environment": where})


def measured_by(words: Sequence[str]) -> str:
    """The command of a measurement, without folders of the machine: its program, and where it was written."""
    program, *rest = words
    before = ["", *rest]
    kept = [
        word for last, word in zip(before, rest, strict=False) if "--json" not in (last, word.split("=")[0])
    ]
    return shell_line(Path(program).name, *kept)


def relative(ours: Tensor, truth: Tensor) -> float:
    """Largest difference of any number, relative to the largest number of the truth."""
    return float((ours.double() - truth.double()).abs().max() / truth.double().abs().max())
