"""`frugalclip adapt interpolate` and `adapt soup`: a model between two, and the mean of several."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from frugalclip.adaptation.curve import CurveData, measure_curve, model_at
from frugalclip.adaptation.interpolate import check_alike, greedy_soup, merged_model, mixed_model
from frugalclip.adaptation.normalisation import NormCorrection, batch_norms
from frugalclip.adaptation.settle import statistics_images
from frugalclip.core.errors import ModelError, UsageError
from frugalclip.core.locks import contents, writes_into
from frugalclip.core.records import RunDirectory, environment, publish_folder, write_json
from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.models import Model, load
from frugalclip.report.interpolation import curve_rows, curve_titles, sentence
from frugalclip.sources.open import open_data
from frugalclip.training.guard import headline, headline_value
from frugalclip.training.sections import EvaluationConfig
from frugalclip.training.validation import Validator


@dataclass(frozen=True)
class MixedModel:
    """A model made of others, and how."""

    model: Model
    run: RunDirectory
    about: dict[str, Any]  # what `metrics.json` of the run holds


@writes_into("out")
def adapt_interpolate(
    first: str | Path,
    second: str | Path,
    *,
    out: str | Path,
    alpha: float | None = None,
    guard: str | None = None,
    data: str | None = None,
    max_loss: float = 1.0,
    points: int = 11,
) -> MixedModel:
    """A model between two of one architecture.

    Args:
        first: the MODEL at 0.
        second: the MODEL at 1.
        out: folder to make; a MODEL for every verb.
        alpha: how far; None chooses the point that keeps the guard.
        guard: data that must not be forgotten; needed where `alpha` is None.
        data: target data, whose best point within the limit is taken; None takes the farthest.
        max_loss: points that the guard may lose.
        points: measured between both, the ends among them.

    Raises:
        ModelError: for models that have no weights in between.
        UsageError: where neither `alpha` nor `guard` is given, or both.
    """
    if (alpha is None) == (guard is None):
        raise UsageError("give one of --alpha, such as 0.5, and --guard PATH, which chooses it.")
    if alpha is not None and not 0 <= alpha <= 1:
        raise UsageError(f"alpha is {alpha:g}; expected a number from 0, the first model, to 1, the second.")
    run = _new_run(out)
    start, end = _alike([str(first), str(second)])
    about: dict[str, Any] = {"models": [str(first), str(second)], "alpha": alpha}
    if guard is None:
        assert alpha is not None
        if 0 < alpha < 1 and batch_norms(start.network) and data is None:
            raise UsageError(
                "these towers have batch normalisation, whose statistics are collected anew in between; add "
                "--data PATH."
            )
        images = statistics_images(end, open_data(data)) if data is not None else []
        model = model_at(start, end, alpha, NormCorrection(start, end, images))
        return _written(model, run, about)
    images = statistics_images(end, open_data(data if data is not None else guard))
    target = None if data is None else _validator(data, end)
    measured = CurveData(_validator(guard, end), target, images)
    curve, model = measure_curve(start, end, measured, points=points, max_loss=max_loss)
    content = {"start": str(first), "data": data, "kept": guard, **curve.to_json(), "stopped": None}
    return _written(model, run, about | {"alpha": curve.point.alpha, "interpolation": content})


@writes_into("out")
def adapt_soup(models: Sequence[str | Path], *, out: str | Path, data: str | None = None) -> MixedModel:
    """The mean of several models of one architecture, such as runs that began at one start.

    Args:
        models: two MODELs at least.
        out: folder to make; a MODEL for every verb.
        data: held-out data; given, models are added best first, and only those stay that do not make the mean
            worse on it.

    Raises:
        ModelError: for models that have no weights in between.
        UsageError: for a single model.
    """
    if len(models) < 2:
        raise UsageError("a mean needs two models at least; name more.")
    run, names = _new_run(out), [str(one) for one in models]
    found = _alike(names)
    if batch_norms(found[0].network):
        raise ModelError(
            "these towers have batch normalisation, whose statistics do not survive a mean; use 'frugalclip "
            "adapt interpolate' with --data, which collects them anew."
        )
    if data is None:
        mean = mixed_model(found, [1 / len(found)] * len(found))
        return _written(mean, run, {"models": names, "kept": names})
    validator = _validator(data, found[0])
    name = headline(validator)
    values: dict[int, float] = {}

    def value(model: Model) -> float:
        measured = headline_value(validator.measure(model), name)
        values[id(model)] = measured
        return measured

    kept, mean = greedy_soup(found, value)
    own = {one: values[id(model)] for one, model in zip(names, found, strict=True)}
    about = {
        "data": data,
        "headline": name,
        "values": own,
        "value": headline_value(validator.measure(mean), name),
    }
    return _written(mean, run, {"models": names, "kept": [names[i] for i in kept], **about})


def _new_run(out: str | Path) -> RunDirectory:
    run = RunDirectory(out)
    if contents(run.path):
        raise ModelError(f"{run.path} is not empty; give a new folder with --out.")
    return run


def _alike(names: Sequence[str]) -> list[Model]:
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{twice[0]} is named twice; name each model once.")
    found = {name: merged_model(load(name)) for name in names}
    check_alike(found)
    return list(found.values())


def _validator(data: str, model: Model) -> Validator:
    return Validator(open_data(data), EvaluationConfig(), model)


def _written(model: Model, run: RunDirectory, about: dict[str, Any]) -> MixedModel:
    with publish_folder(run.final) as folder:
        model.save(folder)
    write_json(run.environment, environment())
    write_json(run.summary, about)
    return MixedModel(model, run, about)


def show(result: MixedModel) -> None:
    """Print what was mixed, and the next command."""
    console, about = Terminal(), result.about
    if content := about.get("interpolation"):
        table = Table(*curve_titles(content), title="between both, percent")
        for row in curve_rows(content):
            table.add_row(*row)
        console.print(table)
        console.print(sentence(content), highlight=False, soft_wrap=True)
    elif "values" in about:
        for name, value in about["values"].items():
            mark = "in the mean" if name in about["kept"] else "left out"
            console.print(f"{name}: {value:.1f} % ({mark})", highlight=False, soft_wrap=True)
        console.print(f"mean: {about['value']:.1f} % ({about['headline']})", highlight=False)
    next_line = command_line("evaluate", result.run.path, "--data", "sample")
    console.print(f"{result.run.path} is the model. Next: {next_line}", highlight=False, soft_wrap=True)
