"""What a recipe costs, before anything runs: passes, parameters, memory, arithmetic.

Counts are analytic, from the shapes of the towers: a matrix product of (a, b) with (b, c) is 2abc operations,
and training is three times a forward pass (its backward needs two products for each one). `probe` measures
real steps on random images and captions.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch

from frugalclip.backbones.attach import attach_backbones_on_meta
from frugalclip.compression.vocabulary import Vocabulary
from frugalclip.core.devices import pick_device, without_weights
from frugalclip.core.errors import ModelError
from frugalclip.core.paths import user_path
from frugalclip.core.types import Needs
from frugalclip.data.manifest import Manifest
from frugalclip.data.splits import divide
from frugalclip.functional import TILE, needs_tiles
from frugalclip.loading.texts import texts_of
from frugalclip.models import load
from frugalclip.objectives.base import Objective
from frugalclip.sources.open import open_data
from frugalclip.teachers import EMA, EmaTeacher, Teacher, request_of, teacher_of
from frugalclip.towers.dual import DualEncoder
from frugalclip.training.build import (
    MANY_STEPS,
    StageSketch,
    changed_network,
    pick_precision,
    run_tokenizer,
    sketch_stages,
    start_from,
    vocabulary_notes,
)
from frugalclip.training.probing import probe_step
from frugalclip.training.readings import Reading, probe_frozen_backbones, timed_readings
from frugalclip.training.recipe import Recipe
from frugalclip.training.recommendation import warning
from frugalclip.training.speeds import PROBE, Speed, known_speed, remember_speed, step_key
from frugalclip.training.stage import count_parameters
from frugalclip.training.step import Step, source_view, union_of_needs

CLIP_VOCABULARY = 49408 + 1  # the mask token stands after CLIP's own
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
UNKNOWN = "unknown: data not given"
_UNPROBED = "steps over pretrained towers are not probed; after one run, plans here know their time"


@dataclass(frozen=True)
class Pass:
    """One run of a tower in a step."""

    view: str
    tower: str
    tokens: int  # a sample
    gflops: float  # forward, a sample
    has_gradient: bool = True
    stage: str = ""  # its name, in a run of several


@dataclass(frozen=True)
class Plan:
    """What a recipe will do; `None` if only the data can tell."""

    recipe: str
    description: str
    run_here: bool
    passes: list[Pass]
    parameters: dict[str, int]
    batch: int
    steps: int | None
    samples: int | None
    rows: int | None
    precision: str
    gflops_per_sample: float  # forward and backward of every pass
    memory_gb: dict[str, float]
    exaflops: float | None
    probe: dict[str, float] | None = None
    step: Speed | None = None  # seconds of a step on this machine, where they are known
    readings: list[Reading] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is not counted, and why

    @property
    def seconds(self) -> float | None:
        """Length of the run on this machine, without evaluation; None where it is not known."""
        if self.steps is None or self.step is None or any(one.seconds is None for one in self.readings):
            return None
        return self.steps * self.step.seconds + sum(one.seconds or 0.0 for one in self.readings)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON; unknown values say why."""
        content = asdict(self)
        content["readings"] = [
            {key: UNKNOWN if value is None else value for key, value in one.items()}
            for one in content["readings"]
        ]
        return {
            key: (UNKNOWN if value is None and key in ("steps", "samples", "rows", "exaflops") else value)
            for key, value in content.items()
        } | {"seconds": self.seconds}


@dataclass(frozen=True)
class OpenPlan:
    """A recipe of which something has to be given before it can be counted."""

    recipe: str
    description: str
    missing: list[str]  # settings, by their short names

    @property
    def unknown(self) -> str:
        """Why nothing is counted."""
        return f"unknown: {' and '.join(self.missing)} not given"

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON."""
        return {"recipe": self.recipe, "description": self.description, "parameters": self.unknown}


@dataclass(frozen=True)
class _StagePlan:
    """One stage of a run, counted."""

    recipe: Recipe
    step: Step
    passes: list[Pass]
    unknown: dict[str, str]  # side -> why the parameters of its backbone are not known

    def gflops(self) -> float:
        """Arithmetic of one sample, forward and backward."""
        again = _encoded_again(self.recipe)
        return sum(one.gflops * (3 + again if one.has_gradient else 1) for one in self.passes)


def plan_recipe(recipe: Recipe, *, probe: bool = False) -> Plan:
    """Count what a recipe will cost.

    Parameters are those of the last stage, which is what a run leaves behind; memory is that of the stage
    that needs most; arithmetic is the mean over the run.

    Args:
        recipe: validated recipe; its data is opened only if it names some.
        probe: also run a few steps on random input and measure time and memory.
    """
    section = recipe.data
    everything = open_data(section.path, columns=section.columns or None) if section.path else None
    training = (
        None
        if everything is None
        else divide(everything, where=section.where, validation=section.validation).train
    )
    rows = None if training is None else len(training)
    device = pick_device(recipe.device)
    precision = pick_precision(recipe.precision, device)
    steps = recipe.total_steps(rows)
    is_probed = probe and not recipe.model.pretrained_towers()
    stages = _stages(recipe, steps, training=training, with_weights=is_probed)
    spans = recipe.stage_spans(MANY_STEPS if steps is None else steps)
    shares = [len(span) / spans[-1].stop for span in spans]
    gflops = sum(share * stage.gflops() for share, stage in zip(shares, stages, strict=True))
    samples = None if steps is None else steps * recipe.batch
    unprobed = probe_frozen_backbones(stages[0].recipe, stages[0].step, device) if probe else []
    probed = _probe(stages, shares, device) if is_probed else None
    if probed:
        remember_speed(step_key(recipe, device), Speed(probed["seconds_per_step"], PROBE))
    memory = [_memory(stage, precision) for stage in stages]
    return Plan(
        recipe=recipe.name,
        description=recipe.description,
        run_here=recipe.run_here,
        passes=[one for stage in stages for one in stage.passes],
        parameters=_parameters(stages[-1].step, stages[-1].unknown),
        batch=recipe.batch,
        steps=steps,
        samples=samples,
        rows=rows,
        precision=precision,
        gflops_per_sample=gflops,
        memory_gb=max(memory, key=lambda one: one["all"]),
        exaflops=None if samples is None else samples * gflops * 1e-9,
        probe=probed,
        step=known_speed(step_key(recipe, device)),
        readings=timed_readings(stages[0].recipe, stages[0].step, everything, device),
        notes=[
            *_notes(stages[-1].step.network, stages[-1].unknown),
            *_length_notes(recipe, steps),
            *vocabulary_notes(recipe, training),
            *unprobed,
            *([_UNPROBED] if probe and not is_probed else []),
            *filter(None, [warning(recipe, rows) if rows else None]),
        ],
    )


def _stages(
    recipe: Recipe, steps: int | None, *, training: Manifest | None, with_weights: bool
) -> list[_StagePlan]:
    """The stages of a run, built as training builds them: on the meta device, or with weights on the CPU."""
    captions = None if training is None else partial(texts_of, training, recipe.texts.values())
    if recipe.init_from is not None:
        recipe, model = start_from(recipe, recipe.init_from, device=torch.device("cpu"))
        vocabulary, context, tokenizer = model.network.vocabulary, model.network.context, model.tokenizer
    elif training is not None and "text" not in recipe.model.pretrained_towers():
        tokenizer = run_tokenizer(recipe, training)
        vocabulary, context = tokenizer.vocabulary, tokenizer.context
    else:
        tokenizer = None
        vocabulary, context = _text_sizes(recipe)
    words = Vocabulary(tokenizer, captions)
    seed = recipe.seed if with_weights else None
    with torch.device("cpu") if with_weights else without_weights():
        network = DualEncoder(recipe.model, vocabulary=vocabulary, context=context, seed=seed)
        network, words = changed_network(recipe, 0, network, gates=None, vocabulary=words)
        sketches = sketch_stages(recipe, network, mask=0, steps=steps, vocabulary=words)
        return [
            _stage(recipe, number, sketch, with_weights=with_weights)
            for number, sketch in enumerate(sketches)
        ]


def _stage(recipe: Recipe, number: int, sketch: StageSketch, *, with_weights: bool) -> _StagePlan:
    network, own = sketch.network, sketch.recipe
    needs = union_of_needs(sketch.objectives.values())
    teachers = _stand_ins(own, needs, network) if with_weights else {}
    step = Step(network, sketch.objectives, teachers=teachers, gates=sketch.gates)
    passes = _passes(own, step)
    if recipe.stages:
        passes = [replace(one, stage=recipe.stage_name(number)) for one in passes]
    return _StagePlan(own, step, passes, {} if with_weights else attach_backbones_on_meta(network, load))


def _length_notes(recipe: Recipe, steps: int | None) -> list[str]:
    if steps is not None or not any(stage.steps for stage in recipe.stages):
        return []
    return [
        "the length of the run is not known, so stages whose length is given in steps hardly count; set data "
        "or steps"
    ]


def _text_sizes(recipe: Recipe) -> tuple[int, int]:
    """Size of the vocabulary and the context where no tokenizer is built.

    Without data a vocabulary of captions counts with the most it may have. A frozen or tuned backbone has its
    own tokenizer, which no parameter of ours depends on.
    """
    vocabulary = CLIP_VOCABULARY if recipe.tokenizer.kind == "clip" else recipe.tokenizer.vocabulary
    return vocabulary, recipe.tokenizer.context or (32 if recipe.tokenizer.kind == "captions" else 77)


def _stand_ins(recipe: Recipe, needs: Needs, network: DualEncoder) -> dict[str, Teacher]:
    """A copy of the student for every teacher, so that a probe needs neither weights nor stores."""
    names = {teacher_of(name) for name in needs.teachers}
    return {
        name: EmaTeacher(request_of(name, needs, texts=recipe.texts), network, momentum=(1.0, 1.0))
        for name in sorted(names)
    }


def _parameters(step: Step, unknown: Mapping[str, str]) -> dict[str, int]:
    """Parameters of the model and of objectives, and apart those of frozen backbones, where they are known.

    `model` is what `train` prints and leaves behind.
    """
    text = step.network.text
    counts = {
        "image": count_parameters(step.network.image),
        "text": count_parameters(text) - text.embedding_parameters,
        "token embedding": text.embedding_parameters,
    }
    counts["model"] = sum(counts.values()) + step.network.log_scale.numel()
    counts["heads of objectives"] = count_parameters(step.objectives)
    counts["all"] = counts["model"] + counts["heads of objectives"]
    trained = count_parameters(step, trained=True)
    counts |= {"trained": trained, "frozen": counts["all"] - trained}
    frozen = _frozen_backbones(step, unknown)
    return counts | {f"{side} backbone, frozen": count for side, count in frozen.items()}


def _frozen_backbones(step: Step, unknown: Mapping[str, str]) -> dict[str, int]:
    """Side -> parameters of its frozen backbone, where they are known."""
    return {
        side: count_parameters(tower.attached)
        for side, tower in step.network.pretrained_towers().items()
        if tower.config.is_frozen and side not in unknown
    }


def _notes(network: DualEncoder, unknown: Mapping[str, str]) -> list[str]:
    """What is not counted, and why."""
    notes = [
        f"the parameters of the {side} backbone are unknown: {reason}" for side, reason in unknown.items()
    ]
    towers = network.pretrained_towers()
    tuned = [side for side, tower in towers.items() if not tower.config.is_frozen]
    unsaid = [side for side, tower in towers.items() if side in tuned and not tower.config.gflops]
    notes += [
        f"the arithmetic of the tuned {side} backbone is not counted; set model.{side}.gflops to its forward "
        "pass of one sample"
        for side in unsaid
    ]
    return notes + [
        f"the memory of what backward keeps of the tuned {side} backbone is not counted; measure it: train "
        "with steps=10"
        for side in tuned
    ]


def _passes(recipe: Recipe, step: Step) -> list[Pass]:
    """Passes of the student, then those without gradient: of teachers, at their sizes, and of episodes."""
    objectives = cast("list[Objective]", list(step.objectives.values()))
    needs = union_of_needs(objectives)
    kept = {view: number for objective in objectives for view, number in objective.kept_patches().items()}
    sources = {name: user_path(teacher.source) for name, teacher in recipe.teachers.items()}
    stores = {name for name, source in sources.items() if (source / "store.json").is_file()}
    given = [name for name in sorted(needs.teachers) if teacher_of(name) not in stores]
    context = step.network.context
    passes = [
        _pass(recipe, view, view, kept, context=context)
        for view in sorted(needs.images | needs.texts, key=lambda name: (name in needs.texts, name))
    ]
    for name in given:
        own, length = _of_teacher(recipe, teacher_of(name), context=context)
        passes.append(_pass(own, name, name.partition(":")[2], {}, context=length, has_gradient=False))
    ahead = union_of_needs(objective for objective in objectives if objective.needs().episode)
    whole = [view for view in sorted(ahead.images | ahead.texts) if "@" not in view]
    passes += [
        _pass(recipe, f"episode:{view}", view, {}, context=context, has_gradient=False) for view in whole
    ]
    return passes


def _of_teacher(recipe: Recipe, name: str, *, context: int) -> tuple[Recipe, int]:
    """The recipe with the towers of a teacher, and the length of its texts.

    An average of the student, and a model that is not on this machine, count as large as the student.
    """
    config = recipe.teachers.get(name)
    if config is None or config.source == EMA:
        return recipe, context
    try:
        with torch.device("cpu"):  # the student is counted on the meta device
            network = load(config.source).network
    except ModelError:
        return recipe, context  # not on this machine
    views = {name: view.model_copy(update={"size": None}) for name, view in recipe.views.items()}
    return recipe.model_copy(update={"model": network.config, "views": views}), network.context


def _pass(
    recipe: Recipe, name: str, view: str, kept: Mapping[str, int], *, context: int, has_gradient: bool = True
) -> Pass:
    """One pass over a view, called `name`; texts count with the full context."""
    if source_view(view) in recipe.texts:
        return Pass(
            name,
            "text",
            context,
            recipe.model.text.forward_gflops(tokens=context) - _stored_gflops(recipe, "text"),
            has_gradient,
        )
    image, size = recipe.model.image, recipe.views[source_view(view)].size
    if size is not None and size != image.resolution:
        image = image.model_copy(update={"resolution": size})
    tokens = image.tokens - (image.grid[0] * image.grid[1] - kept[view] if view in kept else 0)
    return Pass(
        name,
        "image",
        tokens,
        image.forward_gflops(tokens=tokens) - _stored_gflops(recipe, "image"),
        has_gradient,
    )


def _stored_gflops(recipe: Recipe, side: str) -> float:
    """Arithmetic of a frozen backbone for one sample: it runs once, before training, and not in a step."""
    if side == "image":
        return recipe.model.image.stored_gflops if recipe.store.images else 0.0
    return recipe.model.text.stored_gflops


def _encoded_again(recipe: Recipe) -> float:
    """Share of the forward passes that the gradient cache repeats: all micro-batches but one."""
    micro_batch = recipe.micro_batch or recipe.batch
    return max(0.0, 1 - micro_batch / recipe.batch)


def _memory(stage: _StagePlan, precision: str) -> dict[str, float]:
    """Gigabytes on one device that takes the whole batch, in micro-batches if the recipe has them."""
    recipe, step, passes = stage.recipe, stage.step, stage.passes
    rows = min(recipe.batch, recipe.micro_batch or recipe.batch)
    trained = count_parameters(step, trained=True)
    activations = 0.0
    for each in (one for one in passes if one.has_gradient):
        config = recipe.model.image if each.tower == "image" else recipe.model.text
        activations += config.kept_numbers(tokens=each.tokens) * rows * BYTES[precision]
    held = TILE if needs_tiles(recipe.batch, recipe.batch) else recipe.batch**2
    logits = 2 * 3 * held * 4  # two directions: scores, probabilities and their gradient
    weights = 16 * trained + 4 * (
        count_parameters(step) - trained
    )  # what is frozen has neither gradient nor moments
    parts = {"weights, gradients and AdamW": weights, "activations": activations, "logits": logits}
    if frozen := _frozen_backbones(step, stage.unknown):
        parts["frozen backbones"] = 4 * sum(frozen.values())
    return {name: value * 1e-9 for name, value in parts.items()} | {"all": sum(parts.values()) * 1e-9}


def _probe(stages: list[_StagePlan], shares: list[float], device: torch.device) -> dict[str, float]:
    """Seconds a step, as a mean over the run, and peak memory of real steps on random input."""
    found = [probe_step(stage.recipe, stage.step, device) for stage in stages]
    seconds = sum(share * one for share, (one, _) in zip(shares, found, strict=True))
    return {
        "seconds_per_step": seconds,
        "samples_per_second": stages[0].recipe.batch / seconds,
        "peak_memory_gb": max(peak for _, peak in found),
    }
