"""Folders as on the Hugging Face hub: Parquet files in folders, whose names give splits."""

from typing import final

from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.formats.parquet import read_parquet
from frugalclip.sources.huggingface import hub_files
from frugalclip.sources.joining import in_split, joined


@final
class HubFolder(DataFormat):
    """`data/train-00000-of-00003.parquet`, or `CONFIG/train/0000.parquet`."""

    name = "hub"
    precedence = 300

    def find(self, folder: DataFolder) -> Found | None:
        files = [] if folder.has_images else hub_files(folder.path)
        return Found(str(folder.path), [DataFile(path) for path, _ in files], folder) if files else None

    def read(self, found: Found, options: ReadOptions) -> Source:
        assert found.folder is not None
        files = hub_files(found.folder.path)
        return joined([in_split(read_parquet(path, options), split) for path, split in files], found.name)
