"""Results of evaluations as rows: the tables, remarks and notes that the page and the terminal show.

Reads results as `frugalclip evaluate --json` writes them; percentages stay percentages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from frugalclip.evaluation.metrics import in_percent, metric_name, words
from frugalclip.report.formats import NBSP, is_finite, is_interval, number, percent, plain, shorten
from frugalclip.report.rows import ChangedValue, Column, Interval, Label, Measure, ReportTable, Strip

TASKS = {
    "zeroshot": "Zero-shot naming",
    "retrieval": "Retrieval",
    "probe": "Linear probe",
    "fewshot": "Few-shot probe",
    "knn": "Nearest neighbours",
    "grouping": "Grouping by class",
    "suite": "Suite of probes",
    "words": "Words of images",
}
_ALTERED_METRICS = 3  # in the table of altered images


@dataclass(frozen=True)
class Remark:
    """A sentence about a result."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Note:
    """Something that the metrics depend on."""

    name: str
    text: str
    is_brief: bool = True  # also shown in a terminal


def evaluation_tables(result: Mapping[str, Any]) -> list[ReportTable]:
    """The tables of one evaluation, the metrics first."""
    if result.get("task") == "suite" and isinstance(result.get("tests"), Mapping):
        return [suite_table(result)]
    altered = altered_table(result)
    return [metric_table(result), *([altered] if altered else [])]


def metric_table(result: Mapping[str, Any]) -> ReportTable:
    """One row a metric: value with interval, the same on a scale, chance, and every baseline."""
    metrics = mapping(result.get("metrics"))
    baselines = list(dict.fromkeys(name for metric in metrics for name in baselines_of(result, metric)))
    columns = [
        Column("Metric", short=""),
        Column("This model", numeric=True, note=level(result), short="value %"),
        Column("0 to 100 %", kind="strip-column"),
        Column("Chance", numeric=True, short="chance"),
        *_baseline_columns(baselines),
    ]
    rows = []
    for metric, value in metrics.items():
        label = Label(metric_name(metric), short=metric_name(metric, short=True))
        rows.append(
            [label, *_metric_cells(result, metric, value, label.text), *_compared(result, metric, baselines)]
        )
    samples = f", {result['samples']:,} samples" if isinstance(result.get("samples"), int) else ""
    return ReportTable(
        f"{task_name(result.get('task'))}: {subject(result) or 'all metrics'}{samples}", columns, rows
    )


def _baseline_columns(names: Sequence[str]) -> list[Column]:
    return [
        Column(words(name).capitalize(), numeric=True, note="baseline", short=_short_baseline(name))
        for name in names
    ]


def _short_baseline(name: str) -> str:
    """`pixel_nn_10` as `px`, and `NN 10` in the line below; `feature_fit` as `feat`, and `fit`."""
    kind, _, rest = name.partition("_")
    kind = {"pixel": "px", "feature": "feat"}.get(kind, kind)
    return f"{kind}\n{rest.replace('nn_', 'NN ')}"


def _metric_cells(
    result: Mapping[str, Any], metric: str, value: Any, title: str
) -> tuple[Measure | None, Strip | None]:
    if not is_finite(value):
        return None, None
    interval, chance = interval_of(result, metric), chance_of(result, metric)
    measure = Measure(float(value), interval, in_percent(metric), is_main=True)
    if not in_percent(metric):
        return measure, None
    marks = (*baselines_of(result, metric).values(), *([chance] if chance is not None else []))
    return measure, Strip(
        float(value), interval, marks, f"{title}: {percent(value)} on a scale from 0 to 100 %"
    )


def _compared(result: Mapping[str, Any], metric: str, baselines: Sequence[str]) -> list[Measure | None]:
    """Chance and the baselines of one metric."""
    found = baselines_of(result, metric)
    values = [chance_of(result, metric), *(found.get(name) for name in baselines)]
    return [None if one is None else Measure(one, in_percent=in_percent(metric)) for one in values]


def suite_table(result: Mapping[str, Any]) -> ReportTable:
    """One row a test: the probe with its interval, nearest neighbours, chance and baselines.

    Args:
        result: of `frugalclip evaluate --task suite`.
    """
    baselines = [name for name, found in result.get("baselines", {}).items() if isinstance(found, Mapping)]
    suite, tests = result.get("suite") or {}, result["tests"]
    columns = [
        Column("Test", short=""),
        Column("Test images", numeric=True, short="images"),
        Column("Linear probe", numeric=True, note=level(result), short="probe"),
        Column("0 to 100 %", kind="strip-column"),
        Column("Neighbours", numeric=True, short="k-NN"),
        Column("Chance", numeric=True, short="chance"),
        *_baseline_columns(baselines),
    ]
    rows = []
    for name, value in result["metrics"].items():
        test = tests.get(name)
        title = words(name).capitalize() if test else f"Mean of {len(tests)} tests"
        knn = (result.get("knn") or {}).get(name)
        rows.append(
            [
                Label(title, note=_test_note(test) if test else "", short=name if test else title.lower()),
                (test or result).get("samples"),
                *_metric_cells(result, name, value, title),
                None if knn is None else Measure(knn),
                *_compared(result, name, baselines),
            ]
        )
    features = suite.get("features", "features")
    caption = f"Suite {suite.get('name', '')}: linear probes on the {features}, mean over classes"
    return ReportTable(caption, columns, rows, has_total=True)


def _test_note(test: Mapping[str, Any]) -> str:
    """The question of a test, and how many classes it has."""
    trained = (
        f"; {number(test['trained_on'])} of the images were trained on" if test.get("trained_on") else ""
    )
    question = shorten(test.get("about", ""), 160).rstrip(".")
    return f"{question}. {number(test.get('classes'))} classes{trained}."


def altered_table(result: Mapping[str, Any]) -> ReportTable | None:
    """One row an alteration of the images, for the metrics that stand first; None where none was evaluated.

    Args:
        result: of `frugalclip evaluate --robustness`.
    """
    found = result.get("robustness")
    if not isinstance(found, Mapping) or not found:
        return None
    metrics = [name for name in result["metrics"] if "median" not in name][:_ALTERED_METRICS]
    columns = [Column("The same images", short="")]
    for name in metrics:
        short = metric_name(name, short=True)
        columns.append(Column(metric_name(name), numeric=True, note="difference", short=short))
    unaltered = [Measure(result["metrics"][name], in_percent=in_percent(name)) for name in metrics]
    rows: list[list[Any]] = [[Label("as they are"), *unaltered]]
    for kind, entry in found.items():
        cells = [_change(entry, name) for name in metrics]
        rows.append([Label(words(kind), note=entry.get("about", "")), *cells])
    return ReportTable("The same images, altered", columns, rows)


def _change(entry: Mapping[str, Any], name: str) -> ChangedValue:
    interval = _pair(entry.get("interval", {}).get(name))
    return ChangedValue(entry["metrics"][name], entry["difference"][name], interval, in_percent(name))


def _comparisons(result: Mapping[str, Any]) -> list[Remark]:
    """Which baselines a model is above, level with, or below, in one sentence."""
    found = mapping(result.get("compared"))
    if not found:
        return []
    metric = metric_name(next(iter(found.values()))["metric"])
    clauses = []
    for verdict, phrase in (("above", "above"), ("level", "level with"), ("below", "below")):
        names = [f"{words(n)} ({_points(one)})" for n, one in found.items() if one["verdict"] == verdict]
        if names:
            clauses.append(f"{phrase} {', '.join(names)}")
    text = f"{metric} is {'; '.join(clauses)}: paired differences in points, 95 % intervals."
    return [Remark(text, is_warning=any(one["verdict"] == "below" for one in found.values()))]


def _points(one: Mapping[str, Any]) -> str:
    low, high = one["interval"]
    difference = round(one["difference"], 1) + 0.0  # no minus zero
    return f"{difference:+.1f}, {low:+.1f} to {high:+.1f}".replace("-", "\N{MINUS SIGN}")


def _leakage(result: Mapping[str, Any]) -> list[Remark]:
    """How many of the evaluated images the model was trained on, where that was checked."""
    found = mapping(result.get("leakage"))
    if not found.get("images"):
        return []
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in mapping(found.get("kinds")).items())
    text = f"{found['images']:,} of {found['of']:,} evaluated images are in the training data ({kinds})."
    return [Remark(text, is_warning=True)]


def evaluation_remarks(result: Mapping[str, Any]) -> list[Remark]:
    """What a reader should know besides the metrics, in sentences."""
    remarks = [
        Remark(f"{name} did not run: {why}.", is_warning=True)
        for name, why in mapping(result.get("missing")).items()
    ]
    tests = mapping(result.get("tests"))
    trained = ", ".join(
        f"{name} {one['trained_on']:,}" for name, one in tests.items() if one.get("trained_on")
    )
    if trained:
        remarks.append(Remark(f"Test images that the model was trained on: {trained}.", is_warning=True))
    remarks += _comparisons(result)
    remarks += _leakage(result)
    about = mapping(result.get("baselines_about"))
    if count := about.get("near_duplicates"):
        images = "1 image is" if count == 1 else f"{count:,} images are"
        text = f"{images} nearly in the training data ({about['training']})."
        remarks.append(Remark(text, is_warning=True))
    remarks += map(Remark, [*_geometry(result), *_words(result), *_short_classes(result), *_extremes(result)])
    return remarks


def _geometry(result: Mapping[str, Any]) -> list[str]:
    found = result.get("geometry")
    if not found:
        return []
    gap = f"{found['modality_gap']:.2f} between the mean image and the mean caption"
    cosines = f"{found['image_similarity']:.2f} of images, {found['text_similarity']:.2f} of captions"
    return [f"Geometry: {gap}; mean cosine {cosines}."]


def _words(result: Mapping[str, Any]) -> list[str]:
    """The commonest top words, and what a hit is."""
    found = result.get("words")
    if not isinstance(found, Mapping):
        return []
    commonest = ", ".join(f"{one['word']} {one['images']:.1f} %" for one in found["used"][:10])
    return [
        f"Commonest among the ten top words: {commonest or 'none'}.",
        f"A hit is a word of the {found['of']}, compared {found['compared']}.",
    ]


def _short_classes(result: Mapping[str, Any]) -> list[str]:
    """Classes with fewer examples than shots."""
    lines = []
    for one in mapping(result.get("fewshot")).get("curve", ()):
        if one["classes_with_fewer"]:
            fewest = ", ".join(f"{name} {count}" for name, count in list(one["fewest"].items())[:3])
            some = f"{one['classes_with_fewer']} of {one['classes']} classes"
            lines.append(f"{one['shots']} shots: {some} have fewer and gave all ({fewest}, …).")
    return lines


def _extremes(result: Mapping[str, Any]) -> list[str]:
    """The best and the worst classes that have several samples; one sample tells nothing about a class."""
    lines = []
    for side in ("best", "worst"):
        entries = [e for e in mapping(result.get("examples")).get(side, ()) if e["samples"] > 1][:5]
        if entries:
            listed = ", ".join(f"{e['name']} ({e['top1']:.0f} % of {e['samples']})" for e in entries)
            lines.append(f"{side.capitalize()} classes: {listed}.")
    return lines


def evaluation_notes(result: Mapping[str, Any]) -> list[Note]:
    """Everything that the metrics of an evaluation depend on besides the model's weights."""
    prompts, baselines = mapping(result.get("prompts")), mapping(result.get("baselines_about"))
    lost = {reason: count for reason, count in mapping(result.get("left_out")).items() if count}
    templates = prompts.get("templates") or result.get("prompts")
    prefix = f"{prompts['set']}: " if prompts.get("set") else ""
    split, preprocess = mapping(result.get("split")), result.get("preprocess")
    notes = [
        Note("samples", number(result.get("samples")), is_brief=False),
        Note("left out", plain(lost) if lost else ""),
        Note("data", str(result.get("data") or "")),
        Note("condition", str(result.get("where") or "")),
        Note("split hash", str(result.get("split_hash") or "")),
        Note("pool", str(result.get("pool") or ""), is_brief=False),
        Note("classes", plain(result["classes"]) if result.get("classes") else ""),
        Note("names from", str(result.get("names") or "")),
        Note("prompts", shorten(prefix + plain(templates), 240) if templates else ""),
        Note("split", plain(split, most=8) if split else ""),
        Note("interval", _interval_note(result)),
        Note("ties", str(result.get("tie_rule") or ""), is_brief=False),
        Note(
            "images prepared by",
            shorten(plain(preprocess, most=8), 240) if preprocess else "",
            is_brief=False,
        ),
        Note("baselines from", plain(baselines, most=8) if baselines else "", is_brief=False),
        Note("model", str(result.get("model") or "")),
    ]
    return [note for note in notes if note.text]


def _interval_note(result: Mapping[str, Any]) -> str:
    """How intervals were computed."""
    draws = mapping(result.get("bootstrap")).get("draws")
    if not draws and not result.get("interval_by"):
        return ""
    drawn = f", {number(draws)} draws" if draws else ""
    hint = "" if result.get("task") == "suite" else "; --group id draws rows singly"
    found = f" (found in the data{hint})" if result.get("interval_groups") == "found in the data" else ""
    over = result.get("interval_over", "samples")
    return f"{result.get('interval_by', 'bootstrap')}{drawn} over {over}{found}"


def task_name(task: Any) -> str:
    """`zeroshot` as `Zero-shot naming`; an unknown task as it is written."""
    return TASKS.get(str(task), words(str(task)))


def baselines_of(result: Mapping[str, Any], metric: str) -> dict[str, float]:
    """The baselines of one metric: name -> value in the metric's unit."""
    return {
        str(name): float(content[metric])
        for name, content in mapping(result.get("baselines")).items()
        if is_finite(mapping(content).get(metric))
    }


def interval_of(result: Mapping[str, Any], metric: str) -> Interval | None:
    """The interval of one metric, or None where there is none."""
    return _pair(mapping(result.get("interval")).get(metric))


def _pair(value: Any) -> Interval | None:
    return (float(value[0]), float(value[1])) if is_interval(value) else None


def chance_of(result: Mapping[str, Any], metric: str) -> float | None:
    """The score of guessing in one metric, or None where it is not known."""
    value = mapping(result.get("chance")).get(metric)
    return float(value) if is_finite(value) else None


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def subject(result: Mapping[str, Any], *, limit: int = 120) -> str:
    """Data and condition of an evaluation."""
    where = result.get("where")
    parts = [result.get("data"), f"where {where}" if where and "=" in str(where) else where]
    return shorten(", ".join(plain(p) for p in parts if p), limit)


def level(result: Mapping[str, Any]) -> str:
    """`95 % interval`, or the level that the bootstrap had."""
    return f"{number(mapping(result.get('bootstrap')).get('level', 95))}{NBSP}% interval"
