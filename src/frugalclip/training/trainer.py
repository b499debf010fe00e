"""The training loop.

`Trainer` puts a recipe's parts together; `run` is the loop: evaluate, save, stop?, step, record. Everything random is a function of (seed,
step) or stands in the checkpoint, so a run that was stopped, or killed, goes on exactly as if it had not been.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from frugalclip.core import distributed
from frugalclip.core.devices import pick_device
from frugalclip.core.errors import DataError, FrugalclipError, RecipeError, TrainingError
from frugalclip.core.interrupts import stop_signals
from frugalclip.core.random import stream_seed
from frugalclip.core.records import RunDirectory, Stopwatch, environment, write_atomically, write_json
from frugalclip.core.types import Batch, Needs
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest
from frugalclip.data.tokens import Tokenizer, build_tokenizer
from frugalclip.loading.loader import Loader, too_few
from frugalclip.loading.sampling import sampling_weights
from frugalclip.loading.texts import TextConfig, texts_of
from frugalclip.loading.views import PRESETS, ViewConfig
from frugalclip.models import Model, attach_backbones, backbone_tokenizer, fill_codebooks
from frugalclip.teachers import Teacher, build_teachers
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.pretrained import PretrainedTextConfig
from frugalclip.training.checkpoint import restore_checkpoint, save_checkpoint
from frugalclip.training.engine import Engine, build_engine
from frugalclip.training.error_policy import ErrorPolicy, Rows
from frugalclip.training.fitting import fit_heads
from frugalclip.training.monitors import Advisor, feature_monitors, first_bad_output
from frugalclip.training.optim import build_optimizer, learning_rates, set_learning_rate
from frugalclip.training.recipe import Recipe
from frugalclip.training.start import started_from
from frugalclip.training.step import (
    Precision,
    Step,
    StepResult,
    build_objectives,
    check_towers,
    never_clustered,
    read_views,
    to_device,
    union_of_needs,
)
from frugalclip.training.stores import make_stores
from frugalclip.training.validation import Validator, divide


class Listener(Protocol):
    """Whoever wants to see a run happen."""

    def started(self, trainer: "Trainer") -> None: ...
    def row(self, row: dict[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...


class Silent:
    """A listener that does not listen."""

    def started(self, trainer: "Trainer") -> None:
        """Nothing."""

    def row(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run left behind."""

    run: Path
    model: Model
    is_finished: bool
    steps: int
    samples_seen: int
    seconds: float
    validation: Manifest | None
    training: Manifest
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)  # cause -> samples that could not be used


def pick_precision(name: str, device: torch.device) -> Precision:
    """`auto` is bfloat16 where the processor multiplies it in hardware, otherwise float32."""
    if name != "auto":
        if name == "fp16" and device.type == "cpu":
            raise RecipeError(
                "precision is fp16, which a CPU does not compute; set precision=bf16 or precision=fp32."
            )
        return name  # pyright: ignore[reportReturnType]
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    capable = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    )
    return "bf16" if capable else "fp32"


class Trainer:
    """The parts of one run."""

    def __init__(
        self,
        recipe: Recipe,
        everything: Manifest,
        run: RunDirectory,
        *,
        read: Ledger | None = None,
        command: Sequence[str] = (),
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        recipe, start = started_from(recipe, going_on=run.last_checkpoint())
        self.recipe, self.run_directory = recipe, run
        if recipe.threads is not None:
            torch.set_num_threads(recipe.threads)
        self.device = pick_device(recipe.device)
        distributed.start(self.device)
        if recipe.batch % distributed.world_size():
            raise RecipeError(
                f"batch {recipe.batch} is not a multiple of the {distributed.world_size()} processes; set batch to one."
            )
        self.precision = pick_precision(recipe.precision, self.device)
        torch.manual_seed(stream_seed(recipe.seed, "sequential"))
        parts = divide(everything, recipe.data)
        self.training, self.validation, self.notes = parts.train, parts.validation, list(parts.notes)
        if start:
            self.notes.append(
                f"starts from {recipe.init_from}: its towers, tokenizer and preprocessing take the place of the recipe's"
            )
        if not len(self.training):
            raise DataError(
                f"{everything.name} has no rows to train on; check data.where with 'frugalclip data stats {everything.name}'."
            )
        if len(self.training) < recipe.batch:  # said before a backbone reads everything
            raise too_few(
                self.training, len(self.training), [], step=recipe.batch, world=distributed.world_size()
            )
        self.error_policy = ErrorPolicy(
            recipe.data, Rows(everything, self.training, self.validation), run, read=read, command=command
        )
        self._counted = 0  # of the loader's faults
        self.error_policy.enforce()  # what reading found needs no decoding
        self.tokenizer = start.tokenizer if start else self._tokenizer()
        if start:
            self.network, words = start.network.to(self.device), start.lexicon
        else:
            network = DualEncoder(
                recipe.model,
                vocabulary=self.tokenizer.vocabulary,
                context=self.tokenizer.context,
                seed=recipe.seed,
            )
            self.network = attach_backbones(network, device=self.device).to(self.device)
            words = fill_codebooks(self.network)
        run_dims = recipe.run_dims(mask=self.tokenizer.mask, samples=len(self.training))
        objectives = build_objectives(
            recipe.objectives, self.network.dims(batch=recipe.batch, **run_dims), seed=recipe.seed
        )
        needs = union_of_needs(objectives.values())
        data = recipe.data.model_dump(mode="json", include={"path", "columns"}) | {"where": parts.where}
        self.model = Model(
            self.network, self.tokenizer, recipe.preprocess, training_data=data, device=self.device
        )
        self.model.lexicon = words
        check_towers(self.network, needs, teachers=recipe.teachers)
        images, texts = read_views(needs, images=recipe.views, texts=recipe.texts)
        views = {name: view for name, view in recipe.views.items() if name in images}
        read_texts = {name: text for name, text in recipe.texts.items() if name in texts}
        self.stores = make_stores(
            recipe.store, everything, self.model, views=views, texts=read_texts, note=note
        )
        self.stores.remember(self.model)
        is_plain = all(view in (ViewConfig(), PRESETS["none"]) for view in views.values())
        if self.stores.images is not None and recipe.store.views == 1 and not is_plain:
            self.notes.append(
                "pictures are stored as evaluation sees them, so that 'views' has no effect; store.views=N stores augmented ones too"
            )
        self.loader = self._loader(needs, views=views, texts=read_texts)
        if start is None:  # heads that were fitted before stay
            self.notes += fit_heads(self.network, self.loader)
        teachers = build_teachers(
            recipe.teachers,
            needs,
            texts=recipe.texts,
            student=self.network,
            tokenizer=self.tokenizer,
            preprocess=recipe.preprocess,
            manifest=self.training,
        )
        self.step_module = Step(self.network, objectives, teachers=teachers, precision=self.precision).to(
            self.device
        )
        steps = recipe.total_steps(self.loader.steps_per_epoch * recipe.batch)
        assert steps is not None, "the data is known here"
        self.steps = steps
        self.optimizer = build_optimizer(self.step_module.named_parameters(), recipe.optimizer)
        self.rates = {
            until: learning_rates(
                recipe.schedule, peak=recipe.optimizer.lr, steps=self.steps, end=round(until * self.steps)
            )
            for until in {1.0, *(group["until"] for group in self.optimizer.param_groups)}
        }
        self.validator = (
            Validator(self.validation, recipe.evaluation, self.model) if self.validation is not None else None
        )
        self.engine: Engine = build_engine(
            self.step_module, batch=recipe.batch, micro_batch=recipe.micro_batch
        )
        self.episode = recipe.episode.steps(recipe.batch) if recipe.episode else 0  # steps
        self.notes += never_clustered(objectives, episode=self.episode, steps=self.steps)
        if self.validator is not None:
            self.error_policy.meet(self.validator.faults)
        self.count_bad()
        self.error_policy.enforce()
        self.advisor = Advisor(
            steps=self.steps, scale_min=recipe.model.scale_min, scale_max=recipe.model.scale_max
        )
        self.step, self.stopwatch = 0, Stopwatch()

    def _tokenizer(self) -> Tokenizer:
        text = self.recipe.model.text
        if isinstance(text, PretrainedTextConfig):
            return backbone_tokenizer(text)
        return build_tokenizer(self.recipe.tokenizer, texts_of(self.training, self.recipe.texts.values()))

    def begin(self) -> None:
        """What comes before a step: which objectives count, and, at the start of an episode, a look at the whole of it."""
        self.step_module.move_to(self.step / self.steps)
        if self.episode and self.step % self.episode == 0:
            ahead = min(self.episode, self.steps - self.step)
            self.step_module.begin_episode(lambda: self._batches(self.step, ahead))

    def _batches(self, start: int, steps: int) -> Iterator[Batch]:
        """The batches of some steps, with other views of the pictures than training will see."""
        batches = self.loader.batches(start, stream="episode/")
        return (to_device(next(batches), self.device) for _ in range(steps))

    def _loader(self, needs: Needs, *, views: dict[str, ViewConfig], texts: dict[str, TextConfig]) -> Loader:
        recipe = self.recipe
        return Loader(
            self.training,
            tokenizer=self.tokenizer,
            views=views,
            texts=texts,
            fields=sorted(needs.fields),
            batch=recipe.batch // distributed.world_size(),
            size=recipe.model.image.resolution,
            seed=recipe.seed,
            weights=self._weights(),
            rank=distributed.rank(),
            world=distributed.world_size(),
            mean=recipe.preprocess.mean,
            std=recipe.preprocess.std,
            workers=recipe.data.workers,
            cache=recipe.data.cache_bytes,
            device=self.device if self.device.type != "cpu" else None,
            **self.stores.loader_arguments(self.training, seed=recipe.seed),
        )

    def count_bad(self) -> bool:
        """Count what this process has met so far; True when some of it is new."""
        new = self.loader.faults[self._counted :]
        self._counted += len(new)
        return self.error_policy.meet((self.training.ids[row], cause) for row, cause in new)

    def _weights(self) -> np.ndarray | None:
        """How often to draw each row, with a remark: a column may be called weight and mean something else."""
        weights = sampling_weights(self.training, self.recipe.data.weights)
        if weights is not None:
            name = "weight" if self.recipe.data.weights == "auto" else self.recipe.data.weights
            self.notes.append(
                f"rows are drawn in proportion to '{name}'; data.weights=none draws each once an epoch"
            )
        return weights

    def saved_teachers(self) -> nn.Module:
        """The teachers that exist nowhere else."""
        teachers = cast("dict[str, Teacher]", dict(self.step_module.teachers.items()))
        return nn.ModuleDict({name: teacher for name, teacher in teachers.items() if teacher.is_saved()})

    def parameters(self) -> int:
        """Trained parameters of the model, without the objectives' heads."""
        return sum(p.numel() for p in self.network.parameters())


@contextmanager
def _lost_peers_explained(trainer: Trainer) -> Iterator[None]:
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
        last = trainer.run_directory.last_checkpoint()
        where = f"the last checkpoint is {last}" if last else "there is no checkpoint yet"
        cause = str(error).splitlines()[0]
        raise TrainingError(
            f"process {distributed.rank()} of {distributed.world_size()} lost another one in step {trainer.step + 1:,} ({cause}); see that one's own "
            f"message above. {where[0].upper()}{where[1:]}; start the same command again with --resume."
        ) from error


def train_run(
    recipe: Recipe,
    everything: Manifest,
    run: RunDirectory,
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
        run: where the run is recorded; without `resume` it must not hold one.
        resume: go on from the last checkpoint, bit for bit on a CPU.
        listener: sees rows and notes as they come.
        read: what was left out while the data set was read; it counts against `data.max_error_fraction`, and the run's ledger names it.
        command: words that started the run, for messages.

    Raises:
        DataError: when more of the data is bad than `data.max_error_fraction` allows.
        TrainingError: when the loss is not finite; the last checkpoint is intact.
    """
    listener = listener if listener is not None and distributed.is_main() else Silent()
    trainer = Trainer(recipe, everything, run, read=read, command=command, note=listener.note)
    _begin(trainer, resume=resume, listener=listener)
    scaler = torch.amp.GradScaler(enabled=trainer.precision == "fp16")
    listener.started(trainer)
    points = evaluation_points(trainer.steps, recipe.evaluation.points)
    every = recipe.checkpoints.every
    batches = trainer.loader.batches(trainer.step)
    with stop_signals() as stop, _lost_peers_explained(trainer):
        while trainer.step < trainer.steps and not distributed.any_of(stop.is_set(), device=trainer.device):
            with trainer.stopwatch:
                trainer.begin()
                batch = to_device(next(batches), trainer.device)
                rates = {until: float(values[trainer.step]) for until, values in trainer.rates.items()}
                result = _update(trainer, batch, rates=rates, scaler=scaler)
                trainer.step += 1
                is_point = trainer.step in points
                row = _row(trainer, result, rate=rates[1.0], with_monitors=is_point)
            row |= trainer.stopwatch.reading()
            if is_point and trainer.validator is not None:
                row["evaluation"] = trainer.validator.measure(trainer.model)
            if advice := trainer.advisor.look(row):
                row["advice"] = advice
            _record(trainer, row, listener=listener)
            if (trainer.step % every == 0) if every else is_point:
                _save(trainer)
            _watch_budget(trainer, is_point=is_point)
        if trainer.step < trainer.steps:
            _save(trainer)
            listener.note(
                f"stopped after step {trainer.step:,} of {trainer.steps:,}; go on with: frugalclip train {recipe.name} --out {run.path} --resume"
            )
        if trainer.step not in run.steps_saved():
            _save(trainer)
    return TrainingResult(
        run=run.path,
        model=trainer.model,
        is_finished=trainer.step >= trainer.steps,
        steps=trainer.step,
        samples_seen=trainer.step * recipe.batch,
        seconds=trainer.stopwatch.seconds,
        validation=trainer.validation,
        training=trainer.training,
        notes=trainer.notes,
        left_out=trainer.error_policy.counts(),
    )


def _watch_budget(trainer: Trainer, *, is_point: bool) -> None:
    """Count pictures that failed on the way, and stop where they are too many; processes compare notes at evaluation points."""
    if distributed.is_active():
        if not is_point:
            return
        ids = trainer.training.ids
        own = [(ids[row], cause) for row, cause in trainer.loader.faults]
        is_new = trainer.error_policy.meet(fault for part in distributed.all_parts(own) for fault in part)
    else:
        is_new = trainer.count_bad()
    if not is_new:
        return
    if trainer.error_policy.is_exceeded:
        _save(trainer)
    trainer.error_policy.enforce(step=trainer.step)
    trainer.error_policy.write()


def evaluation_points(steps: int, points: int) -> set[int]:
    """Steps after which the run is evaluated: `points` of them, evenly spaced, the last at the end; all where the run is shorter."""
    return {max(1, round(steps * (i + 1) / points)) for i in range(points)}


def _begin(trainer: Trainer, *, resume: bool, listener: Listener) -> None:
    """Write the record of a new run, or put an old one back to its last checkpoint."""
    run = trainer.run_directory
    last = run.last_checkpoint()
    if resume and last is not None:
        state = restore_checkpoint(
            last,
            network=trainer.network,
            objectives=trainer.step_module.objectives,
            teachers=trainer.saved_teachers(),
            optimizer=trainer.optimizer,
        )
        if state["data"] != trainer.training.fingerprint():
            raise DataError(
                f"the data of {run.path} has changed since step {state['step']:,}; train into a new --out, or restore the data."
            )
        trainer.step = state["step"]
        trainer.stopwatch = Stopwatch(state["seconds"], state.get("cpu_seconds", 0.0))
        trainer.advisor.given |= set(state["advice_given"])
        trainer.error_policy.restore()
    if distributed.is_main():
        if trainer.step == 0:
            run.path.mkdir(parents=True, exist_ok=True)
            write_atomically(run.recipe, trainer.recipe.to_yaml())
            write_json(
                run.environment,
                environment() | {"precision": trainer.precision, "processes": distributed.world_size()},
            )
        run.cut_rows(after_step=trainer.step)
        trainer.error_policy.write()
        for recent in list(run.rows())[-(trainer.advisor.recent.maxlen or 1) :]:
            trainer.advisor.recent.append(recent)  # so that advice comes when it would have come
    distributed.barrier()
    for note in [*trainer.notes, trainer.error_policy.in_words()]:
        if note:
            listener.note(note)


def _update(
    trainer: Trainer, batch: Batch, *, rates: dict[float, float], scaler: torch.amp.GradScaler
) -> StepResult:
    """One optimiser step."""
    set_learning_rate(trainer.optimizer, rates)
    trainer.step_module.train()
    result = trainer.engine(batch)
    if not math.isfinite(float(result.loss.detach())):
        raise TrainingError(_explain_bad_loss(trainer, batch, result))
    trainer.engine.backward(scaler.scale(result.loss))
    if trainer.recipe.optimizer.clip is not None:
        scaler.unscale_(trainer.optimizer)
        nn.utils.clip_grad_norm_(trainer.step_module.parameters(), trainer.recipe.optimizer.clip)
    scaler.step(trainer.optimizer)
    scaler.update()
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.step_module.after_step(result.views)
    return result


def _row(trainer: Trainer, result: StepResult, *, rate: float, with_monitors: bool) -> dict[str, Any]:
    values: dict[str, Tensor] = {
        "loss": result.loss.detach(),
        "scale": result.views.scale.detach(),
        **result.logs,
    }
    names = list(values)
    numbers = distributed.mean_over_processes(
        torch.stack([values[name].float().to(trainer.device) for name in names])
    ).tolist()
    row: dict[str, Any] = {
        "step": trainer.step,
        "samples_seen": trainer.step * trainer.recipe.batch,
        "lr": rate,
    }
    row |= dict(zip(names, numbers, strict=True))
    return row | (feature_monitors(result.views) if with_monitors else {})


def _record(trainer: Trainer, row: dict[str, Any], *, listener: Listener) -> None:
    if distributed.is_main():
        with trainer.run_directory.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    listener.row(row)


def _save(trainer: Trainer) -> None:
    if distributed.is_main():
        save_checkpoint(
            trainer.run_directory,
            trainer.step,
            model=trainer.model,
            objectives=trainer.step_module.objectives,
            teachers=trainer.saved_teachers(),
            optimizer=trainer.optimizer,
            state={
                "seconds": trainer.stopwatch.seconds,
                "cpu_seconds": trainer.stopwatch.cpu_seconds,
                "samples_seen": trainer.step * trainer.recipe.batch,
                "data": trainer.training.fingerprint(),
                "advice_given": sorted(trainer.advisor.given),
            },
            keep=trainer.recipe.checkpoints.keep,
        )
    distributed.barrier()


def _explain_bad_loss(trainer: Trainer, batch: Batch, result: StepResult) -> str:
    """Where the first value that is not finite came from: a weight, or a module's output with the samples it happened on."""
    run, step = trainer.run_directory.path, trainer.step + 1
    remedy = f"the last checkpoint in {run} is intact; lower optimizer.lr, set optimizer.clip=1 or precision=fp32, and train into a new --out."
    bad = [name for name, p in trainer.step_module.named_parameters() if not bool(torch.isfinite(p).all())]
    if bad:
        return f"the loss of step {step:,} is {float(result.loss.detach())}: the weight {bad[0]} is not finite since the step before; {remedy}"
    with torch.no_grad(), first_bad_output(trainer.step_module) as found:
        trainer.step_module(batch)
    ids = trainer.training.ids
    # a text tower works in groups of like length, so only image modules tell rows of the batch
    rows = (
        [int(r) for r in found.get("rows", "").split(", ") if r]
        if ".image" in found.get("module", "")
        else []
    )
    samples = (
        ", ".join(ids[int(batch.rows[r])] for r in rows)
        or ", ".join(ids[int(r)] for r in batch.rows[:8].tolist()) + ", … (the batch)"
    )
    where = found.get("module", "an objective's arithmetic")
    value = float(result.loss.detach())
    return f"the loss of step {step:,} is {value}: the first value that is not finite came out of {where}, on samples {samples}; {remedy}"
