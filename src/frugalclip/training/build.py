"""Builds the stages of a run: on data to train, or on the meta device, where `plan` counts.

What a stage trains on is decided in order: the network (drawn, or read from a model or a checkpoint), the
objectives, the inputs that the objectives need, the heads that are fitted to them, the teachers, and last the
optimiser with its schedule and the engine (`Stage`).
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from frugalclip.backbones.attach import attach_backbones, backbone_tokenizer
from frugalclip.backbones.codebooks import fill_codebooks
from frugalclip.compression.base import GateSource, find_change, find_gates
from frugalclip.compression.vocabulary import Vocabulary, smaller_vocabulary
from frugalclip.core.devices import without_weights
from frugalclip.core.errors import ModelError, RecipeError
from frugalclip.core.types import Needs
from frugalclip.data.manifest import Manifest
from frugalclip.data.tokens import Tokenizer, build_tokenizer
from frugalclip.features.store import Store
from frugalclip.loading.replay import Augmentations
from frugalclip.loading.texts import texts_of
from frugalclip.models import Model, load
from frugalclip.objectives.base import Objective
from frugalclip.teachers import averages, build_teachers, check_teachers, open_stores
from frugalclip.towers.dual import DualEncoder
from frugalclip.training.fitting import fit_heads
from frugalclip.training.inputs import RunData, StageInputs, build_inputs
from frugalclip.training.recipe import Recipe
from frugalclip.training.stage import Stage
from frugalclip.training.step import (
    Precision,
    Step,
    build_objectives,
    check_active,
    never_clustered,
    read_views,
    union_of_needs,
)
from frugalclip.training.stored_views import replayed_views

MANY_STEPS = 1_000_000  # what shares of a run of unknown length are taken of
SCALE_SETTINGS = {"scale_min", "scale_max", "learn_scale"}  # stay the recipe's where a model is started from


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


def start_from(
    recipe: Recipe, source: str | Path, *, device: torch.device, setting: str = "init_from"
) -> tuple[Recipe, Model]:
    """Read a model to start from or to go on with, and fit the recipe to it.

    Args:
        recipe: of the run; it decides how the scale is trained, the model everything else of `model` and
            `preprocess`.
        source: a MODEL or a checkpoint.
        device: where it computes.
        setting: what names the source, for messages.

    Returns:
        The recipe with the sizes and the preprocessing of the model, and the model.

    Raises:
        ModelError: if there is no model at the source, or one that encodes images only.
    """
    try:
        found = load(source)
    except ModelError as error:
        raise ModelError(f"{setting}: {error}") from error
    if found.reads == "images":
        raise ModelError(
            f"{setting}: {source} encodes images only; set model.image.kind=pretrained "
            f"model.image.from={source}."
        )
    network = found.network
    network.config = network.config.model_copy(update=recipe.model.model_dump(include=SCALE_SETTINGS))
    network.log_scale.requires_grad_(network.config.learn_scale)
    model = Model(network, found.tokenizer, found.preprocess, device=device)
    model.lexicon = found.lexicon
    return recipe.model_copy(update={"model": network.config, "preprocess": model.preprocess}), model


def new_model(recipe: Recipe, data: RunData, *, device: torch.device) -> Model:
    """A model with weights drawn from the recipe's seed, and a tokenizer built as the recipe says."""
    tokenizer = run_tokenizer(recipe, data.training)
    network = DualEncoder(
        recipe.model, vocabulary=tokenizer.vocabulary, context=tokenizer.context, seed=recipe.seed
    )
    model = Model(attach_backbones(network, load, device=device), tokenizer, recipe.preprocess, device=device)
    model.lexicon = fill_codebooks(model.network)
    return model


def run_tokenizer(recipe: Recipe, training: Manifest) -> Tokenizer:
    """The tokenizer of a run that starts from no model.

    Args:
        recipe: of the run.
        training: its training rows, whose captions a vocabulary may be made of.
    """
    if text := recipe.model.pretrained_towers().get("text"):
        return backbone_tokenizer(text, load)
    return build_tokenizer(recipe.tokenizer, texts_of(training, recipe.texts.values()))


def checked_objectives(
    recipe: Recipe, network: DualEncoder, *, mask: int, samples: int = 0
) -> dict[str, Objective]:
    """The objectives of a stage, checked against the views, the towers and the teachers of its recipe.

    Args:
        recipe: of the stage.
        network: its towers; on the meta device the objectives' heads are there too.
        mask: id of the mask token.
        samples: of the training data, 0 if not known.

    Raises:
        RecipeError: if an objective needs what the recipe or a tower does not give.
    """
    dims = network.dims(batch=recipe.batch, **recipe.run_dims(mask=mask, samples=samples))
    objectives = build_objectives(recipe.objectives, dims, seed=recipe.seed)
    needs = union_of_needs(objectives.values())
    read_views(needs, images=recipe.views, texts=recipe.texts)
    network.check(needs, averages=averages(recipe.teachers))
    check_teachers(recipe.teachers, needs)
    stored_teachers(recipe, needs)
    if needs.gates and recipe.gates is None:
        reader = next(name for name, objective in objectives.items() if objective.needs().gates)
        raise RecipeError(f"objectives.{reader} reads gates, and the recipe has none; set gates.kind.")
    return objectives


def stored_teachers(recipe: Recipe, needs: Needs) -> tuple[dict[str, Store], dict[str, Augmentations]]:
    """The stores that teach in a stage, and the image views that are drawn from their augmentations.

    Raises:
        DataError: if a store is damaged or not finished.
        RecipeError: if a view is made otherwise than a store's augmentations.
    """
    stores = open_stores(recipe.teachers, needs)
    size = recipe.model.image.resolution
    return stores, replayed_views(stores, needs, views=recipe.views, texts=recipe.texts, size=size)


def build_gates(recipe: Recipe, network: DualEncoder) -> GateSource | None:
    """The gates of a stage, if its recipe has any."""
    return None if recipe.gates is None else find_gates(recipe.gates.kind)(recipe.gates, network)


def changed_network(
    recipe: Recipe,
    number: int,
    network: DualEncoder,
    *,
    gates: GateSource | None,
    vocabulary: Vocabulary,
) -> tuple[DualEncoder, Vocabulary]:
    """The network that a stage begins with, from that of the stage before, and its vocabulary.

    Args:
        recipe: of the run.
        number: of the stage, from 0.
        network: of the stage before.
        gates: of the stage before.
        vocabulary: of the network.

    Returns:
        The same network and vocabulary where the stage names no change.
    """
    config = recipe.change_before(number)
    if config is None:
        return network, vocabulary
    changed = find_change(config.kind)(config)(network, gates=gates, preprocess=recipe.preprocess)
    if config.vocabulary is None:
        return changed, vocabulary
    return smaller_vocabulary(changed, config.vocabulary, vocabulary)


def vocabulary_notes(recipe: Recipe, training: Manifest | None) -> list[str]:
    """What a plan without training data does not know of vocabularies that are cut."""
    changes = [recipe.change_before(number) for number in range(len(recipe.stages) or 1)]
    cuts = [one.vocabulary.keep for one in changes if one is not None and one.vocabulary is not None]
    is_new = recipe.init_from is None  # its tokenizer is made of the captions
    if training is not None or not any(keep == "captions" or (keep and is_new) for keep in cuts):
        return []
    return ["the token embedding is counted whole; set data, whose captions decide which tokens stay"]


def change_model(
    recipe: Recipe, number: int, model: Model, *, gates: GateSource | None, training: Manifest
) -> list[str]:
    """Change network and tokenizer of a model as a stage says before it begins.

    Args:
        recipe: of the run.
        number: of the stage, from 0.
        model: of the stage before; it is changed in place.
        gates: of the stage before.
        training: the training data.

    Returns:
        Notes for the reader.
    """
    before = Vocabulary(model.tokenizer, lambda: texts_of(training, recipe.texts.values()))
    network, after = changed_network(recipe, number, model.network, gates=gates, vocabulary=before)
    assert after.tokenizer is not None
    rows = model.network.vocabulary
    model.network, model.tokenizer = network.to(model.device), after.tokenizer
    if network.vocabulary == rows:
        return []
    return [f"vocabulary: {network.vocabulary:,} of {rows:,} tokens stay; other words are spelled with them"]


@dataclass(frozen=True)
class StageSketch:
    """What is known of a stage without data."""

    recipe: Recipe
    network: DualEncoder
    objectives: dict[str, Objective]
    gates: GateSource | None


def sketch_stages(
    recipe: Recipe,
    network: DualEncoder,
    *,
    mask: int,
    steps: int | None,
    samples: int = 0,
    vocabulary: Vocabulary,
) -> Iterator[StageSketch]:
    """The stages of a run in order, each on a network of its own.

    Args:
        recipe: of the run.
        network: of the first stage, on any device.
        mask: id of the mask token.
        steps: of the run, None if not known.
        samples: of the training data, 0 if not known.
        vocabulary: of the network, as far as it is known.

    Raises:
        RecipeError: if an objective of some stage needs what the recipe or a tower does not give, or some
            step has none.
    """
    gates, spans = None, recipe.stage_spans(MANY_STEPS if steps is None else steps)
    for number in range(len(recipe.stages) or 1):
        if number:
            before = copy.deepcopy(network)
            network, vocabulary = changed_network(recipe, number, before, gates=gates, vocabulary=vocabulary)
        own = recipe.stage(number).model_copy(update={"model": network.config})
        objectives = checked_objectives(own, network, mask=mask, samples=samples)
        check_active(objectives, steps=len(spans[number]))
        gates = build_gates(own, network)
        yield StageSketch(own, network, objectives, gates)


def check_stages(recipe: Recipe, model: Model, *, samples: int) -> None:
    """Refuse a run one of whose stages cannot be built, before the first one is trained.

    Args:
        recipe: of the run.
        model: of the first stage.
        samples: of the training data.
    """
    built = model.network
    with without_weights():
        network = DualEncoder(built.config, vocabulary=built.vocabulary, context=built.context, seed=None)
        sketches = sketch_stages(
            recipe,
            network,
            mask=model.tokenizer.mask,
            steps=recipe.total_steps(samples),
            samples=samples,
            vocabulary=Vocabulary(model.tokenizer),
        )
        for _ in sketches:
            pass


def run_steps(recipe: Recipe, inputs: StageInputs) -> int:
    """Steps of a run on the data of its first stage."""
    steps = recipe.total_steps(inputs.loader.steps_per_epoch * recipe.batch)
    assert steps is not None, "the data is known here"
    return steps


@dataclass(frozen=True)
class BuildPlace:
    """Which stage of a run is built."""

    number: int = 0  # of the stage, from 0
    steps: int | None = None  # of the run; None where the first stage's data decides
    is_fitted: bool = False  # whether the heads that are fitted in closed form have been fitted already


def build_stage(
    run_recipe: Recipe,
    data: RunData,
    model: Model,
    *,
    place: BuildPlace,
    note: Callable[[str], None],
) -> tuple[Stage, StageInputs, list[str]]:
    """Build a stage on data.

    Args:
        run_recipe: of the run.
        data: of the run.
        model: its network is trained.
        place: which stage it is.
        note: called with remarks while it is built.

    Returns:
        The stage, what it trains on, and notes for the reader.
    """
    recipe = run_recipe.stage(place.number).model_copy(update={"model": model.network.config})
    objectives = checked_objectives(
        recipe, model.network, mask=model.tokenizer.mask, samples=len(data.training)
    )
    needs = union_of_needs(objectives.values())
    stores, replayed = stored_teachers(recipe, needs)
    inputs = build_inputs(recipe, data, model, needs, replayed=replayed, note=note)
    notes = list(inputs.notes)
    if not place.is_fitted:
        notes += fit_heads(model.network, inputs.loader, training=data.training, preprocess=model.preprocess)
    teachers = build_teachers(
        recipe.teachers,
        needs,
        texts=recipe.texts,
        student=model.network,
        tokenizer=model.tokenizer,
        preprocess=recipe.preprocess,
        manifest=data.training,
        stores=stores,
        shown=inputs.loader.texts,
    )
    precision = pick_precision(recipe.precision, model.device)
    gates = build_gates(recipe, model.network)
    module = Step(
        model.network, objectives, teachers=teachers, gates=gates, precision=precision, seed=recipe.seed
    ).to(model.device)
    span = run_recipe.stage_spans(place.steps or run_steps(run_recipe, inputs))[place.number]
    check_active(objectives, steps=len(span))
    stage = Stage(recipe, module, span=span, number=place.number)
    notes += never_clustered(objectives, episode=stage.episode, steps=len(span))
    return stage, inputs, notes
