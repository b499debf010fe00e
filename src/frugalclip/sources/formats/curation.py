"""The folder of a curation: its manifest holds the rows that were chosen."""

from typing import final

from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.formats.parquet import read_parquet

_MANIFEST = "manifest.parquet"
_BESIDE = {"ledger.parquet", "rows.parquet", "summary.json"}  # what else a curation writes


@final
class Curation(DataFormat):
    """A folder that `frugalclip curate` wrote."""

    name = "curation"
    precedence = 5

    def recognises(self, file: DataFile) -> bool:
        return False

    def find(self, folder: DataFolder) -> Found | None:
        files = {file.path.name: file for file in folder.files if file.path.parent == folder.path}
        if _MANIFEST not in files or not files.keys() >= _BESIDE:
            return None
        return Found(str(folder.path), [files[_MANIFEST]], folder)

    def read(self, found: Found, options: ReadOptions) -> Source:
        return read_parquet(found.paths[0], options)
