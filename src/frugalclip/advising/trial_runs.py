"""Runs one option as a process of its own, which ends with its time whatever it does."""

import os
import subprocess
import sys
import time
from pathlib import Path

from frugalclip.advising.options import Option
from frugalclip.advising.profile import DataProfile, headline_of
from frugalclip.advising.race import TrialRun
from frugalclip.core.processes import PARENT, bound_program, last_line, stop_process
from frugalclip.core.records import RunDirectory
from frugalclip.core.stored import read_object

LOG = "log.txt"
_PATIENCE = 0.02  # share of its time that a process has to save after it is told to stop
_SAVES = 5.0  # seconds that it has where the reader is the one who stops


def run_option(
    option: Option,
    *,
    seconds: float,
    data: str,
    settings: list[str],
    profile: DataProfile,
    out: Path,
    name: str = "",
) -> TrialRun:
    """Train one option into `out/runs/NAME`, or read it if it is there.

    Args:
        option: what to train.
        seconds: that it may take.
        data: path of the data.
        settings: further `key=value` pairs of the user's.
        profile: of the data; its metric is what counts.
        out: folder of the advice.
        name: of the run where it is not the option's.
    """
    name = name or option.name
    folder = out / "runs" / name
    is_new = not RunDirectory(folder).is_run()
    route, begun = option.candidate.route, time.monotonic()
    words = route.words(option.candidate.samples, data, ["evaluation.baselines=false", *settings])
    message = ""
    if not RunDirectory(folder).summary.is_file():
        log = out / "runs" / f"{name}.{LOG}"
        message = _train([route.recipe, *words], folder, seconds=seconds, log=log)
    value = None if message else headline_of(read_object(RunDirectory(folder).summary), profile.metric)
    return TrialRun(name, value, time.monotonic() - begun, str(folder), message, is_whole=is_new)


def _train(words: list[str], folder: Path, *, seconds: float, log: Path) -> str:
    """Run the training; why it did not finish, empty where it did."""
    program = bound_program([sys.executable, "-m", "frugalclip", "train", *words, "--out", str(folder)])
    if RunDirectory(folder).is_run():
        program.append("--resume")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(
            program,
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, PARENT: str(os.getpid())},
            start_new_session=True,
        )
        try:
            code = process.wait(max(0.1, seconds * (1 - _PATIENCE)))
        except subprocess.TimeoutExpired:
            stop_process(process, patience=seconds * _PATIENCE)
            return "its time was over; --resume of its run goes on"
        except BaseException:
            stop_process(process, patience=_SAVES)
            raise
    return "" if code == 0 else last_line(log) or f"it ended with status {code}"
