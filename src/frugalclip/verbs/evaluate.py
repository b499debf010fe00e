"""`frugalclip evaluate`: a model on a data set, with chance, intervals and baselines beside every metric."""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from rich.text import Text

from frugalclip.core.devices import pick_device
from frugalclip.core.errors import DataError, UsageError, known_names
from frugalclip.core.locks import writing
from frugalclip.core.paths import user_path
from frugalclip.core.records import RunDirectory, write_json
from frugalclip.core.terminal import Terminal
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.baselines import Baselines
from frugalclip.evaluation.encoding import Layer
from frugalclip.evaluation.side_by_side import side_by_side
from frugalclip.evaluation.suite import ENVIRONMENT
from frugalclip.evaluation.tasks import TASKS
from frugalclip.features.backbone_stores import use_stored
from frugalclip.models import Model, load
from frugalclip.report.run import record_evaluation
from frugalclip.report.side_by_side import print_side_by_side
from frugalclip.report.terminal import print_evaluation
from frugalclip.sources.open import open_data, read_source

AnyModel = str | Path | Model
_RECORDED = ("suite", "grouping")  # tasks that describe the features of a run, and so belong into its report
_ARGUMENTS = {"features": "layer", "robustness": "with_robustness"}  # option -> argument of the task


@dataclass(frozen=True)
class _Request:
    """What is evaluated, whatever the model."""

    task: str
    data: str | Path | Manifest | None
    options: dict[str, Any]  # of the task
    has_baselines: bool
    training: str | Path | Manifest | None  # what baselines copy from, where it is given
    reference: Model | None  # encoder of the feature baseline


def evaluate(
    model: AnyModel | Sequence[AnyModel],
    *,
    data: str | Path | Manifest | None = None,
    task: str = "zeroshot",
    where: str | None = None,
    label_field: str | None = None,
    classes: str | Path | Sequence[str] | None = None,
    prompts: str | Path | None = None,
    language: str | None = None,
    baselines: bool = False,
    baselines_data: str | Path | Manifest | None = None,
    baselines_model: str | Path | Model | None = None,
    group: str | None = None,
    features: Layer | None = None,
    robustness: bool = False,
    suite: str | None = None,
    json: str | Path | None = None,
) -> dict[str, Any]:
    """Evaluate a model on a data set, or several models side by side.

    Args:
        model: a run directory, a checkpoint, a model of another library as `load` takes it, or a loaded
            model; or several of them.
        data: the data set, as `train` reads it; for a suite the folder of its packs, by default
            FRUGALCLIP_PACKS.
        task: zeroshot, retrieval, probe, knn, fewshot, grouping, words or suite.
        where: rows to evaluate on, such as `split=test,is_flag=false`; the generalised pool of zeroshot keeps
            the names of all rows.
        label_field: field that names the class or classes of a row; default `label`, else the first caption.
        classes: file with the competing names, one a line, synonyms after `|`; or a list of such lines.
        prompts: a prompt set, or a file with one prompt a line; default `plain`.
        language: captions of this language.
        baselines: also measure what copying from the training images reaches.
        baselines_model: frozen encoder of the feature baseline, a MODEL as `model`; default oriented
            gradients and colours. Turns `baselines` on.
        baselines_data: the training images, where the model does not know them or they have moved.
        group: field whose equal values the bootstrap draws together; default `family` or `component` where
            the data has them; `id` draws rows singly.
        features: of probe, knn, fewshot and grouping: `embedding` (the joint space, default) or `pooled` (the
            tower before its projection, as CLIP).
        robustness: also evaluate on altered copies of the images: other hues, mirrored, blurred, occluded,
            noisy, compressed, grey.
        suite: a suite, a single test of one, or a YAML file that defines one; default all eleven tests.
        json: file to write the result to.

    Returns:
        The result described in `docs/formats.md`; every metric in percent but the median ranks. For several
        models `models`, `against` and `compared`.

    Raises:
        DataError, ModelError: one sentence with the next command.
    """
    if task not in TASKS:
        raise UsageError(f"'{task}' is not a task; {known_names(task, TASKS)}")
    if features is not None and features not in get_args(Layer):
        raise UsageError(f"--features {features} is not understood; {known_names(features, get_args(Layer))}")
    given = {
        "where": where,
        "label_field": label_field,
        "classes": classes,
        "prompts": prompts,
        "language": language,
        "group": group,
        "features": features,
        "suite": suite,
        "baselines": baselines or (baselines_model is not None and task != "suite") or None,
        "robustness": robustness or None,
    }
    options = _effective(task, {name: value for name, value in given.items() if value is not None})
    has_baselines = bool(options.pop("baselines", False))
    reference = None if baselines_model is None else _loaded(baselines_model)
    request = _Request(task, data, options, has_baselines, baselines_data, reference)
    several = [model] if isinstance(model, (str, Path, Model)) else list(model)
    result = _evaluated(several[0], request) if len(several) == 1 else _side_by_side(several, request)
    if json is not None:
        write_json(user_path(json), result)
    return result


def _side_by_side(models: Sequence[AnyModel], request: _Request) -> dict[str, Any]:
    """The results of several models, and their differences to the first."""
    names = [str(one) if isinstance(one, (str, Path)) else one.fingerprint for one in models]
    if len(set(names)) < len(names):
        raise DataError(f"a model is named twice among {', '.join(names)}; name each once.")
    if TASKS[request.task].has_outcome:
        request = replace(request, options=request.options | {"with_outcome": True})
    return side_by_side({name: _evaluated(one, request) for name, one in zip(names, models, strict=True)})


def _evaluated(model: AnyModel, request: _Request) -> dict[str, Any]:
    """The result of one model, recorded in its run where the task describes its features."""
    task, options = request.task, dict(request.options)
    path = str(model) if isinstance(model, (str, Path)) else None
    run = RunDirectory(path) if path is not None and task in _RECORDED else None
    with writing(run.path) if run is not None and run.is_writable() else nullcontext():
        loaded = _loaded(model)
        _check_texts(task, loaded, path)
        if task == "suite":
            folder = _packs(request.data)
            options |= {"folder": folder, "reference": request.reference, "progress": _show_progress}
            result = TASKS[task].run(loaded, **options)
        else:
            if request.has_baselines:
                training = _training_data(loaded, request.training)
                options["baselines"] = Baselines(training, request.reference)
            result = _on_data(task, loaded, request.data, options)
        result["model_path"] = path
        if run is not None:
            record_evaluation(run, result)
    return result


def show(result: dict[str, Any]) -> None:
    """Print a result, or those of several models in one table."""
    if "models" in result:
        print_side_by_side(result)
    else:
        print_evaluation(result)


def _effective(task: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options that have an effect, as arguments of the task; the others warn."""
    for name in sorted(given.keys() - TASKS[task].options):
        warnings.warn(f"--{name.replace('_', '-')} has no effect on --task {task}.", stacklevel=3)
    return {_ARGUMENTS.get(name, name): value for name, value in given.items() if name in TASKS[task].options}


def _check_texts(task: str, model: Model, path: str | None) -> None:
    if TASKS[task].needs_texts and model.reads == "images":
        others = ", ".join(name for name, one in TASKS.items() if not one.needs_texts)
        raise DataError(
            f"{path or 'the model'} encodes images only, and --task {task} needs texts; "
            f"choose another task ({others}), or a model with two towers."
        )


def _on_data(
    task: str, model: Model, data: str | Path | Manifest | None, options: dict[str, Any]
) -> dict[str, Any]:
    """A task on the rows of one data set."""
    if data is None:
        raise DataError(
            f"--task {task} needs a data set; add --data PATH, or --data sample for the shipped pairs."
        )
    everything, lost = (data, {}) if isinstance(data, Manifest) else _read(data)
    rows = everything.where(options.get("where"))
    result = TASKS[task].run(model, rows, everything=everything, **options)
    if lost:  # beside what a condition or a broken image leaves out
        result["left_out"] = dict(Counter(result.get("left_out", {})) + Counter(lost))
    return result


def _read(path: str | Path) -> tuple[Manifest, dict[str, int]]:
    """A data set, and the samples that were lost while reading it, by reason."""
    source = read_source(path)
    return source.manifest, source.ledger.counts() if source.ledger.entries else {}


def _packs(data: str | Path | Manifest | None) -> Path | None:
    """The folder of packs from `data` or the environment; None for the sample."""
    if isinstance(data, Manifest):
        raise DataError("a suite reads its own packs; give their folder as data, or leave it out.")
    named = data or os.environ.get(ENVIRONMENT)
    return None if not named or str(named) == "sample" else user_path(named)


def _show_progress(text: str) -> None:
    Terminal(stderr=True).print(Text(text, style="dim"), soft_wrap=True)


def _loaded(model: str | Path | Model) -> Model:
    if isinstance(model, Model):
        return model
    loaded = load(model, device=pick_device("auto"))
    use_stored(loaded.caches.values())
    return loaded


def _training_data(model: Model, given: str | Path | Manifest | None) -> Manifest:
    """The training images, which baselines copy from."""
    if isinstance(given, Manifest):
        return given
    recorded = model.training_data or {}
    path = given or recorded.get("path")
    if path is None:
        raise DataError(
            "--baselines needs the training images, and the model has no record of them; "
            "add --baselines-data PATH."
        )
    try:
        if given is not None:
            return open_data(path)
        return open_data(path, columns=recorded.get("columns") or None).where(recorded.get("where"))
    except DataError as error:
        place = f" from {os.getcwd()}" if given is None and path != "sample" else ""
        raise DataError(
            f"--baselines needs the training images, and {path} cannot be read{place}: {error}"
        ) from error
