"""The data of an evaluation: the rows it is about, and the training images that baselines copy from."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugalclip.core.errors import DataError
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import open_data, read_source


def evaluated_data(
    data: str | Path | Manifest | None, record: Mapping[str, Any] | None, *, task: str
) -> tuple[Manifest, dict[str, int]]:
    """A data set, and the samples that were lost while reading it, by reason.

    Args:
        data: its path, or a manifest.
        record: of the training data, as the model has it; the columns that it names are read again where the
            path is the same.
        task: that needs the data, for messages.

    Raises:
        DataError: if nothing is named, or the path holds no data set.
    """
    if data is None:
        raise DataError(
            f"--task {task} needs a data set; add --data PATH, or --data sample for the shipped pairs."
        )
    if isinstance(data, Manifest):
        return data, {}
    source = read_source(data, columns=_columns(record or {}, data))
    return source.manifest, source.ledger.counts() if source.ledger.entries else {}


def training_images(given: str | Path | Manifest | None, record: Mapping[str, Any] | None) -> Manifest:
    """The training images, which baselines copy from.

    Args:
        given: the training data; None is what the model has a record of.
        record: of the training data, as the model has it.

    Raises:
        DataError: if the data is not known, or cannot be read from here.
    """
    if isinstance(given, Manifest):
        return given
    record = record or {}
    path = given or record.get("path")
    if path is None:
        raise DataError(
            "--baselines needs the training images, and the model has no record of them; "
            "add --baselines-data PATH."
        )
    try:
        everything = open_data(path, columns=_columns(record, path))
        return everything if given is not None else everything.where(record.get("where"))
    except DataError as error:
        place = f" from {os.getcwd()}" if given is None and path != "sample" else ""
        raise DataError(
            f"--baselines needs the training images, and {path} cannot be read{place}: {error}"
        ) from error


def _columns(record: Mapping[str, Any], path: str | Path) -> dict[str, str] | None:
    """The columns that a model was trained with, where the data is the same."""
    return (record.get("columns") or None) if str(record.get("path")) == str(path) else None
