"""Several tables in one folder: one a split (`train.csv`, `val.csv`), or one in each folder of images."""

from typing import final

from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.folder_names import GENERIC, split_in
from frugalclip.sources.formats.table import read_table
from frugalclip.sources.joining import read_each
from frugalclip.sources.tables import PREFERRED, TABLES, names_pairs


@final
class SplitTables(DataFormat):
    """`train/metadata.csv` and `test/metadata.jsonl`, or `train.csv` and `test.csv`."""

    name = "tables"
    precedence = 190

    def find(self, folder: DataFolder) -> Found | None:
        files = _by_split(folder) or _by_folder(folder)
        return Found(str(folder.path), files, folder) if files else None

    def read(self, found: Found, options: ReadOptions) -> Source:
        source = read_each(found.files, lambda file: read_table(file, found, options), found.name)
        assert found.folder is not None
        tables = {file.path.parent for file in found.files}
        if found.folder.path not in tables:
            others = [one for one in _folders(found.folder) if one.has_images and one.path not in tables]
            names = ", ".join(str(one.path.relative_to(found.folder.path)) for one in others[:5])
            source.notes += [f"folders without a table are not read: {names}"] if others else []
        return source


def _by_split(folder: DataFolder) -> list[DataFile]:
    """Tables at the top that are called after splits, where there are two or more and no other table."""
    tables = [
        file for file in folder.annotations(*TABLES) if file.path.parent == folder.path and names_pairs(file)
    ]
    splits = {split_in(file.path.stem) for file in tables}
    return tables if None not in splits and len(splits) == len(tables) > 1 else []


def _by_folder(folder: DataFolder) -> list[DataFile]:
    """The table of each folder inside, where the folder itself has none."""
    if any(file.path.stem.lower() in PREFERRED and names_pairs(file) for file in folder.ending(*TABLES)):
        return []
    found = [_table_of(one) for one in _folders(folder)]
    return [file for file in found if file is not None]


def _folders(folder: DataFolder) -> list[DataFolder]:
    """Folders inside, and those inside of `data` and the like."""
    return [
        one
        for inner in folder.folders
        for one in ([inner, *inner.folders] if inner.path.name.lower() in GENERIC else [inner])
    ]


def _table_of(folder: DataFolder) -> DataFile | None:
    """The table beside the images of a folder or above its class folders."""
    if not (folder.has_images or any(one.has_images for one in folder.folders)):
        return None
    named = [file for file in folder.ending(*TABLES) if file.path.stem.lower() in PREFERRED]
    return next((file for file in named if names_pairs(file)), None)
