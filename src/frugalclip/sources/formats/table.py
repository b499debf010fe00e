"""Tables in text: CSV, TSV, JSON lines and lists of JSON objects."""

from pathlib import Path
from typing import final

from frugalclip.core.errors import DataError
from frugalclip.data.images import EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.joining import joined
from frugalclip.sources.reading import READING
from frugalclip.sources.tables import table_manifest

_KINDS = {
    ".csv": "a CSV table",
    ".tsv": "a TSV table",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "a JSON list",
}
_IN_FOLDERS = (".csv", ".tsv", ".jsonl", ".ndjson")  # a .json in a folder belongs to an image more often
_PREFERRED = ("metadata", "captions", "annotations", "labels", "data", "index")
_COMPRESSED = (".gz", ".zip", ".zst", ".bz2", ".xz", ".7z")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@final
class Table(DataFormat):
    """A table by name, or a folder that holds one; text of any other ending is taken as a table too."""

    name = "table"
    precedence = 200

    def recognises(self, file: DataFile) -> bool:
        if file.suffix in _KINDS:
            return True
        is_binary = b"\0" in file.head[:512] and not file.head.startswith(_UTF16)
        return file.suffix not in (*EXTENSIONS, *_COMPRESSED) and not is_binary

    def find(self, folder: DataFolder) -> Found | None:
        tables = folder.ending(*_IN_FOLDERS)
        preferred = [file for stem in _PREFERRED for file in tables if file.path.stem.lower() == stem]
        if preferred or (len(tables) == 1 and not folder.ending(".txt")):
            return Found(str(folder.path), (preferred or tables)[:1], folder)
        if len(tables) > 1 and not folder.has_images:
            names = ", ".join(file.path.name for file in tables[:5])
            raise DataError(
                f"{folder.path} holds {len(tables)} tables ({names}); "
                f"give the one meant, such as {tables[0].path}."
            )
        return None

    def read(self, found: Found, options: ReadOptions) -> Source:
        return joined([_read_one(path, options) for path in found.paths], found.name)


def _read_one(path: Path, options: ReadOptions) -> Source:
    ledger, notes = Ledger(READING), list[str]()
    manifest = table_manifest(path, columns=options.columns, ledger=ledger, notes=notes, mend=options.mend)
    return Source(manifest, _KINDS.get(path.suffix.lower(), "a table"), ledger, notes)
