"""`frugalclip evaluate`: a model on a data set, with chance, intervals and floors in the same row."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rich import box
from rich.console import Console
from rich.table import Table

from frugalclip.core.devices import pick_device
from frugalclip.core.errors import DataError, known_names
from frugalclip.core.records import RunDirectory, read_json, write_json
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.encoding import Layer
from frugalclip.evaluation.fewshot import evaluate_fewshot
from frugalclip.evaluation.grouping import evaluate_grouping
from frugalclip.evaluation.probes import evaluate_knn, evaluate_probe
from frugalclip.evaluation.retrieval import evaluate_retrieval
from frugalclip.evaluation.suite import ENVIRONMENT
from frugalclip.evaluation.suite_run import MEAN, evaluate_suite
from frugalclip.evaluation.words import evaluate_words
from frugalclip.evaluation.zeroshot import evaluate_zeroshot
from frugalclip.models import Model, load
from frugalclip.report.run import refresh_evaluations
from frugalclip.report.tables import FEWER
from frugalclip.sources.open import open_data, read_source
from frugalclip.sources.reading import READING
from frugalclip.training.stores import remember_cached


@dataclass(frozen=True)
class Task:
    """A test that can be asked for by name."""

    run: Callable[..., dict[str, Any]]
    options: frozenset[str]  # of the verb's options, those that have an effect
    needs_texts: bool = False  # so that an encoder of pictures alone cannot take it


_DATA = frozenset({"where", "group", "language"})
_LABELS = _DATA | {"label_field", "features"}
TASKS = {
    "zeroshot": Task(
        evaluate_zeroshot,
        _DATA | {"label_field", "classes", "prompts", "baselines", "robustness"},
        needs_texts=True,
    ),
    "retrieval": Task(evaluate_retrieval, _DATA | {"baselines", "robustness"}, needs_texts=True),
    "probe": Task(evaluate_probe, _LABELS),
    "knn": Task(evaluate_knn, _LABELS),
    "fewshot": Task(evaluate_fewshot, _LABELS),
    "grouping": Task(evaluate_grouping, _LABELS),
    "words": Task(evaluate_words, _DATA | {"label_field"}, needs_texts=True),  # of models with lexical heads
    "suite": Task(evaluate_suite, frozenset({"features", "suite"})),  # has its own data and always its floors
}


def evaluate(
    model: str | Path | Model,
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
    """Measure a model on a data set.

    Args:
        model: a run directory, a checkpoint, a model of another library as `load` takes it, or a loaded model.
        data: the data set, as `train` reads it; for a suite the folder of its packs, by default what FRUGALCLIP_PACKS names.
        task: zeroshot, retrieval, probe, knn, fewshot, grouping, words or suite.
        where: rows to judge, such as `split=test,is_flag=false`; zero-shot's generalised pool keeps the names of all rows.
        label_field: field that names the class or classes of a row; default `label`, else the first caption.
        classes: file with the competing names, one a line, synonyms after `|`; or a list of such lines.
        prompts: a prompt set, or a file with one prompt a line; default `plain`.
        language: captions of this language.
        floors: also measure what copying from the training pictures reaches.
        baselines_model: frozen encoder for the feature floor, a MODEL as `model`; default oriented gradients and colours. Asks for floors too.
        baselines_data: the training pictures, where the model does not know them or they have moved.
        group: field whose equal values the bootstrap draws together; default `family` or `component` where the data has them; `id` draws rows.
        features: what probe, knn and fewshot read: `embedding` (the joint space, default) or `pooled` (the tower before its projection, as CLIP).
        robustness: also judge altered copies of the pictures: other hues, mirrored, blurred, occluded, noisy, compressed, grey.
        suite: which suite, a single test of one, or a YAML file that defines one; default all eleven tests.
        json: file to write the result to.

    Returns:
        The result described in `docs/formats.md`; every figure in percent but the median ranks.

    Raises:
        DataError, ModelError: one sentence with the next command.
    """
    if task not in TASKS:
        raise DataError(f"'{task}' is not a task; {known_names(task, TASKS)}")
    if features is not None and features not in get_args(Layer):
        raise DataError(f"--features {features} is not understood; {known_names(features, get_args(Layer))}")
    texts = {
        "where": where,
        "label_field": label_field,
        "classes": classes,
        "prompts": prompts,
        "language": language,
        "group": group,
    }
    given: dict[str, Any] = {
        name: value
        for name, value in (texts | {"features": features, "suite": suite}).items()
        if value is not None
    }
    given |= {
        name: True
        for name, requested in (
            ("baselines", baselines or (baselines_model is not None and task != "suite")),
            ("robustness", robustness),
        )
        if requested
    }
    for name in sorted(given.keys() - TASKS[task].options):
        warnings.warn(f"--{name.replace('_', '-')} has no effect on --task {task}.", stacklevel=2)
    known = {
        _ARGUMENTS.get(name, name): value for name, value in given.items() if name in TASKS[task].options
    }
    loaded, reference = _loaded(model), None if baselines_model is None else _loaded(baselines_model)
    if TASKS[task].needs_texts and loaded.reads == "images":
        others = ", ".join(name for name, one in TASKS.items() if not one.needs_texts)
        named = model if isinstance(model, (str, Path)) else "the model"
        raise DataError(
            f"{named} reads pictures and no texts, which --task {task} needs; choose another task ({others}), or a model with two towers."
        )
    if task == "suite":
        result = evaluate_suite(loaded, folder=_packs(data), reference=reference, progress=_say, **known)
    else:
        if known.pop("baselines", False):
            known |= {"training": _training_data(loaded, baselines_data), "reference": reference}
        result = _on_data(task, loaded, data, known)
    result["model_path"] = str(model) if isinstance(model, (str, Path)) else None
    if json is not None:
        write_json(Path(json), result)
    if task in _RECORDED and result["model_path"] is not None:
        _record(RunDirectory(result["model_path"]), result)
    return result


_RECORDED = (
    "suite",
    "grouping",
)  # tasks whose result belongs to the run's report: they say what its features are
_ARGUMENTS = {"features": "layer", "robustness": "with_robustness"}  # options whose name says less inside


def _on_data(
    task: str, model: Model, data: str | Path | Manifest | None, known: dict[str, Any]
) -> dict[str, Any]:
    """A test on the rows of one data set."""
    if data is None:
        raise DataError(
            f"--task {task} needs a data set; add --data PATH, or --data sample for the pictures that come with the package."
        )
    everything, unread = (data, Ledger(READING)) if isinstance(data, Manifest) else _read(data)
    result = TASKS[task].run(model, everything.where(known.get("where")), everything=everything, **known)
    if unread.entries:  # beside what a condition or a broken picture leaves out
        result["left_out"] = dict(
            sum((Counter(part) for part in (result.get("left_out", {}), unread.counts())), Counter())
        )
    return result


def _packs(data: str | Path | Manifest | None) -> Path | None:
    """The folder of packs, as given or as the environment says; `sample` asks for what needs none."""
    if isinstance(data, Manifest):
        raise DataError("a suite reads its own packs; give their folder as data, or leave it out.")
    named = data or os.environ.get(ENVIRONMENT)
    return None if not named or str(named) == "sample" else Path(named).expanduser()


def _say(text: str) -> None:
    """A passing word on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal:
        console.print(f"[dim]{text}[/]", highlight=False)


def _record(run: RunDirectory, result: dict[str, Any]) -> None:
    """Put a result into the run's metrics and report, in the place of an older one of the same task, data and features."""
    if not run.is_run():
        return
    summary = read_json(run.summary) if run.summary.is_file() else {"evaluations": [], "training": {}}
    others = [e for e in summary.get("evaluations", []) if _kind(e) != _kind(result)]
    try:
        write_json(run.summary, summary | {"evaluations": [*others, result]})
        refresh_evaluations(run)
    except OSError as error:
        warnings.warn(
            f"{run.path} cannot be written ({error.strerror}), so the result is not in its report; --json FILE keeps it.",
            stacklevel=3,
        )


def _kind(result: dict[str, Any]) -> tuple[Any, ...]:
    suite = result.get("suite") or {}
    if result.get("task") == "suite":
        return "suite", suite.get("name"), suite.get("features")
    clusters = result.get("clusters") or {}
    return (
        result.get("task"),
        result.get("data"),
        result.get("where"),
        clusters.get("label_field"),
        clusters.get("features"),
    )


def _read(path: str | Path) -> tuple[Manifest, Ledger]:
    """A data set, and what was left out while reading it."""
    source = read_source(path)
    return source.manifest, source.ledger


def _loaded(model: str | Path | Model) -> Model:
    return (
        remember_cached(load(model, device=pick_device("auto"))) if isinstance(model, (str, Path)) else model
    )


def _training_data(model: Model, given: str | Path | Manifest | None) -> Manifest:
    """The pictures that the floors copy from."""
    if isinstance(given, Manifest):
        return given
    recorded = model.training_data or {}
    path = given or recorded.get("path")
    if path is None:
        raise DataError(
            "--baselines needs the training pictures and this model does not say where they are; call evaluate(..., baselines_data=PATH)."
        )
    try:
        everything = (
            open_data(path, columns=recorded.get("columns") or None) if given is None else open_data(path)
        )
        return everything.where(recorded.get("where") if given is None else None)
    except DataError as error:
        place = f" from {os.getcwd()}" if given is None and path != "sample" else ""
        raise DataError(
            f"--baselines needs the training pictures, and {path} cannot be read{place}: {error}"
        ) from error


_NAMES = {
    "top1": "top 1",
    "top5": "top 5",
    "mean_per_class": "class mean",
    "r1": "recall@1",
    "r5": "recall@5",
    "r10": "recall@10",
}
_NAMES |= {
    "words_hit": "pictures with a hit",
    "words_precision": "words that hit",
    "most_used_word": "hold commonest word",
    "non_zeros": "non-zeros (count)",
}
_SIDES = {"i2t": "image→text", "t2i": "text→image", "generalised": "all names"}


def show(result: dict[str, Any]) -> None:
    """Print a result: each figure beside its interval, chance and floors, then what it depends on."""
    console = Console()
    console.print(_suite_table(result) if result["task"] == "suite" else _metric_table(result))
    if result.get("robustness"):
        console.print(_robustness_table(result))
    for line in _remarks(result):
        console.print(line, highlight=False, soft_wrap=True)


def _table(title: str, headings: Sequence[str]) -> Table:
    """A table that fits 80 columns: the first column is words, the others are figures."""
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    return table


def _interval(low_high: Sequence[float] | None) -> str:
    return f"{low_high[0]:.1f} – {low_high[1]:.1f}" if low_high else ""


def _metric_table(result: dict[str, Any]) -> Table:
    baselines = _grouped(result["baselines"])
    heads = [f"{kind}\n{'/'.join(names)}" for kind, names in baselines.items()]
    table = _table(
        f"{result['task']}: {result['samples']:,} samples, percent",
        ["", "value", "95 % between", "chance", *heads],
    )
    for name, value in result["metrics"].items():
        chance = result["chance"].get(name)
        others = [
            "/".join(_metric(result["baselines"][baseline].get(name)) for baseline in names.values())
            for names in baselines.values()
        ]
        interval = _interval(result["interval"].get(name))
        table.add_row(
            metric_name(name),
            f"[bold]{value:.1f}[/]",
            interval,
            "" if chance is None else f"{chance:.2f}",
            *others,
        )
    return table


def _suite_table(result: dict[str, Any]) -> Table:
    """A row a test: the probe with its interval, nearest neighbours, chance and floors."""
    suite, baselines = result["suite"], _grouped(result["baselines"])
    title = f"suite {suite['name']}: linear probes on the {suite['features']}, mean over classes in percent"
    table = _table(
        title,
        [
            "",
            "judged",
            "probe",
            "95 % between",
            "k-NN",
            "chance",
            *(kind.replace(" ", "\n") for kind in baselines),
        ],
    )
    for name, value in result["metrics"].items():
        if name == MEAN:
            table.add_section()
        judged = result["tests"].get(name, result)["samples"]
        others = [
            "/".join(_metric(result["baselines"][baseline].get(name)) for baseline in names.values())
            for names in baselines.values()
        ]
        words = f"mean of {suite['mean_of']}" if name == MEAN else name
        interval = _interval(result["interval"].get(name))
        table.add_row(
            words,
            f"{judged:,}",
            f"[bold]{value:.1f}[/]",
            interval,
            f"{result['knn'][name]:.1f}",
            f"{result['chance'][name]:.1f}",
            *others,
        )
    return table


def _robustness_table(result: dict[str, Any]) -> Table:
    """A row an alteration: the primary metric and what it lost."""
    primary = next(iter(result["metrics"]))
    table = _table(
        f"the same pictures altered: {metric_name(primary)}", ["", "value", "difference", "95 % between"]
    )
    table.add_row("as they are", f"[bold]{result['metrics'][primary]:.1f}[/]", "", "")
    for name, found in result["robustness"].items():
        interval = _interval(found["interval"].get(primary))
        table.add_row(
            name,
            f"[bold]{found['metrics'][primary]:.1f}[/]",
            f"{found['difference'][primary]:+.1f}",
            interval,
        )
    return table


def metric_name(name: str) -> str:
    """A metric's name in words: `generalised_top1` is `top 1, all names`."""
    if fewer := FEWER.fullmatch(name):
        return f"{metric_name(fewer[1])}, {fewer[2]} words"
    side, _, rest = name.partition("_")
    if side.removesuffix("shot").isdigit():
        return f"{metric_name(rest)}, {side.removesuffix('shot')} shot{'' if side == '1shot' else 's'}"
    words = _NAMES.get(rest if side in _SIDES else name, (rest if side in _SIDES else name).replace("_", " "))
    return f"{words}, {_SIDES[side]}" if side in _SIDES else words


def _words(result: dict[str, Any]) -> list[str]:
    """The commonest top words, and what a hit is, in sentences."""
    found = result.get("words")
    if not found:
        return []
    commonest = ", ".join(f"{one['word']} {one['images']:.1f} %" for one in found["used"][:10])
    return [
        f"Commonest among the ten top words: {commonest or 'none'}.",
        f"A hit is a word of the {found['of']}, compared {found['compared']}.",
    ]


def _learning(result: dict[str, Any]) -> list[str]:
    """What a classifier learned from, in sentences."""
    parts, lines = result.get("split"), []
    if parts:
        counts = f"{parts['train']:,} rows to learn from, {parts['validation']:,} to tune on, {parts['test']:,} to judge"
        lines.append(f"Parts: {counts}; by {parts['rule']}.")
    for one in result.get("fewshot", {}).get("curve", ()):
        if one["classes_with_fewer"]:
            fewest = ", ".join(f"{name} {count}" for name, count in list(one["fewest"].items())[:3])
            lines.append(
                f"{one['shots']} shots: {one['classes_with_fewer']} of {one['classes']} classes have fewer and gave all ({fewest}, …)."
            )
    return lines


def _grouped(baselines: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Floors that differ in their number of voters share a column: `pixel_nn_1` and `pixel_nn_10` are `pixel NN`, `1` and `10`."""
    grouped: dict[str, dict[str, str]] = {}
    for baseline in baselines:
        kind, _, voters = baseline.rpartition("_nn_")
        grouped.setdefault(f"{kind} NN" if kind else baseline.replace("_", " "), {})[voters] = baseline
    return grouped


def _metric(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _remarks(result: dict[str, Any]) -> list[str]:
    lost = ", ".join(f"{count:,} {why}" for why, count in result.get("left_out", {}).items() if count)
    lines = [
        f"Data {result['data']}"
        + (f" where {result['where']}" if result["where"] else "")
        + f", split {result['split_hash']}, model {result['model']}."
    ]
    for name, why in result.get("missing", {}).items():
        lines.append(f"[yellow]{name} did not run: {why}.[/]")
    seen = {name: test["trained_on"] for name, test in result.get("tests", {}).items() if test["trained_on"]}
    if seen:
        listed = ", ".join(f"{name} {count:,}" for name, count in seen.items())
        lines.append(f"[yellow]Judged pictures that the model was trained on: {listed}.[/]")
    if "classes" in result:
        names = result["classes"]
        pools = f"{names['restricted']:,} compete among the rows, {names['generalised']:,} in all"
        lines.append(f"Names: {pools}; from {result['names']}; prompts {result['prompts']['set']}.")
    hint = "" if result["task"] == "suite" else "; --group id draws rows singly"
    found = f" (found in the data{hint})" if result.get("interval_groups") == "found in the data" else ""
    intervals = (
        [f"Intervals: {result.get('interval_by', 'bootstrap')} over {result['interval_over']}{found}."]
        if result["interval"]
        else []
    )
    lines += [" ".join([*intervals, f"Left out: {lost}."])] if lost else intervals
    if geometry := result.get("geometry"):
        apart = f"{geometry['modality_gap']:.2f} between the mean picture and the mean caption"
        lines.append(
            f"Geometry: {apart}; mean cosine {geometry['image_similarity']:.2f} of pictures, {geometry['text_similarity']:.2f} of captions."
        )
    lines += _words(result) + _learning(result)
    about = result.get("baselines_about")
    if about and about.get("near_duplicates"):
        lines.append(
            f"[yellow]{about['near_duplicates']:,} judged pictures are nearly in the training data ({about['training']}).[/]"
        )
    examples = result.get("examples", {})
    for side in ("best", "worst"):
        several = [
            e for e in examples.get(side, ()) if e["samples"] > 1
        ]  # one sample says nothing about a class
        if several:
            lines.append(
                f"{side.capitalize()} classes: "
                + ", ".join(f"{e['name']} ({e['top1']:.0f} % of {e['samples']})" for e in several[:5])
                + "."
            )
    return lines
