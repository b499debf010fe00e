"""Rows inside a JSON object: `{path: captions}`, or lists of rows under names such as `data` or `train`."""

from collections.abc import Iterator
from typing import Any, final

from frugalclip.core.errors import DataError
from frugalclip.data.images import EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.folder_names import split_named
from frugalclip.sources.joining import read_each
from frugalclip.sources.json_rows import raw_table
from frugalclip.sources.languages import languages_in
from frugalclip.sources.reading import READING
from frugalclip.sources.tables import rows_manifest

_PROBED = 200  # entries by which an object is recognised


@final
class JsonObject(DataFormat):
    """A mapping of images to captions or records, or an object that holds one list of rows or one a split."""

    name = "json"
    precedence = 50

    def recognises(self, file: DataFile) -> bool:
        return _is_mapping(file.record) or bool(_lists(file.record))

    def find(self, folder: DataFolder) -> Found | None:
        files = [file for file in folder.annotations(".json") if self.recognises(file)]
        return Found(str(folder.path), files, folder) if files else None

    def read(self, found: Found, options: ReadOptions) -> Source:
        return read_each(found.files, lambda file: _read_one(file, found, options), found.name)


def _read_one(file: DataFile, found: Found, options: ReadOptions) -> Source:
    ledger, notes = Ledger(READING), list[str]()
    is_mapping = _is_mapping(file.record)
    rows = _mapped_rows(file.record) if is_mapping else _listed_rows(file.record)
    raw = raw_table(enumerate(rows, start=1), ledger)
    if raw is None:
        raise DataError(f"{file.path} holds no row, expected images with captions.")
    root = found.folder.path if found.folder else None
    manifest = rows_manifest(raw, file.path, options.columns, ledger, notes, root=root)
    kind = "a JSON mapping of images to captions" if is_mapping else "a JSON object with lists of rows"
    return Source(manifest, kind, ledger, notes)


def _is_mapping(record: dict[str, Any]) -> bool:
    """Whether most keys are images."""
    keys = list(record)[:_PROBED]
    return bool(keys) and sum(key.lower().endswith(EXTENSIONS) for key in keys) > len(keys) / 2


def _mapped_rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for image, value in record.items():
        is_record = isinstance(value, dict) and not languages_in(value)
        yield {"image": image, **value} if is_record else {"image": image, "captions": value}


def _lists(record: dict[str, Any]) -> dict[str, list[Any]]:
    """Lists of rows: one for each split, or a single one."""
    lists = {
        name: value
        for name, value in record.items()
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value[:_PROBED])
    }
    splits = {name: rows for name, rows in lists.items() if split_named(name)}
    return splits or (lists if len(lists) == 1 else {})


def _listed_rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, rows in _lists(record).items():
        split = split_named(name)
        for row in rows:
            if isinstance(row, dict):
                yield {**row, "split": row.get("split", split)} if split else row
