"""What a model card needs of the training data: its hash, its licences, and how it was curated."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frugalclip.core.errors import DataError
from frugalclip.core.paths import user_path
from frugalclip.curation.outputs import MANIFEST, SUMMARY, Summary
from frugalclip.data.manifest import Manifest

_FILES = re.compile(r"(licen[cs]e|copying|notice)", re.IGNORECASE)  # how their names begin
_FIELDS = ("license", "licence", "licenses", "licences")
_SHOWN = 10  # licences that rows name, the most frequent ones


def describe_data(path: str | None, training: Manifest) -> dict[str, Any]:
    """Describe the rows that a model was trained on.

    Args:
        path: of the data set, as the recipe names it.
        training: the rows.

    Returns:
        `hash` of ids, captions and image places; `licences`: `files` beside the data, and how many rows name
        which (`rows`); `curation`: the summary of the ledger where `curate` wrote the data, else None.
    """
    return {
        "hash": training.fingerprint(),
        "licences": {
            "files": sorted(_licence_files(path, training)),
            "rows": licences_of_rows(training, shown=_SHOWN),
        },
        "curation": _curation(path),
    }


def _folders(path: str | None, training: Manifest) -> list[Path]:
    """Where files about the data may lie: its folder, or that of its files."""
    named = [] if path is None or path == "sample" else [user_path(path)]
    places = [place if place.is_dir() else place.parent for place in named]
    return [place for place in dict.fromkeys([*places, training.root]) if place.is_dir()]


def _licence_files(path: str | None, training: Manifest) -> set[str]:
    names = (name for folder in _folders(path, training) for name in os.listdir(folder))
    return {name for name in names if _FILES.match(name)}


def licences_of_rows(manifest: Manifest, *, shown: int | None) -> dict[str, int]:
    """Licence -> rows, of the first field that names licences, the most frequent first.

    Args:
        manifest: the rows.
        shown: so many of them; None gives all.
    """
    for field in manifest.field_names:
        if field.lower() in _FIELDS:
            return dict(Counter(_texts(manifest.field(field))).most_common(shown))
    return {}


def _texts(values: Any) -> Iterator[str]:
    for value in values:
        for one in value if isinstance(value, list | tuple) else [value]:
            yield ("" if one is None else " ".join(str(one).split())) or "not named"


def _curation(path: str | None) -> dict[str, Any] | None:
    """Rows in and out of every stage, of data that `curate` wrote."""
    if path is None:
        return None
    place = user_path(path)
    folder = place.parent if place.name == MANIFEST else place
    if not (folder / SUMMARY).is_file():
        return None
    try:
        summary = Summary.read(folder)
    except DataError:  # another program's file of that name
        return None
    stages = [
        {"name": one.name, "rows_in": one.rows_in, "rows_out": one.rows_out, "dropped": dict(one.dropped)}
        for one in summary.stages
        if not one.taken_back
    ]
    about = {"plan": summary.plan, "data": summary.data, "rows": summary.rows, "unread": summary.unread}
    return about | {"kept": summary.kept, "stages": stages}
