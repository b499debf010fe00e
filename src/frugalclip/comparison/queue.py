"""Trials run as processes of their own: a crash ends one of them, the number of threads is fixed, and Ctrl-C or SIGTERM lets each save."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalclip.comparison.trial import INTERRUPTED, TRIAL
from frugalclip.core.interrupts import stop_signals

LOG = "log.txt"
PATIENCE = 60.0  # seconds that a trial has to save after it was asked to stop
_POLL = 0.1  # seconds


@dataclass(frozen=True)
class Task:
    """One trial to run."""

    folder: Path  # holds its job
    job: Path
    line: tuple[str, ...]  # the program, before the path of the job


@dataclass(frozen=True)
class TrialExit:
    """How a trial ended."""

    task: Task
    code: int
    seconds: float  # of the whole process
    message: str  # the last line of its log, for one that failed

    @property
    def is_finished(self) -> bool:
        return self.code == 0 and (self.task.folder / TRIAL).is_file()

    @property
    def is_stopped(self) -> bool:
        """TeacherRequest to end, which is no failure: it goes on when it is run again."""
        return self.code in (INTERRUPTED, -signal.SIGTERM)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(
    tasks: Sequence[Task],
    *,
    jobs: int = 1,
    threads: int | None = None,
    ended: Callable[[TrialExit], None] | None = None,
) -> bool:
    """Run trials, in order, some at a time.

    Args:
        tasks: what to run.
        jobs: how many at a time.
        threads: of each; default the cores divided by `jobs`.
        ended: is told of each that ended.

    Returns:
        False when Ctrl-C or SIGTERM stopped it; trials under way were asked to save first, and go on when they are run again.
    """
    threads = threads or max(1, cores() // jobs)
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)),
        "TOKENIZERS_PARALLELISM": "false",
    }
    waiting, running = list(tasks), list[tuple[Task, subprocess.Popen[bytes], float]]()
    with (
        stop_signals() as stop,
        contextlib.suppress(KeyboardInterrupt),
    ):  # a second Ctrl-C only cuts the wait short
        while (waiting or running) and not stop.is_set():
            while waiting and len(running) < jobs:
                task = waiting.pop(0)
                running.append((task, _start(task, environment), time.monotonic()))
            for entry in [entry for entry in running if entry[1].poll() is not None]:
                running.remove(entry)
                _report(entry, ended)
            time.sleep(_POLL)
    is_stopped = stop.is_set()
    _stop(running)
    for entry in running:
        _report(entry, ended)
    return not is_stopped


def _start(task: Task, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C on the terminal reaches it once, from us."""
    with (task.folder / LOG).open("ab") as log:
        try:
            line = [*task.line, str(task.job)]
            return subprocess.Popen(
                line,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            log.write(f"{task.line[0]} cannot be started: {error.strerror}\n".encode())
            return subprocess.Popen(["false"], env=environment)


def _report(
    entry: tuple[Task, subprocess.Popen[bytes], float], ended: Callable[[TrialExit], None] | None
) -> None:
    task, process, begun = entry
    code = process.returncode
    message = "" if code == 0 else _last_line(task.folder / LOG)
    if code == 0 and not (task.folder / TRIAL).is_file():
        message = f"it ended without writing {TRIAL}"
    elif code < 0:
        message = f"it was ended by signal {-code} ({signal.Signals(-code).name}){': ' + message if message else ''}"
    elif code == INTERRUPTED:
        message = "it was stopped and saved; it goes on when the comparison does"
    if ended is not None:
        ended(TrialExit(task, code, time.monotonic() - begun, message))


def _stop(running: Sequence[tuple[Task, subprocess.Popen[bytes], float]]) -> None:
    for _, process, _ in running:
        process.terminate()
    until = time.monotonic() + PATIENCE
    for _, process, _ in running:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = [
                line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()
            ]
    except OSError:
        return ""
    return lines[-1] if lines else ""
