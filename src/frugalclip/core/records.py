"""The run directory: the only hand-over between verbs.

Layout: `recipe.yaml`, `metrics.jsonl`, `metrics.json`, `environment.json`, `ledger.parquet`,
`checkpoints/step-N/`, `report.html`, `MODEL_CARD.md`. Where the model of a run is not what its last step
left, it is `checkpoints/final/`. Files appear whole or not at all; `metrics.jsonl` only grows, and is cut
back to the checkpoint when a run resumes.
"""

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from frugalclip.core.disk import replacing
from frugalclip.core.energy import EnergyMeter
from frugalclip.core.errors import FrugalclipError, ModelError, shortened
from frugalclip.core.guard import parse_json, reading
from frugalclip.core.paths import user_path
from frugalclip.core.users_text import started_by

_ROWS_ADVICE = "restore the file, or delete the line to go on without it"
WRITTEN_BY_US = "restore it, or run the verb again that wrote it"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Half a surrogate pair, which broken JSON may hold, has no UTF-8 and is written as JSON's escape of it.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def publish_folder(target: Path) -> Iterator[Path]:
    """Write a folder so that it appears whole or not at all, in the place of an older one.

    Args:
        target: the folder to write.

    Yields:
        A folder beside it to write into, which takes the target's name at the end.
    """
    building = target.with_name(f".{target.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        yield building
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)  # half a folder takes room that a full disk lacks
        raise
    replaced = target.with_name(f".{target.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        os.replace(
            target, replaced
        )  # two renames: deleting a large folder first would leave nothing meanwhile
    os.replace(building, target)
    shutil.rmtree(replaced, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; refuses NaN, which is not JSON."""
    write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *, error: type[FrugalclipError] = ModelError, advice: str = WRITTEN_BY_US) -> Any:
    """Read JSON of any type.

    Args:
        path: the file.
        error: class of the sentence.
        advice: what to do.

    Raises:
        FrugalclipError: of that class, naming the file and its fault.
        FileNotFoundError: if there is no file.
    """
    content = path.read_bytes()
    with reading(path, advice=advice, error=error):
        return parse_json(content)


class RunDirectory:
    """Reads and writes the files of one run."""

    def __init__(self, path: Path | str) -> None:
        self.path = user_path(path)

    recipe = property(lambda self: self.path / "recipe.yaml")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    summary = property(lambda self: self.path / "metrics.json")
    environment = property(lambda self: self.path / "environment.json")
    checkpoints = property(lambda self: self.path / "checkpoints")
    final = property(lambda self: self.checkpoints / "final")
    report = property(lambda self: self.path / "report.html")
    ledger = property(lambda self: self.path / "ledger.parquet")
    card = property(lambda self: self.path / "MODEL_CARD.md")

    def is_run(self) -> bool:
        """True when something was trained here."""
        return self.recipe.is_file()

    def is_writable(self) -> bool:
        """True for a run to which results can be added."""
        return self.is_run() and os.access(self.path, os.W_OK)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of `metrics.jsonl`, oldest first; a last line cut short by a crash is left out.

        Raises:
            ModelError: naming the line that is no row.
        """
        if not self.metrics.is_file():
            return
        with self.metrics.open("rb") as file:
            for number, line in enumerate(file, start=1):
                is_whole = line.endswith(b"\n")
                with reading(f"{self.metrics} line {number}", advice=_ROWS_ADVICE, error=ModelError):
                    try:
                        row = parse_json(line, allow_nan=True)
                    except ValueError:
                        if is_whole:
                            raise
                        return
                    if not isinstance(row, dict):
                        raise ValueError(f"it holds {shortened(row, 40)}, expected a row of a step")
                yield row

    def cut_rows(self, *, after_step: int) -> str | None:
        """Drop rows of later steps than the checkpoint's, so that a resumed run writes each step once.

        Returns:
            What the file lacks, in words; None if it has a row of every step so far.

        Raises:
            ModelError: naming the line that is no row of a step.
        """
        kept, steps = [], set[int]()
        for number, row in enumerate(self.rows(), start=1):
            step = row.get("step")
            if type(step) is not int or step < 1 or step in steps:
                raise ModelError(
                    f"{self.metrics} line {number} has the step {shortened(step, 40)}, expected one that has "
                    f"no row yet; {_ROWS_ADVICE}."
                )
            if step <= after_step:
                kept.append(json.dumps(row, ensure_ascii=False) + "\n")
                steps.add(step)
        write_atomically(self.metrics, "".join(kept))
        if len(steps) == after_step:
            return None
        first = next(step for step in range(1, after_step + 1) if step not in steps)
        return (
            f"{self.metrics} has rows of {len(steps):,} of the {after_step:,} steps so far (the first "
            f"without one is step {first:,}), so curves and reports lack the others"
        )

    def steps_saved(self) -> list[int]:
        """Steps of the checkpoints, oldest first; each appears whole or not at all."""
        names = [p.name.removeprefix("step-") for p in self.checkpoints.glob("step-*") if p.is_dir()]
        return sorted(int(name) for name in names if name.isdigit())

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step}"

    def model(self) -> Path | None:
        """The folder of the run's model: `final` where there is one, else the last checkpoint."""
        return self.final if self.final.is_dir() else self.last_checkpoint()

    def last_checkpoint(self) -> Path | None:
        steps = self.steps_saved()
        return self.checkpoint(steps[-1]) if steps else None


def environment() -> dict[str, Any]:
    """What a number may depend on besides the recipe: versions, machine, threads, commit."""
    names = ["frugalclip", "torch", "numpy", "pillow", "pyarrow", "tokenizers", "safetensors"]
    versions = {name: metadata.version(name) for name in names if _is_installed(name)}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "versions": versions,
        "device": device,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
        "command": started_by(),
    }


def _processor() -> str:
    """The processor's own name, which `platform` does not know on Linux."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _is_installed(name: str) -> bool:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return bool(metadata.version(name))
    return False


def _commit() -> str | None:
    """Commit of this source tree, or None when installed from a wheel."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return (
            subprocess.run(
                ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
            ).stdout.strip()
            or None
        )
    return None


class Stopwatch:
    """Seconds spent in training steps: evaluations and checkpoints do not count.

    `cpu_seconds` is the time of all threads of this process, which other work on the machine changes little.
    `joules` is what the processor packages took meanwhile; None where they cannot be read.
    """

    def __init__(self, seconds: float = 0.0, cpu_seconds: float = 0.0, joules: float | None = 0.0) -> None:
        self.seconds, self.cpu_seconds, self.joules = seconds, cpu_seconds, joules
        self._meter = EnergyMeter()

    def __enter__(self) -> None:
        self._energy = self._meter.read()
        self._begun = time.monotonic(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.monotonic() - self._begun[0]
        self.cpu_seconds += time.process_time() - self._begun[1]
        spent = self._meter.joules(self._energy, self._meter.read())
        self.joules = None if spent is None or self.joules is None else self.joules + spent

    def reading(self) -> dict[str, float]:
        """Both times, to a millisecond, as a row holds them."""
        return {"seconds": round(self.seconds, 3), "cpu_seconds": round(self.cpu_seconds, 3)}
