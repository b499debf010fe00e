"""Cheap and plain ways to adapt a model, beside the one that keeps its guard: the arms of a comparison.

An arm is the recipe of the fine-tuning with other settings; it ends where training ends, without a choice
between start and end. Sources: LP-FT, arXiv 2202.10054 (a head on frozen features); a projection that is
tuned with a penalty on its distance from the start, after ProLIP, arXiv 2410.05270, and CLAP, arXiv
2312.12730, in the form of decoupled decay and without a search for its strength; LoRA, arXiv 2106.09685.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from frugalclip.adaptation.interpolate import merged_model
from frugalclip.core.errors import DataError
from frugalclip.core.records import RunDirectory
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classifiers import Examples, linear_probe
from frugalclip.evaluation.zeroshot import ZeroshotTask, zeroshot_task
from frugalclip.models import Model, load
from frugalclip.sources.open import read_source
from frugalclip.training.guard import TOP1, headline, headline_value
from frugalclip.training.loop import train_run
from frugalclip.training.recipe import Recipe
from frugalclip.training.run import TrainingResult
from frugalclip.training.validation import Validator

_PLAIN = ("optimizer.decay_towards=zero", "optimizer.layer_decay=1", "guard.replay=0", "guard.stop_at=1")
_HEADS = r"^network\.(?!(image|text)\.(project|head|pool)\.)"
_IMAGE_HEAD = r"^network\.(?!image\.(project|head)\.)"


@dataclass(frozen=True)
class ArmRow:
    """Where an arm ends, in percent."""

    name: str
    about: str
    guard: float
    target: float | None  # None without validation rows


@dataclass(frozen=True)
class AdaptationArm:
    """One way to train a model further."""

    name: str
    about: str
    settings: tuple[str, ...]  # overrides of the recipe
    rate: float = 1.0  # multiplies the learning rate


ARMS = (
    AdaptationArm(
        "head",
        "both projections on frozen features",
        (*_PLAIN, f"optimizer.groups=[{{match: '{_HEADS}', lr: 0}}]"),
        10,
    ),
    AdaptationArm(
        "probe",
        "the image projection with a penalty on its distance from the start",
        (
            *("optimizer.decay_towards=start", "optimizer.weight_decay=1", "optimizer.layer_decay=1"),
            *("guard.replay=0", "guard.stop_at=1", f"optimizer.groups=[{{match: '{_IMAGE_HEAD}', lr: 0}}]"),
        ),
        10,
    ),
    AdaptationArm("full", "every weight, plain", _PLAIN),
    AdaptationArm(
        "lora", "low-rank additions to every linear layer", (*_PLAIN, "change={kind: lora, rank: 8}"), 10
    ),
)


def linear_probe_top1(
    model: Model, training: Manifest, validator: Validator, label_field: str | None
) -> float | None:
    """Share of the validation images that a linear probe on frozen features names right, in percent.

    Args:
        model: the start.
        training: rows of the target.
        validator: of the target; None is returned where its captions name no classes.
        label_field: field that names the classes.
    """
    if headline(validator) != TOP1:
        return None
    try:
        known = zeroshot_task(training, label_field=label_field)
    except DataError:
        return None
    both = dict.fromkeys([*known.names, *validator.zeroshot.names])
    names = {name: place for place, name in enumerate(both)}
    found = model.image_features(training.take(known.rows))
    labels = _labels(known, names)[torch.from_numpy(found.rows)]
    tested = torch.cat([model.encode_image(inputs) for inputs in validator.inputs])
    tested = tested[torch.as_tensor(validator.zeroshot.rows)]
    nothing = Examples(tested[:0], labels[:0])
    scores = linear_probe(Examples(found.features, labels), nothing, tested, classes=len(names)).scores
    right = scores.argmax(1) == _labels(validator.zeroshot, names)
    return 100 * float(right.float().mean())


def _labels(task: ZeroshotTask, names: dict[str, int]) -> torch.Tensor:
    """(samples,) int64 the first class of each."""
    return torch.tensor([names[task.names[place]] for place in task.labels[:, 0].tolist()])


def train_arms(recipes: Mapping[str, Recipe], run: RunDirectory, result: TrainingResult) -> list[ArmRow]:
    """Train every arm beside a finished fine-tuning, and measure where each ends.

    Args:
        recipes: of the arms, by name.
        run: of the fine-tuning; each arm is a run in `arms/NAME` below it, and goes on if it is there.
        result: of the fine-tuning, whose rows the others are compared with.

    Returns:
        The rows of the table: what needs no training first, then the arms.
    """
    assert result.guard is not None and result.guard.state is not None
    any_recipe = next(iter(recipes.values()))
    start = load(str(any_recipe.init_from))
    target = result.validator
    measured = None if target is None else headline_value(target.measure(start), headline(target))
    kept = headline_value(result.guard.state.start, result.guard.headline)
    rows = [ArmRow("zero-shot", "the model as it was", kept, measured)]
    if target is not None:
        top1 = linear_probe_top1(start, result.training, target, any_recipe.evaluation.label_field)
        if top1 is not None:  # a classifier beside the model, so the guard stays
            rows.append(ArmRow("linear probe", "a classifier on frozen features", kept, top1))
    for arm in ARMS:
        recipe, folder = recipes[arm.name], RunDirectory(run.path / "arms" / arm.name)
        assert recipe.data.path is not None
        source = read_source(recipe.data.path, columns=recipe.data.columns or None)
        trained = train_run(recipe, source.manifest, folder, resume=folder.is_run(), read=source.ledger)
        if not trained.is_finished:
            break
        rows.append(ArmRow(arm.name, arm.about, *_ends(trained)))
    return rows


def _ends(result: TrainingResult) -> tuple[float, float | None]:
    """Headline metrics of the model that a run ends with, on guard and target."""
    model = merged_model(result.model)
    assert result.guard is not None
    guard = headline_value(result.guard.validator.measure(model), result.guard.headline)
    if result.validator is None:
        return guard, None
    return guard, headline_value(result.validator.measure(model), headline(result.validator))


def arm_words(arm: AdaptationArm, *, rate: float) -> list[str]:
    """The overrides of an arm where the fine-tuning beside it has a learning rate."""
    return [*arm.settings, f"optimizer.lr={rate * arm.rate:.3g}"]
