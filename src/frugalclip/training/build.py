"""Builds the stages of a run: from a recipe and data, or from a recipe alone on the meta device, where `plan` counts.

What a stage trains on is decided in order: the network (drawn, or read from a model or a checkpoint), the objectives, the inputs that the
objectives need, the heads that are fitted to them, the teachers, and last the optimiser with its schedule and the engine (`Stage`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from frugalclip.backbones.attach import attach_backbones, backbone_tokenizer
from frugalclip.backbones.codebooks import fill_codebooks
from frugalclip.core.errors import ModelError, RecipeError
from frugalclip.data.tokens import Tokenizer, build_tokenizer
from frugalclip.loading.texts import texts_of
from frugalclip.models import Model, load
from frugalclip.objectives.base import Objective
from frugalclip.teachers import averages, build_teachers
from frugalclip.towers.dual import DualEncoder
from frugalclip.training.fitting import fit_heads
from frugalclip.training.inputs import RunData, StageInputs, build_inputs
from frugalclip.training.recipe import Recipe
from frugalclip.training.stage import Stage
from frugalclip.training.step import (
    Precision,
    Step,
    build_objectives,
    never_clustered,
    read_views,
    union_of_needs,
)

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


def start_from(recipe: Recipe, source: str | Path, *, device: torch.device) -> tuple[Recipe, Model]:
    """Read a model to start from or to go on with, and fit the recipe to it.

    Args:
        recipe: of the run; it decides how the scale is trained, the model everything else of `model` and `preprocess`.
        source: a MODEL or a checkpoint.
        device: where it computes.

    Returns:
        The recipe with the sizes and the preprocessing of the model, and the model.

    Raises:
        ModelError: if there is no model at the source, or one that encodes images only.
    """
    try:
        found = load(source)
    except ModelError as error:
        raise ModelError(f"init_from: {error}") from error
    if found.reads == "images":
        raise ModelError(
            f"init_from: {source} encodes images only; set model.image.kind=pretrained model.image.from={source}."
        )
    network = found.network
    network.config = network.config.model_copy(update=recipe.model.model_dump(include=SCALE_SETTINGS))
    network.log_scale.requires_grad_(network.config.learn_scale)
    model = Model(network, found.tokenizer, found.preprocess, device=device)
    model.lexicon = found.lexicon
    return recipe.model_copy(update={"model": network.config, "preprocess": model.preprocess}), model


def new_model(recipe: Recipe, data: RunData, *, device: torch.device) -> Model:
    """A model with weights drawn from the recipe's seed, and a tokenizer built as the recipe says."""
    tokenizer = _tokenizer(recipe, data)
    network = DualEncoder(
        recipe.model, vocabulary=tokenizer.vocabulary, context=tokenizer.context, seed=recipe.seed
    )
    model = Model(attach_backbones(network, load, device=device), tokenizer, recipe.preprocess, device=device)
    model.lexicon = fill_codebooks(model.network)
    return model


def _tokenizer(recipe: Recipe, data: RunData) -> Tokenizer:
    if text := recipe.model.pretrained_towers().get("text"):
        return backbone_tokenizer(text, load)
    return build_tokenizer(recipe.tokenizer, texts_of(data.training, recipe.texts.values()))


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
    return objectives


@dataclass(frozen=True)
class RunningStage:
    """A stage with what it trains on."""

    stage: Stage
    inputs: StageInputs
    steps: int  # of the whole run
    notes: list[str]


def build_stage(
    recipe: Recipe,
    data: RunData,
    model: Model,
    *,
    is_fitted: bool,
    note: Callable[[str], None],
) -> RunningStage:
    """Build a stage on data.

    Args:
        recipe: of the stage.
        data: of the run.
        model: its network is trained.
        is_fitted: whether the heads that are fitted in closed form have been fitted already.
        note: called with remarks while it is built.
    """
    objectives = checked_objectives(
        recipe, model.network, mask=model.tokenizer.mask, samples=len(data.training)
    )
    needs = union_of_needs(objectives.values())
    inputs = build_inputs(recipe, data, model, needs, note=note)
    notes = inputs.notes + (
        []
        if is_fitted
        else fit_heads(model.network, inputs.loader, training=data.training, preprocess=model.preprocess)
    )
    teachers = build_teachers(
        recipe.teachers,
        needs,
        texts=recipe.texts,
        student=model.network,
        tokenizer=model.tokenizer,
        preprocess=recipe.preprocess,
        manifest=data.training,
    )
    precision = pick_precision(recipe.precision, model.device)
    module = Step(model.network, objectives, teachers=teachers, precision=precision).to(model.device)
    steps = recipe.total_steps(inputs.loader.steps_per_epoch * recipe.batch)
    assert steps is not None, "the data is known here"
    stage = Stage(recipe, module, span=range(steps))
    notes += never_clustered(objectives, episode=stage.episode, steps=steps)
    return RunningStage(stage, inputs, steps, notes)
