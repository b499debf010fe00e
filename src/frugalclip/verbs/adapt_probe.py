"""`frugalclip adapt probe`: heads on frozen features, from a few examples of each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from frugalclip.adaptation.compare_shots import IN_DOMAIN, ShotData, TestRows, compare_shots
from frugalclip.adaptation.few_shot_heads import ZeroShotWeights
from frugalclip.core.devices import pick_device
from frugalclip.core.errors import DataError, UsageError
from frugalclip.core.paths import user_path
from frugalclip.core.progress import progress_lines
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal, show_remark
from frugalclip.data.manifest import Manifest
from frugalclip.data.words import normalise
from frugalclip.evaluation.classes import row_names
from frugalclip.evaluation.classifiers import Examples
from frugalclip.evaluation.encoding import ImageEncoder, encode_texts, image_features
from frugalclip.evaluation.fewshot import DRAWS, SHOTS
from frugalclip.evaluation.groups import find_groups
from frugalclip.evaluation.labelled import LabelledRows, labelled_rows, rows_of_classes
from frugalclip.evaluation.probes import read_features
from frugalclip.evaluation.prompts import fill, find_prompts
from frugalclip.features.store import Store
from frugalclip.features.stored_images import StoredImages
from frugalclip.functional import class_weights
from frugalclip.models import Model, load
from frugalclip.report.formats import difference, percent, span
from frugalclip.sources.open import open_data

STORE = "store.json"  # a folder with it is a store


def adapt_probe(
    model: str | Path | Model | Store,
    *,
    data: str | Path | Manifest,
    where: str | None = None,
    label_field: str | None = None,
    prompts: str | Path = "plain",
    shots: Sequence[int] = SHOTS,
    seeds: int = DRAWS,
    out_of_domain: Sequence[str | Path | Manifest] = (),
    json: str | Path | None = None,
) -> dict[str, Any]:
    """Fit classifiers to a few examples of each class, on frozen features.

    Args:
        model: MODEL, or a store of its vectors; heads that start from texts need a model.
        data: labelled data; without a field `split` it is divided 60 / 20 / 20.
        where: rows to test on, such as `split=test`; see `evaluate`.
        label_field: field that names the class of a row; default `label`, else the first caption.
        prompts: of the zero-shot weights; see `evaluate`.
        shots: examples of each class.
        seeds: how often they are drawn.
        out_of_domain: data sets of the same classes that nothing is fitted to.
        json: file to write the result to.

    Returns:
        What docs/formats.md describes: accuracies with intervals, and paired differences of the heads.

    Raises:
        DataError: when the data cannot be used.
        UsageError: for a number of shots below 1.
    """
    numbers = sorted(set(shots))
    if not numbers or numbers[0] < 1 or seeds < 1:
        raise UsageError("shots and seeds are whole numbers from 1 on, such as --shots 1,2,4 --seeds 5.")
    encoder = _opened(model)
    everything = data if isinstance(data, Manifest) else open_data(data)
    with progress_lines(show_remark):
        labelled = labelled_rows(everything.where(where), everything, label_field=label_field)
        if len(labelled.names) < 2:
            raise DataError(f"{everything.name} has one class, '{labelled.names[0]}'; a probe needs two.")
        found = read_features(encoder, everything, labelled, layer="embedding")
        names = _spelled(everything, labelled, label_field)
        weights = _zero_shot(encoder, names, prompts) if isinstance(encoder, Model) else None
        others = {
            str(one.name if isinstance(one, Manifest) else one): _test_rows(
                encoder, one, labelled, label_field
            )
            for one in out_of_domain
        }
        compared = ShotData(found.features, found.labelled, everything, weights, others)
        result = compare_shots(compared, shots=numbers, draws=seeds)
    result |= {"data": everything.name, "where": where, "left_out": found.left_out, **_about(encoder)}
    result["prompts"] = None if weights is None else str(prompts)
    if json is not None:
        write_json(user_path(json), result)
    return result


def _opened(model: str | Path | Model | Store) -> Model | StoredImages:
    if isinstance(model, Model):
        return model
    if isinstance(model, Store):
        return StoredImages(model)
    if (user_path(model) / STORE).is_file():
        return StoredImages(Store.open(model))
    return load(model, device=pick_device("auto"))


def _about(encoder: Model | StoredImages) -> dict[str, Any]:
    """What the features are of."""
    if isinstance(encoder, Model):
        return {"model": encoder.fingerprint, "store": None}
    return {"model": encoder.store.head.encoder.model, "store": str(encoder.store.path)}


def _spelled(everything: Manifest, labelled: LabelledRows, label_field: str | None) -> list[str]:
    """(classes,) the names as the data writes them, for prompts."""
    rows, _ = row_names(everything, label_field=label_field)
    first = {normalise(row[0]): row[0] for row in reversed(rows) if row}
    return [first[name] for name in labelled.names]


def _zero_shot(model: Model, names: Sequence[str], prompts: str | Path) -> ZeroShotWeights | None:
    """The classifier that the text tower gives; None for an image encoder alone."""
    if model.scale is None:
        return None
    templates = find_prompts(prompts)
    filled = [fill(templates, name) for name in names]
    features = encode_texts(model, [text for texts in filled for text in texts])
    owners = torch.tensor([place for place, texts in enumerate(filled) for _ in texts])
    return ZeroShotWeights(class_weights(features, owners, count=len(names)), model.scale)


def _test_rows(
    encoder: ImageEncoder, data: str | Path | Manifest, labelled: LabelledRows, label_field: str | None
) -> TestRows:
    """Rows of another data set whose class is known."""
    manifest = data if isinstance(data, Manifest) else open_data(data)
    rows, labels = rows_of_classes(manifest, labelled.names, label_field=label_field)
    features, kept, _ = image_features(encoder, manifest, rows)
    groups = find_groups(manifest.take(rows[kept]))
    return TestRows(Examples(features, labels[torch.from_numpy(kept)]), groups)


def show(result: dict[str, Any]) -> None:
    """Print a table for each test set, and the paired differences to the linear probe."""
    console = Terminal()
    for test, samples in result["tests"].items():
        title = f"{test}: top1 of {samples:,} rows, {result['classes']:,} classes, percent"
        table = Table("examples of each class", *result["heads"], title=title)
        for number in result["shots"]:
            cells = {
                row["head"]: f"{percent(row['top1'], unit=False)} ({span(row['interval'])})"
                for row in result["rows"]
                if (row["test"], row["shots"]) == (test, number)
            }
            table.add_row(str(number), *cells.values())
        console.print(table)
    for one in result["differences"]:
        if one["against"] == "linear" and one["test"] == IN_DOMAIN:
            console.print(_sentence(one), highlight=False, soft_wrap=True)
    console.print(_remark(result), highlight=False, soft_wrap=True)


def _sentence(one: dict[str, Any]) -> str:
    low, high = (difference(value) for value in one["interval"])
    return (
        f"{one['head']} less linear, {one['shots']} examples of each class: "
        f"{difference(one['points'])} points ({low} to {high})."
    )


def _remark(result: dict[str, Any]) -> str:
    """What the table depends on."""
    most = str(result["shots"][-1])
    texts = "" if result["prompts"] else " No text encoder is there, so no head starts from texts."
    return (
        f"Intervals are over {result['interval_over'][IN_DOMAIN]} ({result['draws']} draws); chance is "
        f"{percent(result['chance'])}; {result['classes_with_fewer'][most]} classes have fewer than "
        f"{most} examples.{texts}"
    )
