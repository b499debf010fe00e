"""`frugalclip audit predict`: which classes will fail, before a model is trained, and why."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from frugalclip.auditing.class_features import ClassFeatures, measure
from frugalclip.auditing.class_rows import class_rows
from frugalclip.auditing.failing import Forecast, forecast, pairs_needed, reasons
from frugalclip.auditing.failure_check import Measured, Scores, check
from frugalclip.auditing.failure_model import FailureModel, naming_pairs, shipped_model
from frugalclip.core.errors import DataError, UsageError
from frugalclip.core.guard import parse_json, reading
from frugalclip.core.paths import user_path
from frugalclip.core.progress import progress_lines
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal, show_remark
from frugalclip.data.manifest import Manifest
from frugalclip.data.words import normalise
from frugalclip.evaluation.classes import read_classes
from frugalclip.report.failing import in_words, write_failing_report
from frugalclip.sources.open import open_data
from frugalclip.verbs.data_terminal import show_lines
from frugalclip.verbs.evaluate import evaluate

_FEWEST = 3  # classes
_SHOWN = 20


def audit_predict(
    path: str | Path | Manifest,
    *,
    classes: str | Path | Sequence[str],
    label_field: str | None = None,
    style_field: str | None = None,
    where: str | None = None,
    images: int = 20,
    target: float | None = None,
    check: str | Path | None = None,
    test: str | Path | Manifest | None = None,
    report: str | Path | None = None,
    json: str | Path | None = None,
) -> dict[str, Any]:
    """Predict the accuracy of classes before training, or compare a prediction with a run.

    Args:
        path: the training data.
        classes: class file, or a list of its lines.
        label_field: field with the class or classes of a row; default `label` where there is one, else a row
            shows the classes that its captions or keywords name.
        style_field: field with the drawing style or source; default `style`, `domain` or `source`.
        where: a condition over fields.
        images: test images of a class; intervals are for accuracies measured on so many.
        target: percent below which a class fails; default what the lowest third does not reach.
        check: a run that was trained on the data, to be evaluated on `test`, or the JSON of `evaluate`.
        test: labelled test data, for a run.
        report: page to write.
        json: file to write the result to.

    Returns:
        `classes`, the likeliest to fail first, and what docs/formats.md lists beside it; after training
        `check`.

    Raises:
        DataError: when classes cannot be found in the data.
        UsageError: when options do not fit together.
    """
    if target is not None and not 0 < target < 100:
        raise UsageError(f"--target is {target:g}, expected a percentage between 0 and 100.")
    if images < 1:
        raise UsageError(f"--images is {images}, expected at least 1.")
    if test is not None and check is None:
        raise UsageError("--test is what a run is evaluated on; name the run with --check RUN.")
    manifest = (path if isinstance(path, Manifest) else open_data(path)).where(where)
    names = _names(classes)
    model = shipped_model()
    with progress_lines(show_remark):
        rows = class_rows(manifest, names, label_field=label_field, style_field=style_field)
        features = measure(manifest, rows)
    found = forecast(features, model, images=images, target=None if target is None else target / 100)
    result: dict[str, Any] = {
        "classes": _described(names, features, found, model),
        "limit": 100 * found.limit,
        "images": images,
        "data": manifest.name,
        "samples": len(manifest),
        "rows_found_by": rows.source,
    }
    if check is not None:
        measured = _measured(check, test, names, label_field)
        result["check"] = _checked(names, features, found, measured, model)
    if report is not None:
        write_failing_report(user_path(report), result)
    if json is not None:
        write_json(user_path(json), result)
    return result


def _names(classes: str | Path | Sequence[str]) -> list[list[str]]:
    if isinstance(classes, (str, Path)):
        names = read_classes(Path(classes))
    else:
        names = [[part.strip() for part in line.split("|") if part.strip()] for line in classes]
        names = list({normalise(own[0]): own for own in names if own}.values())
    if len(names) < _FEWEST:
        raise DataError(f"{len(names)} classes are named, expected {_FEWEST} or more that compete.")
    return names


def _described(
    names: Sequence[Sequence[str]], features: ClassFeatures, found: Forecast, model: FailureModel
) -> list[dict[str, Any]]:
    why = reasons(features, [own[0] for own in names])
    goal = max(found.limit, float(np.median(found.accuracy)))
    naming = naming_pairs(features)
    entries = []
    for place in np.argsort(found.accuracy, kind="stable").tolist():
        count, accuracy = int(features.count[place]), float(found.accuracy[place])
        more = pairs_needed(accuracy, float(naming[place]), target=goal, growth=model.growth)
        entries.append(
            {
                "name": names[place][0],
                "accuracy": 100 * accuracy,
                "interval": [100 * float(found.low[place]), 100 * float(found.high[place])],
                "risk": float(found.risk[place]),
                "count": count,
                "mentioned": int(features.mentioned[place]),
                "reasons": why[place],
                "pairs_needed": more,
                "pairs_target": 100 * goal,
            }
        )
    return entries


def _measured(
    check: str | Path,
    test: str | Path | Manifest | None,
    names: Sequence[Sequence[str]],
    label_field: str | None,
) -> dict[str, tuple[float, int]]:
    """Class -> accuracy as a share, and test images."""
    path = user_path(check)
    if path.suffix.lower() == ".json" and path.is_file():
        with reading(path, advice="give what evaluate --task zeroshot --json wrote"):
            content: Mapping[str, Any] = parse_json(path.read_bytes())
            return _shares(content["per_class"])
    if test is None:
        raise UsageError("--check RUN needs --test PATH, labelled data that the run is evaluated on.")
    lines = [" | ".join(own) for own in names]
    return _shares(evaluate(check, data=test, classes=lines, label_field=label_field)["per_class"])


def _shares(found: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, int]]:
    shares = {normalise(one["name"]): (float(one["top1"]) / 100, int(one["samples"])) for one in found}
    for name, (share, samples) in shares.items():
        if not 0 <= share <= 1 or samples < 1:
            raise ValueError(f"{name} has a top 1 of {100 * share:g} on {samples} images")
    return shares


def _checked(
    names: Sequence[Sequence[str]],
    features: ClassFeatures,
    found: Forecast,
    measured: Mapping[str, tuple[float, int]],
    model: FailureModel,
) -> dict[str, Any]:
    places = [place for place, own in enumerate(names) if normalise(own[0]) in measured]
    if len(places) < _FEWEST:
        raise DataError(f"{len(places)} of {len(names)} classes were measured, expected {_FEWEST} or more.")
    values = [measured[normalise(names[place][0])] for place in places]
    scores = Scores(
        found.accuracy[places], np.log(features.count[places] + 1), 1 - features.name_similarity[places]
    )
    shares, images = (np.array(column) for column in zip(*values, strict=True))
    result = check(scores, Measured(shares, images), model)
    for row, place, share, number in zip(result["rows"], places, shares, images, strict=True):
        own = {"name": names[place][0], "accuracy": 100 * float(share), "images": int(number)}
        span = [100 * row.pop("low"), 100 * row.pop("high")]
        row |= own | {"expected": 100 * float(found.accuracy[place]), "interval": span}
    return result


def show(result: dict[str, Any], console: Console | None = None) -> None:
    """Print the classes that are likeliest to fail, with reasons and remedies."""
    console = console or Terminal(markup=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("class", "pairs", "accuracy", "80 % interval", "why", "more pairs"):
        table.add_column(title, justify="left" if title in ("class", "why") else "right", overflow="fold")
    for one in result["classes"][:_SHOWN]:
        low, high = one["interval"]
        more = one["pairs_needed"]
        table.add_row(
            escape(one["name"]),
            f"{one['count']:,}",
            f"{one['accuracy']:.0f}",
            f"{low:.0f} to {high:.0f}",
            escape("; ".join(in_words(reason) for reason in one["reasons"]) or "-"),
            "no remedy" if more is None else f"{more:,}" if more else "-",
        )
    console.print(table)
    rest = len(result["classes"]) - _SHOWN
    lines = [f"{rest:,} further classes are expected above these."] if rest > 0 else []
    if "check" in result:
        lines += _check_lines(result["check"])
    show_lines(lines, console)


def _check_lines(checked: Mapping[str, Any]) -> list[str]:
    aurocs = checked["auroc"]
    told = ", ".join(
        f"{title} {'-' if aurocs[key] is None else format(aurocs[key], '.2f')}"
        for key, title in (("forecast", "forecast"), ("log_count", "count"), ("text_only", "names"))
    )
    return [
        f"Lowest third of {checked['classes']} measured classes, AUROC: {told}.",
        f"{checked['coverage']:.0%} of the accuracies lie in their 80 % interval "
        f"(mean width {100 * checked['width']:.0f} points).",
    ]
