"""Processes of this machine: which of those that torchrun started this is, and ending with the parent."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from frugalclip.core.errors import UsageError

PARENT = "FRUGALCLIP_PARENT"  # id of the process with which the programs that it starts end
_POLL = 0.2  # seconds between checks of the parent
_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def launched_rank() -> int:
    """Rank that torchrun gave this process; 0 where it was started otherwise."""
    return int(os.environ.get("RANK", "0")) if launched_processes() > 1 else 0


def launched_processes() -> int:
    """Processes that torchrun started together with this one; 1 where it was started otherwise."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def refuse_processes(what: str) -> None:
    """Refuse what several processes cannot do together, before anything is written.

    Args:
        what: a verb, or a verb with an option.

    Raises:
        UsageError: if torchrun started this process beside others.
    """
    if launched_processes() > 1:
        raise UsageError(
            f"{what} trains several runs one after another and takes one process, but {launched_processes()} "
            "were started; start it without torchrun."
        )


def end_with_parent() -> None:
    """End this process when its parent ends, however that happens, so that nothing is written afterwards."""
    parent = os.getppid()
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="end with parent").start()


def bound_program(program: Sequence[str]) -> list[str]:
    """A command line that runs another program and lets it end with this process (on Linux).

    Programs of ours also call `end_with_starter`, which other systems need.
    """
    return [sys.executable, "-m", "frugalclip.core.processes", str(os.getpid()), *program]


def stop_process(process: subprocess.Popen[bytes], *, patience: float) -> None:
    """Ask a program to save and end, and end it if it has not after so many seconds or at a second Ctrl-C."""
    process.terminate()
    try:
        process.wait(max(0.1, patience))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def last_line(path: Path) -> str:
    """The last line of a program's log that is not empty; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def end_with_starter() -> None:
    """End with the parent, if the environment variable `PARENT` names it."""
    if os.environ.get(PARENT) == str(os.getppid()):
        end_with_parent()


def _become(parent: int, program: list[str]) -> None:
    """Replace this process by another program that keeps the wish to end with the parent."""
    _signal_at_parents_end()
    if os.getppid() != parent:  # it ended before the wish was known
        sys.exit(1)
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.exit(f"{program[0]} cannot be started: {error.strerror}")


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL)
    os._exit(1)


def _signal_at_parents_end() -> None:
    """Let the kernel end this process, whatever program it becomes."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":  # PARENT PROGRAM ARGUMENT...
    _become(int(sys.argv[1]), sys.argv[2:])
