"""Folders of images: with text beside them, or in class folders."""

from typing import final

from frugalclip.core.errors import DataError
from frugalclip.core.users_text import command_line
from frugalclip.data.ledger import Ledger
from frugalclip.sources.base import DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.folders import folder_manifest
from frugalclip.sources.reading import READING
from frugalclip.sources.tables import TABLES, names_pairs, why_no_pairs


@final
class ImageFolder(DataFormat):
    """Any folder that is nothing else."""

    name = "images"
    precedence = 900

    def find(self, folder: DataFolder) -> Found | None:
        return Found(str(folder.path), folder=folder)

    def read(self, found: Found, options: ReadOptions) -> Source:
        assert found.folder is not None
        ledger, notes = Ledger(READING), list[str]()
        try:
            manifest, kind = folder_manifest(
                found.folder.path,
                ledger=ledger,
                notes=notes,
                mend=options.mend,
                without_captions=options.without_captions,
            )
        except DataError as error:
            raise DataError(f"{error}{_openable(found.folder)}") from None
        return Source(manifest, kind, ledger, notes)


def _openable(folder: DataFolder) -> str:
    """The files in the folder that may be the data set, with the command that tries the first; or why not."""
    files = folder.annotations(*TABLES)
    if tables := [file for file in files if names_pairs(file)]:
        names = ", ".join(file.path.name for file in tables[:5])
        line = command_line("data", "check", tables[0].path)
        return f" {names} in it may be the table of the images; try: {line}"
    others = [file for file in files if file.suffix in (".csv", ".tsv", ".jsonl")]
    return f" {others[0].path.name} in it is no table of them: {why_no_pairs(others[0])}" if others else ""
