"""`frugalclip adapt nmtune`: heads on frozen features that may be noisy, in domain and out of domain."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from frugalclip.adaptation.compare_heads import HeadData, compare_heads, examples_of
from frugalclip.adaptation.tune import TuneSettings
from frugalclip.core.devices import pick_device
from frugalclip.core.errors import DataError, UsageError
from frugalclip.core.guard import reading
from frugalclip.core.paths import user_path
from frugalclip.core.progress import progress_lines
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal, show_remark
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classifiers import Examples
from frugalclip.evaluation.encoding import encode_texts, image_features
from frugalclip.evaluation.labelled import LabelledRows, labelled_rows, rows_of_classes
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data
from frugalclip.verbs.data_terminal import show_lines

Side = Literal["image", "text"]
IN_DOMAIN = "in domain"
_ADVICE = "save the arrays features (rows, width), labels (rows,) and split (rows,) with np.savez"


def adapt_nmtune(
    model: str | Path | Model | None = None,
    *,
    data: str | Path | Manifest | None = None,
    label_field: str | None = None,
    side: Side = "image",
    out_of_domain: Sequence[str | Path] = (),
    features: str | Path | None = None,
    seeds: int = 3,
    epochs: int = 30,
    json: str | Path | None = None,
) -> dict[str, Any]:
    """Train a linear probe, a residual network and NMTune on the features of a frozen encoder.

    Args:
        model: MODEL, of which only features are used.
        data: labelled data; without a field `split` it is divided 60 / 20 / 20.
        label_field: field that names the class of a row.
        side: features of images, or of each row's first caption.
        out_of_domain: data sets of the same classes that nothing is trained on.
        features: .npz file with the features of any encoder, in place of model and data.
        seeds: how many runs of each arm.
        epochs: of each run.
        json: file to write the result to.

    Returns:
        What docs/formats.md describes: accuracies of every seed, paired differences, spectra.

    Raises:
        DataError: when the data cannot be used.
    """
    with progress_lines(show_remark):
        if features is not None:
            found, about = read_features(features), {"features": str(features)}
        elif model is None or data is None:
            raise UsageError("name a MODEL and --data PATH, or --features FILE with the features themselves.")
        else:
            loaded = model if isinstance(model, Model) else load(model, device=pick_device("auto"))
            found = _encoded(loaded, data, label_field, side, out_of_domain)
            about = {"model": loaded.fingerprint, "side": side, "data": str(data)}
        result = compare_heads(found, seeds=seeds, settings=TuneSettings(epochs=epochs))
    result |= {"classes": len(found.names), "train": len(found.train), "epochs": epochs, **about}
    result["tests"] = {name: len(examples) for name, examples in found.tests.items()}
    if json is not None:
        write_json(user_path(json), result)
    return result


def read_features(path: str | Path) -> HeadData:
    """Features of any encoder from a file: `features`, `labels`, `split` (`train`, or a test set's name).

    Raises:
        DataError: when the file has no training row, or no test row of their classes.
    """
    path = user_path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path} with features; {_ADVICE}.")
    with reading(path, advice=_ADVICE):
        file = np.load(path, allow_pickle=False)
        features, labels, split = file["features"], file["labels"].astype(str), file["split"].astype(str)
        if features.ndim != 2 or not len(features) == len(labels) == len(split):
            raise ValueError(f"features have the shape {features.shape}, labels {labels.shape}")
        if not np.isfinite(features).all():
            raise ValueError("a feature is not finite")
    names = sorted(set(labels[split == "train"].tolist()))
    place = {name: number for number, name in enumerate(names)}
    numbers = np.array([place.get(label, -1) for label in labels.tolist()], dtype=np.int64)

    def rows_of(name: str) -> Examples:
        mask = (split == name) & (numbers >= 0)
        return examples_of(features[mask], numbers[mask])

    tests = {name: rows_of(name) for name in dict.fromkeys(split.tolist()) if name != "train"}
    tests = {name: examples for name, examples in tests.items() if len(examples)}
    return _checked(HeadData(rows_of("train"), tests, names), path)


def _checked(data: HeadData, name: object) -> HeadData:
    if len(data.names) < 2 or not data.tests:
        raise DataError(f"{name} needs training rows of two classes and test rows of the same; {_ADVICE}.")
    return data


def _encoded(
    model: Model,
    data: str | Path | Manifest,
    label_field: str | None,
    side: Side,
    out_of_domain: Sequence[str | Path],
) -> HeadData:
    everything = data if isinstance(data, Manifest) else open_data(data)
    labelled = labelled_rows(everything, everything, label_field=label_field)
    features, kept = _features(model, everything, labelled.rows, side)
    labelled = labelled.only(kept) if len(kept) < len(labelled.rows) else labelled
    fold = labelled.folds[0]
    both = np.concatenate([fold.train, fold.validation])  # nothing is tuned, so both train
    tests = {IN_DOMAIN: _taken(features, labelled, fold.test)}
    for path in out_of_domain:
        tests[str(path)] = _other_domain(model, path, labelled.names, label_field, side)
    return _checked(HeadData(_taken(features, labelled, both), tests, labelled.names), everything.name)


def _taken(features: torch.Tensor, labelled: LabelledRows, rows: np.ndarray) -> Examples:
    places = torch.from_numpy(rows)
    return Examples(features[places], labelled.labels[places])


def _other_domain(
    model: Model, path: str | Path, names: Sequence[str], label_field: str | None, side: Side
) -> Examples:
    """Rows of another data set whose class is known."""
    manifest = open_data(path)
    rows, numbers = rows_of_classes(manifest, names, label_field=label_field)
    features, kept = _features(model, manifest, rows, side)
    return Examples(features, numbers[torch.from_numpy(kept)])


def _features(
    model: Model, manifest: Manifest, rows: np.ndarray, side: Side
) -> tuple[torch.Tensor, np.ndarray]:
    """(kept, width) features of some rows, and (kept,) their places among them."""
    if side == "image":
        features, kept, _ = image_features(model, manifest, rows)
        return features, kept
    captions = manifest.take(rows).captions()
    kept = np.flatnonzero([bool(texts) for texts in captions])
    if not len(kept):
        raise DataError(f"no row of {manifest.name} has a caption; use --side image.")
    return encode_texts(model, [captions[row][0] for row in kept.tolist()]), kept


def show(result: dict[str, Any], console: Console | None = None) -> None:
    """Print the mean accuracy of every arm on every test set, NMTune's differences, and the spectra."""
    console = console or Terminal(markup=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("top1, mean over seeds")
    for name in result["tests"]:
        table.add_column(escape(name), justify="right")
    for arm, tests in result["arms"].items():
        table.add_row(arm, *(f"{np.mean(values):.1f}" for values in tests.values()))
    console.print(table)
    lines = [_difference(one) for one in result["differences"] if one["interval"] is not None]
    for name, tests in result["spectra"].items():
        own = next(iter(tests.values()))["none"]
        spectrum = f"SVE {own['sve']:.2f}, LSVR {own['lsvr']:.2f}"
        lines.append(f"Spectrum, {name}: {spectrum} (rows of length one, not centred).")
    show_lines(lines, console)


def _difference(one: dict[str, Any]) -> str:
    low, high = one["interval"]
    against = f"{one['arm']} less {one['against']}, {escape(one['test'])}"
    return f"{against}: {one['mean']:+.1f} points ({low:+.1f} to {high:+.1f} over {one['seeds']} seeds)"
