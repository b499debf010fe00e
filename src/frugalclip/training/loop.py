"""The training loop: evaluate, save, stop?, step, record.

Everything random is a function of (seed, step) or stands in the checkpoint, so a run that was stopped, or
killed, goes on exactly as if it had not been.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from frugalclip.core import distributed
from frugalclip.core.devices import kept_threads
from frugalclip.core.disk import DiskFullError, full_disk_explained
from frugalclip.core.errors import FrugalclipError, TrainingError
from frugalclip.core.interrupts import ignore_termination, stop_signals
from frugalclip.core.records import RunDirectory
from frugalclip.core.users_text import command_line
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest
from frugalclip.training.monitors import feature_monitors
from frugalclip.training.own_objectives import check_log
from frugalclip.training.recipe import Recipe
from frugalclip.training.run import Run, TrainingResult, open_run
from frugalclip.training.sinks.base import RunInfo, check_sinks, numbers_of, open_sinks
from frugalclip.training.speeds import remember_run
from frugalclip.training.step import StepResult


class Listener(Protocol):
    """Follows a run: a terminal, a logger, a test."""

    def started(self, run: Run) -> None: ...
    def row(self, row: dict[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...


class Silent:
    """A listener that does nothing."""

    def started(self, run: Run) -> None:
        """Nothing."""

    def row(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class _Lasting:
    """A listener that turns silent when what it prints to is gone, such as a closed terminal."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def started(self, run: Run) -> None:
        """Pass on."""
        self._try(lambda: self._listener.started(run))

    def row(self, row: dict[str, Any]) -> None:
        """Pass on."""
        self._try(lambda: self._listener.row(row))

    def note(self, text: str) -> None:
        """Pass on."""
        self._try(lambda: self._listener.note(text))

    def _try(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except OSError:
            self._listener = Silent()


@kept_threads()
def train_run(
    recipe: Recipe,
    everything: Manifest,
    directory: RunDirectory,
    *,
    resume: bool = False,
    listener: Listener | None = None,
    read: Ledger | None = None,
    command: Sequence[str] = (),
) -> TrainingResult:
    """Train a recipe on a data set into a run directory.

    Args:
        recipe: validated recipe.
        everything: the data set before `data.where`.
        directory: where the run is recorded; without `resume` it must not hold a run.
        resume: go on from the last checkpoint, bit for bit on a CPU.
        listener: gets rows and notes as they come.
        read: what was left out while the data set was read; it counts against `data.max_error_fraction`.
        command: words that started the run, for messages.

    Raises:
        DataError: if more of the data is bad than `data.max_error_fraction` allows.
        TrainingError: if the loss is not finite; the last checkpoint is intact.
    """
    listener = _Lasting(listener if listener is not None and distributed.is_main() else Silent())
    check_sinks(recipe.log)
    run = open_run(
        recipe, everything, directory, resume=resume, read=read, command=command, note=listener.note
    )
    run.write_record()
    _tell_notes(run, listener)
    listener.started(run)
    points = evaluation_points(run.steps, recipe.evaluation.points)
    every = recipe.checkpoints.every
    info = RunInfo(directory.path, recipe.model_dump(mode="json"), run.step)
    sinks = open_sinks(recipe.log if distributed.is_main() else (), info)
    with stop_signals() as stop, _lost_peers_explained(run), _full_disk_explained(run), sinks as opened:
        while not run.is_finished and not distributed.any_of(stop.is_set(), device=run.model.device):
            with run.stopwatch:
                result = run.train_step()
                is_point = run.step in points and run.is_worth_evaluating
                row = _row(run, result, with_monitors=is_point)
            row |= run.stopwatch.reading()
            if is_point and run.validator is not None:
                row |= run.evaluation(run.validator)
            if is_point and run.guard is not None:
                row |= run.guard_row(run.guard)
            if advice := run.advisor.advise(row):
                row["advice"] = advice
            run.record(row)
            listener.row(row)
            for sink in opened:
                sink.write(run.step, numbers_of(row))
            if run.stopped is not None or ((run.step % every == 0) if every else is_point):
                run.save()
            run.check_faults(is_point=is_point)
        if run.step not in directory.steps_saved():
            run.save()
    if run.is_finished and distributed.is_main():
        remember_run(recipe, run.model.device, seconds=run.stopwatch.seconds, steps=run.steps)
    if run.stopped is not None:
        listener.note(f"stopped after step {run.step:,} of {run.steps:,}: {run.stopped}")
    if not run.is_finished:
        listener.note(
            f"stopped after step {run.step:,} of {run.steps:,}; go on with: "
            + command_line("train", directory.recipe, "--out", directory.path, "--resume")
        )
    return run.result()


def evaluation_points(steps: int, points: int) -> set[int]:
    """Steps after which a run is evaluated: `points` of them, evenly spaced, the last at its end."""
    points = min(points, steps)  # a setting may be any number
    return {max(1, round(steps * (i + 1) / points)) for i in range(points)}


def _tell_notes(run: Run, listener: Listener) -> None:
    for note in [*run.notes, run.data.error_policy.in_words()]:
        if note:
            listener.note(note)


def _row(run: Run, result: StepResult, *, with_monitors: bool) -> dict[str, Any]:
    """The row of a step in `metrics.jsonl`: numbers are means over processes."""
    values: dict[str, Tensor] = {
        "loss": result.loss.detach(),
        "scale": result.features.scale.detach(),
        **result.logs,
    }
    stacked = torch.stack([value.float().to(run.model.device) for value in values.values()])
    numbers = distributed.mean_over_processes(stacked).tolist()
    row: dict[str, Any] = {
        "step": run.step,
        "stage": run.stage.number + 1,
        "samples_seen": run.samples_seen,
        "lr": run.stage.rate(run.step - 1),
    }
    row |= dict(zip(values, numbers, strict=True))
    for name, objective in run.stage.module.named_objectives().items():
        for log in result.logs:
            if log.startswith(f"{name}/") and not math.isfinite(row[log]):
                check_log(name, objective, log.removeprefix(f"{name}/"))
    # embeddings that no objective trains stay where they began, which is no collapse
    objectives = run.stage.module.named_objectives().values()
    with_monitors = with_monitors and any(one.trains_embeddings for one in objectives if one.has_loss)
    return row | (feature_monitors(result.features) if with_monitors else {})


@contextmanager
def _full_disk_explained(run: Run) -> Iterator[None]:
    """Say which checkpoint there is when the disk is full."""
    try:
        yield
    except (OSError, DiskFullError) as error:
        last = run.directory.last_checkpoint()
        kept = f"the last checkpoint is {last}" if last else "there is no checkpoint yet"
        go_on = "start the same command again with --resume"
        with full_disk_explained(run.directory.path, kept=kept, go_on=go_on):
            raise error


@contextmanager
def _lost_peers_explained(run: Run) -> Iterator[None]:
    """Name the process that is left behind when another one dies, instead of the backend's own words."""
    try:
        yield
    except RuntimeError as error:
        if (
            not distributed.is_active()
            or isinstance(error, FrugalclipError)
            or not distributed.is_lost_peer(error)
        ):
            raise
        ignore_termination()
        last = run.directory.last_checkpoint()
        where = f"The last checkpoint is {last}" if last else "There is no checkpoint yet"
        raise TrainingError(
            f"process {distributed.rank()} of {distributed.world_size()} lost another one in step "
            f"{run.step + 1:,} ({str(error).splitlines()[0]}); see that one's own message above. {where}; "
            "start the same command again with --resume."
        ) from error
