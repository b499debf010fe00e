"""Trains the trials of a comparison that are missing, and remembers the messages of those that failed."""

from collections.abc import Callable, Sequence
from pathlib import Path

from frugalclip.comparison.jobs import Trial
from frugalclip.comparison.queue import TrialExit, cores, run_trials
from frugalclip.core.errors import RecipeError
from frugalclip.core.locks import contents
from frugalclip.core.records import write_json
from frugalclip.core.stored import read_object

FAILURES = "failures.json"
Report = Callable[[str], None]  # prints one line


def check_folder(out: Path) -> None:
    """Refuse a folder that holds something other than a comparison.

    Raises:
        RecipeError: for a file, or a folder with other content.
    """
    if out.is_file():
        raise RecipeError(f"--out {out} is a file; choose a folder.")
    if contents(out) and not (out / "data").is_dir():
        raise RecipeError(f"--out {out} is not empty and holds no comparison; choose a new folder.")


def train_missing(trials: Sequence[Trial], out: Path, *, jobs: int, primary: str, report: Report) -> bool:
    """Run the trials that have not finished; False if they were stopped.

    Args:
        trials: of the comparison.
        out: its folder.
        jobs: trials at a time.
        primary: metric to report.
        report: prints a line.
    """
    trials = [trial.read() for trial in trials]
    missing = [trial for trial in trials if not trial.is_finished]
    failed, done, total = failures(trials, out), len(trials) - len(missing), len(trials)
    threads = max(1, cores() // jobs)
    report(f"{total:,} trials, {done:,} of them finished; {jobs} at a time, {threads} threads each.")

    def ended(one: TrialExit) -> None:
        nonlocal done
        trial, name = one.trial.read(), str(one.trial.folder.relative_to(out / "trials"))
        if one.is_finished and trial.is_finished:
            done += 1
            value = trial.metrics[primary]["value"]
            report(f"[{done:,}/{total:,}] {name}: {primary} {value:.1f} %, {one.seconds:.0f} s")
            return
        if not one.is_stopped:
            failed[str(trial.folder.relative_to(out))] = one.message
            write_json(out / FAILURES, failed)
        report(f"{name} did not finish: {one.message}")

    for trial in missing:
        trial.write()
    finished = run_trials(missing, jobs=jobs, threads=threads, ended=ended)
    write_json(out / FAILURES, failures([trial.read() for trial in trials], out))
    return finished


def failures(trials: Sequence[Trial], out: Path) -> dict[str, str]:
    """Messages of trials that failed and have not finished since, by folder beneath `out`."""
    path = out / FAILURES
    found: dict[str, str] = read_object(path) if path.is_file() else {}
    finished = {str(trial.folder.relative_to(out)) for trial in trials if trial.is_finished}
    return {folder: message for folder, message in found.items() if folder not in finished}
