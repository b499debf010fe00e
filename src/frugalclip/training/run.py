"""A run under way: its data, its stage, how far it is, and what it leaves behind."""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from frugalclip.compression.base import find_change
from frugalclip.compression.sizes import tower_parameters
from frugalclip.core import distributed
from frugalclip.core.devices import pick_device
from frugalclip.core.errors import DataError, RecipeError, TrainingError
from frugalclip.core.random import stream_seed
from frugalclip.core.records import RunDirectory, Stopwatch, environment, write_atomically, write_json
from frugalclip.core.types import Batch
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest
from frugalclip.data.splits import evaluation_condition
from frugalclip.interop.hub import used_models
from frugalclip.models import Model
from frugalclip.training.build import (
    BuildPlace,
    build_stage,
    change_model,
    check_stages,
    new_model,
    run_steps,
    start_from,
)
from frugalclip.training.checkpoint import CheckpointState, read_state, restore_checkpoint, save_checkpoint
from frugalclip.training.guard import Guard
from frugalclip.training.inputs import RunData
from frugalclip.training.monitors import Advisor, origin_of_bad_loss
from frugalclip.training.recipe import Recipe
from frugalclip.training.shorthands import example_of
from frugalclip.training.stage import LossError, count_parameters
from frugalclip.training.step import StepResult, to_device
from frugalclip.training.validation import Validator


@dataclass(frozen=True)
class TrainingResult:
    """What a run leaves behind."""

    run: Path
    model: Model
    is_finished: bool
    steps: int
    samples_seen: int
    seconds: float
    joules: float | None  # of the processor packages; None where they cannot be read
    parameters: int  # of the model, without the heads of objectives
    validation: Manifest | None
    training: Manifest
    evaluated_on: str | None = None  # condition of the rows that the data keeps for a last evaluation
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)  # cause -> samples that could not be used
    validator: Validator | None = None  # measures on the validation rows
    guard: Guard | None = None  # measures on the guard


class Run:
    """A run under way; `step` counts the steps that are done.

    Args:
        recipe: of the run.
        directory: where it is recorded.
        data: its rows.
        model: its network is trained.
        place: the stage to begin with.
        note: called with remarks while a stage is built.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: RunDirectory,
        data: RunData,
        model: Model,
        *,
        place: BuildPlace,
        note: Callable[[str], None],
    ) -> None:
        self.recipe, self.directory, self.data, self.model, self.note = recipe, directory, data, model, note
        model.training_data = data.description
        if len(recipe.stages) > 1 and place.number == 0:
            check_stages(recipe, model, samples=len(data.training))
        self.stage, self.inputs, notes = build_stage(recipe, data, model, place=place, note=note)
        self.steps = place.steps or run_steps(recipe, self.inputs)
        self.notes = data.notes + notes
        self.validator = (
            Validator(data.validation, recipe.evaluation, model) if data.validation is not None else None
        )
        self.guard = Guard(recipe.guard, data.guard.measured, model) if data.guard is not None else None
        if self.guard is not None:
            self.notes += self.guard.notes
        if self.validator is not None:
            data.error_policy.meet(self.validator.faults)
        data.error_policy.meet(self.inputs.new_faults())
        data.error_policy.enforce()
        self.advisor = Advisor(
            steps=self.steps, scale_min=recipe.model.scale_min, scale_max=recipe.model.scale_max
        )
        self.step, self.stopwatch = 0, Stopwatch()
        self._batches: Iterator[Batch] | None = None

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done, or the guard ended the run."""
        return self.step >= self.steps or self.stopped is not None

    @property
    def stopped(self) -> str | None:
        """Why the guard ended the run early; None where it did not."""
        return None if self.guard is None or self.guard.state is None else self.guard.state.stopped

    @property
    def is_worth_evaluating(self) -> bool:
        """Whether metrics may have moved: not before the end where only the scale of a stage is trained."""
        return self.is_finished or count_parameters(self.stage.module, trained=True) > 1

    @property
    def samples_seen(self) -> int:
        """Samples trained on so far, over all processes."""
        return self.step * self.recipe.batch

    @property
    def precision(self) -> str:
        """Number format of the towers' arithmetic."""
        return self.stage.module.precision

    def train_step(self) -> StepResult:
        """Train on the next batch."""
        if self.step >= self.stage.span.stop:
            self._enter_next_stage()
        self.stage.begin_step(self.step, batches=self.episode)
        if self._batches is None:
            self._batches = self.inputs.loader.batches(self.step)
        batch = to_device(next(self._batches), self.model.device)
        try:
            result = self.stage.update(batch, step=self.step)
        except LossError as error:
            raise TrainingError(self._explain(error, batch)) from error
        self.step += 1
        return result

    def _enter_next_stage(self) -> None:
        """Change the network if the next stage says so, and build the stage on it."""
        before, number = self.stage, self.stage.number + 1
        change = self.recipe.change_before(number)
        needs_fit = change is not None and find_change(change.kind).needs_fit
        place = BuildPlace(number, steps=self.steps, is_fitted=not needs_fit)
        with torch.random.fork_rng(devices=[]):  # what layers draw before they are filled is not the run's
            notes = change_model(
                self.recipe, number, self.model, gates=before.module.gates, training=self.data.training
            )
            self.stage, self.inputs, more = build_stage(
                self.recipe, self.data, self.model, place=place, note=self.note
            )
        # a change may return the same module
        self.stage.take_over(before, has_same_network=change is None)
        self._batches = None
        for note in notes + more:
            if note not in self.notes:
                self.notes.append(note)
                self.note(note)

    def episode(self, steps: int) -> Iterator[Batch]:
        """The batches of the next steps, with other views of the images than training will see."""
        batches = self.inputs.loader.batches(self.step, stream="episode/")
        return (to_device(next(batches), self.model.device) for _ in range(steps))

    def _explain(self, error: LossError, batch: Batch) -> str:
        """What is not finite, where it came from, and what to do."""
        origin = origin_of_bad_loss(self.stage.module, batch, self.data.training.ids)
        return (
            f"the loss of step {self.step + 1:,} is {error.value}: {origin}; the last checkpoint in "
            f"{self.directory.path} is intact; lower optimizer.lr, set optimizer.clip=1 or precision=fp32, "
            "and train into a new --out."
        )

    def evaluation(self, validator: Validator) -> dict[str, Any]:
        """Metrics at an evaluation point, and the size of the towers in a run that changes it.

        Gates that are learned are cut as they stand, so that nothing jumps where the stage after fuses them.
        """
        model, gates = copy.copy(self.model), self.stage.module.gates
        if gates is not None:
            with torch.random.fork_rng(devices=[]):  # layers draw before they are filled
                model.network = gates.evaluated(self.model.network)
        row: dict[str, Any] = {"evaluation": validator.measure(model), "chance": validator.chance}
        return row | ({"towers": tower_parameters(model.network)} if self.recipe.is_resized else {})

    def guard_row(self, guard: Guard) -> dict[str, Any]:
        """Metrics on the guard at an evaluation point."""
        return {"guard": guard.measure(self.model), "guard_chance": guard.validator.chance}

    def save(self) -> None:
        """Write a checkpoint."""
        if distributed.is_main():
            state = CheckpointState(
                step=self.step,
                stage=self.stage.number + 1,
                steps=self.steps,
                samples_seen=self.samples_seen,
                seconds=self.stopwatch.seconds,
                cpu_seconds=self.stopwatch.cpu_seconds,
                joules=self.stopwatch.joules,
                data=self.data.training.fingerprint(),
                teachers=self.stage.module.teacher_fingerprints(),
                advice_given=sorted(self.advisor.given),
                guard=None if self.guard is None else self.guard.state,
            )
            keep = self.recipe.checkpoints.keep
            save_checkpoint(self.directory, state, model=self.model, stage=self.stage, keep=keep)
        distributed.barrier()

    def restore(self, checkpoint: Path, state: CheckpointState) -> None:
        """Go back to where a checkpoint was written.

        Raises:
            DataError: if the data or a teacher has changed since.
            ModelError: if the checkpoint is damaged, or another recipe's.
        """
        if state.data != self.data.training.fingerprint():
            raise DataError(
                f"the data of {self.directory.path} has changed since step {state.step:,}; train into "
                "a new --out, or restore the data."
            )
        now = self.stage.module.teacher_fingerprints()
        for name in sorted(name for name, was in state.teachers.items() if was != now.get(name)):
            raise DataError(
                f"teachers.{name} of {self.directory.path} has changed since step {state.step:,}; train into "
                "a new --out, or restore the teacher."
            )
        restore_checkpoint(checkpoint, self.stage)
        self.step = state.step
        self.stopwatch = Stopwatch(state.seconds, state.cpu_seconds, state.joules)
        self.advisor.given |= set(state.advice_given)
        if self.guard is not None:
            self.guard.state = state.guard
        self.data.error_policy.restore()

    def write_record(self) -> None:
        """Write the recipe and the environment of a new run, and drop rows that a checkpoint has not seen."""
        if distributed.is_main():
            if self.step == 0:
                self.directory.path.mkdir(parents=True, exist_ok=True)
                write_atomically(self.directory.recipe, self.recipe.to_yaml())
                known: dict[str, Any] = {"precision": self.precision, "processes": distributed.world_size()}
                if models := used_models():
                    known["models"] = models
                write_json(self.directory.environment, environment() | known)
            if lack := self.directory.cut_rows(after_step=self.step):
                self.notes.append(lack)
            self.data.error_policy.write()
            for recent in list(self.directory.rows())[-(self.advisor.recent.maxlen or 1) :]:
                self.advisor.recent.append(recent)  # so that advice comes when it would have come
        distributed.barrier()

    def record(self, row: dict[str, Any]) -> None:
        """Append a row to `metrics.jsonl`."""
        if distributed.is_main():
            with self.directory.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def check_faults(self, *, is_point: bool) -> None:
        """Count samples that failed to load, and stop the run if they are too many.

        Processes exchange theirs at evaluation points, since that takes a wait.
        """
        policy = self.data.error_policy
        if not distributed.is_active():
            is_new = policy.meet(self.inputs.new_faults())
        elif is_point:
            parts = distributed.all_parts(self.inputs.all_faults())
            is_new = policy.meet(fault for part in parts for fault in part)
        else:
            return
        if not is_new:
            return
        if policy.is_exceeded:
            self.save()
        policy.enforce(step=self.step)
        policy.write()

    def result(self) -> TrainingResult:
        """What the run leaves behind."""
        return TrainingResult(
            run=self.directory.path,
            model=self.model,
            is_finished=self.is_finished,
            steps=self.step,
            samples_seen=self.samples_seen,
            seconds=self.stopwatch.seconds,
            joules=self.stopwatch.joules,
            parameters=count_parameters(self.model.network),
            validation=self.data.validation,
            training=self.data.training,
            evaluated_on=evaluation_condition(self.data.everything, self.data.description["where"]),
            notes=self.notes,
            left_out=self.data.error_policy.counts(),
            validator=self.validator,
            guard=self.guard,
        )


def open_run(
    recipe: Recipe,
    everything: Manifest,
    directory: RunDirectory,
    *,
    resume: bool = False,
    read: Ledger | None = None,
    command: Sequence[str] = (),
    note: Callable[[str], None] = lambda _: None,
) -> Run:
    """Build a run, and put it back to its last checkpoint if it is resumed.

    Args:
        recipe: validated recipe.
        everything: the data set before `data.where`.
        directory: where the run is recorded.
        resume: go on from the last checkpoint, if there is one.
        read: what was left out while the data set was read.
        command: words that started the run, for messages.
        note: called with remarks while the run is built.
    """
    if names := recipe.missing():
        raise RecipeError(f"recipe '{recipe.name}' needs {' and '.join(names)}; add {example_of(names)}.")
    device = _prepare_process(recipe)
    checkpoint = directory.last_checkpoint() if resume else None
    state = None if checkpoint is None else read_state(checkpoint, stages=max(1, len(recipe.stages)))
    number = 0 if state is None else state.stage - 1
    model = None
    is_changed = recipe.init_from is not None or recipe.change_before(0) is not None
    if checkpoint is not None and (number or is_changed):
        recipe, model = start_from(recipe, checkpoint, device=device, setting="--resume")
    elif recipe.init_from is not None:
        recipe, model = start_from(recipe, recipe.init_from, device=device)
    torch.manual_seed(stream_seed(recipe.seed, "sequential"))
    data = RunData(recipe, everything, directory, read=read, command=command)
    if recipe.init_from is not None:
        data.notes.append(
            f"starts from {recipe.init_from}: its towers, tokenizer and preprocessing replace the recipe's"
        )
    is_fitted = model is not None
    model = model or new_model(recipe, data, device=device)
    if checkpoint is None and (change := recipe.change_before(0)) is not None:
        data.notes += change_model(recipe, 0, model, gates=None, training=data.training)
        is_fitted = is_fitted and not find_change(change.kind).needs_fit
    place = BuildPlace(number, steps=None if state is None else state.steps, is_fitted=is_fitted)
    run = Run(recipe, directory, data, model, place=place, note=note)
    if run.guard is not None and checkpoint is None:
        run.guard.begin(model)
    if checkpoint is not None and state is not None:
        run.restore(checkpoint, state)
    return run


def _prepare_process(recipe: Recipe) -> torch.device:
    """Set the threads, join the process group, and pick the device to compute on."""
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    device = pick_device(recipe.device)
    distributed.start(device)
    if recipe.batch % distributed.world_size():
        raise RecipeError(
            f"batch {recipe.batch} is not a multiple of the {distributed.world_size()} processes; set batch "
            "to a multiple."
        )
    return device
