"""`frugalclip adapt probe`: heads on frozen features, from a few examples of each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from rich.table import Table

from frugalclip.adaptation.compare_shots import IN_DOMAIN, compare_shots
from frugalclip.adaptation.shot_data import shot_data
from frugalclip.core.devices import pick_device
from frugalclip.core.errors import UsageError, known_names
from frugalclip.core.paths import user_path
from frugalclip.core.progress import progress_lines
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal, show_remark
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.encoding import Layer
from frugalclip.evaluation.fewshot import DRAWS, SHOTS
from frugalclip.features.store import Store
from frugalclip.features.stored_images import StoredImages
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
    features: Layer = "embedding",
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
        features: `embedding`, or `pooled` of the tower before its projection; then no head starts from texts.
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
    if features not in get_args(Layer):
        raise UsageError(f"--features {features} is not known; {known_names(features, get_args(Layer))}")
    encoder = _opened(model)
    everything = data if isinstance(data, Manifest) else open_data(data)
    with progress_lines(show_remark):
        compared = shot_data(
            encoder,
            everything,
            where=where,
            label_field=label_field,
            prompts=prompts,
            features=features,
            out_of_domain=out_of_domain,
        )
        result = compare_shots(compared, shots=numbers, draws=seeds)
    result |= {"data": everything.name, "where": where, "features": features, **_about(encoder)}
    result["left_out"] = compared.labelled.left_out
    result["prompts"] = None if compared.zero_shot is None else str(prompts)
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
    texts = "" if result["prompts"] else " Nothing encodes texts here, so no head starts from them."
    return (
        f"Intervals are over {result['interval_over'][IN_DOMAIN]} ({result['draws']} draws); chance is "
        f"{percent(result['chance'])}; {result['classes_with_fewer'][most]} classes have fewer than "
        f"{most} examples.{texts}"
    )
