"""`frugalclip evaluate`: a model on a data set, with chance, intervals and baselines beside every metric."""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from frugalclip.core.devices import pick_device
from frugalclip.core.errors import DataError
from frugalclip.core.locks import writing
from frugalclip.core.paths import user_path
from frugalclip.core.progress import progress_lines
from frugalclip.core.records import RunDirectory, write_json
from frugalclip.core.terminal import show_remark
from frugalclip.curation.known_leakage import known_leakage
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.baselines import Baselines
from frugalclip.evaluation.encoding import Layer
from frugalclip.evaluation.evaluated_data import evaluated_data, training_images
from frugalclip.evaluation.side_by_side import side_by_side
from frugalclip.evaluation.suite import packs_folder
from frugalclip.evaluation.tasks import TASKS, check_texts, effective_options
from frugalclip.features.backbone_stores import use_stored
from frugalclip.models import Model, load
from frugalclip.report.run import record_evaluation
from frugalclip.report.side_by_side import print_side_by_side
from frugalclip.report.terminal import print_evaluation

AnyModel = str | Path | Model
_RECORDED = ("suite", "grouping")  # tasks that describe the features of a run, and so belong into its report


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
    options = effective_options(task, given)
    has_baselines = bool(options.pop("baselines", False))
    reference = None if baselines_model is None else _loaded(baselines_model)
    request = _Request(task, data, options, has_baselines, baselines_data, reference)
    several = [model] if isinstance(model, (str, Path, Model)) else list(model)
    with progress_lines(show_remark):
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
        check_texts(task, encodes_texts=loaded.reads == "both", model=path or "the model")
        run_task = _suite if task == "suite" else _on_data
        result = run_task(loaded, request, options)
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


def _suite(model: Model, request: _Request, options: dict[str, Any]) -> dict[str, Any]:
    """A suite, on its own packs."""
    folder = packs_folder(request.data)
    return TASKS["suite"].run(
        model, folder=folder, reference=request.reference, progress=show_remark, **options
    )


def _on_data(model: Model, request: _Request, options: dict[str, Any]) -> dict[str, Any]:
    """A task on the rows of one data set."""
    if request.has_baselines:
        training = training_images(request.training, model.training_data)
        options["baselines"] = Baselines(training, request.reference)
    everything, lost = evaluated_data(request.data, model.training_data, task=request.task)
    rows = everything.where(options.get("where"))
    leakage = known_leakage(model.training_data, rows, training=request.training)
    result = TASKS[request.task].run(model, rows, everything=everything, **options)
    result["leakage"] = leakage
    if lost:  # beside what a condition or a broken image leaves out
        result["left_out"] = dict(Counter(result.get("left_out", {})) + Counter(lost))
    return result


def _loaded(model: str | Path | Model) -> Model:
    if isinstance(model, Model):
        return model
    loaded = load(model, device=pick_device("auto"))
    use_stored(loaded.caches.values())
    return loaded
