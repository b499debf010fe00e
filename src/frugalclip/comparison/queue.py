"""Runs trials as processes: a crash ends only one, threads are limited, and Ctrl-C lets each of them save.

Where this process is killed, its trials end with it, so that the next comparison finds their folders free.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from frugalclip.comparison.jobs import JOB, TRIAL, Trial
from frugalclip.comparison.trial import INTERRUPTED
from frugalclip.core.interrupts import stop_signals
from frugalclip.core.processes import PARENT, bound_program, last_line, stop_process

LOG = "log.txt"
PATIENCE = 60.0  # seconds that a trial has to save after the request to stop
_POLL = 0.1  # seconds


@dataclass(frozen=True)
class TrialExit:
    """How the process of a trial ended."""

    trial: Trial
    code: int
    seconds: float  # of the whole process
    message: str  # the last line of its log if it failed

    @property
    def is_finished(self) -> bool:
        return self.code == 0 and (self.trial.folder / TRIAL).is_file()

    @property
    def is_stopped(self) -> bool:
        """Stopped on request, which is no failure: the next run resumes it."""
        return self.code in (INTERRUPTED, -signal.SIGTERM)


@dataclass(frozen=True)
class _Process:
    trial: Trial
    popen: subprocess.Popen[bytes]
    started: float


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_trials(
    trials: Sequence[Trial],
    *,
    jobs: int = 1,
    threads: int | None = None,
    ended: Callable[[TrialExit], None] | None = None,
) -> bool:
    """Run trials in order, some at a time; their jobs must have been written.

    Args:
        trials: what to run.
        jobs: trials at a time.
        threads: of each; default the cores divided by `jobs`.
        ended: is called for each that ended.

    Returns:
        False if Ctrl-C or SIGTERM stopped it. Trials under way save first, and resume in the next run.
    """
    environment = _environment(threads or max(1, cores() // jobs))
    waiting, running = list(trials), list[_Process]()
    with (
        stop_signals() as stop,
        contextlib.suppress(KeyboardInterrupt),  # a second Ctrl-C shortens the wait
    ):
        while (waiting or running) and not stop.is_set():
            while waiting and len(running) < jobs:
                running.append(_start(waiting.pop(0), environment))
            for process in [one for one in running if one.popen.poll() is not None]:
                running.remove(process)
                _report(process, ended)
            time.sleep(_POLL)
    is_stopped = stop.is_set()
    _stop(running)
    for process in running:
        _report(process, ended)
    return not is_stopped


def _environment(threads: int) -> dict[str, str]:
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return {**os.environ, **limits, PARENT: str(os.getpid()), "TOKENIZERS_PARALLELISM": "false"}


def _start(trial: Trial, environment: dict[str, str]) -> _Process:
    """Start a trial in a session of its own, so that Ctrl-C reaches it only through this process."""
    with (trial.folder / LOG).open("ab") as log:
        popen = subprocess.Popen(
            bound_program([*trial.job.program(), str(trial.folder / JOB)]),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    return _Process(trial, popen, time.monotonic())


def _report(process: _Process, ended: Callable[[TrialExit], None] | None) -> None:
    folder, code = process.trial.folder, process.popen.returncode
    message = "" if code == 0 else last_line(folder / LOG)
    if code == 0 and not (folder / TRIAL).is_file():
        message = f"it ended without writing {TRIAL}"
    elif code < 0:
        last = f": {message}" if message else ""
        message = f"it was ended by signal {-code} ({signal.Signals(-code).name}){last}"
    elif code == INTERRUPTED:
        message = "it was stopped and saved; it resumes when the comparison does"
    if ended is not None:
        ended(TrialExit(process.trial, code, time.monotonic() - process.started, message))


def _stop(running: Sequence[_Process]) -> None:
    for process in running:
        process.popen.terminate()
    until = time.monotonic() + PATIENCE
    for process in running:
        stop_process(process.popen, patience=until - time.monotonic())
