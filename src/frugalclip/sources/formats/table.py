"""Tables in text: CSV, TSV, JSON lines and lists of JSON objects."""

from typing import final

from frugalclip.core.errors import DataError
from frugalclip.data.images import EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.joining import joined
from frugalclip.sources.reading import READING
from frugalclip.sources.tables import PREFERRED, TABLES, names_pairs, table_manifest

_KINDS = {
    ".csv": "a CSV table",
    ".tsv": "a TSV table",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "a JSON list",
}
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
        tables = [file for file in folder.annotations(*TABLES) if _looks_like_table(file, folder)]
        top = [file for file in tables if file.path.parent == folder.path]
        tables = top or tables
        preferred = [file for stem in PREFERRED for file in tables if file.path.stem.lower() == stem]
        if len(tables) > 1 and not preferred:  # such as a table of results beside that of captions
            naming = [file for file in tables if names_pairs(file)]
            tables = naming if len(naming) == 1 else tables
        if preferred or (len(tables) == 1 and not _has_text_beside(folder)):
            return Found(str(folder.path), (preferred or tables)[:1], folder)
        if len(tables) > 1 and not folder.has_images:
            names = ", ".join(file.path.name for file in tables[:5])
            raise DataError(
                f"{folder.path} holds {len(tables)} tables ({names}); "
                f"give the one meant, such as {tables[0].path}."
            )
        return None

    def read(self, found: Found, options: ReadOptions) -> Source:
        return joined([read_table(file, found, options) for file in found.files], found.name)


def _looks_like_table(file: DataFile, folder: DataFolder) -> bool:
    """Whether a file of a folder may be the table of its images.

    At the top a .csv, .tsv or .jsonl is taken at its name. Other text, JSON and files of inner folders must
    name images and captions in their first lines.
    """
    if file.suffix in _KINDS and file.suffix != ".json" and file.path.parent == folder.path:
        return True
    return names_pairs(file)


def _has_text_beside(folder: DataFolder) -> bool:
    """Whether an image at the top has a text file of its name."""
    texts = {file.path.stem for file in folder.ending(".txt")}
    return any(file.path.stem in texts for file in folder.files if file.ends_with(*EXTENSIONS))


def read_table(file: DataFile, found: Found, options: ReadOptions) -> Source:
    """One table.

    Raises:
        DataError: when columns are not recognised, or no row is a sample.
    """
    ledger, notes = Ledger(READING), list[str]()
    manifest = table_manifest(
        file.path,
        columns=options.columns,
        ledger=ledger,
        notes=notes,
        mend=options.mend,
        root=found.folder.path if found.folder else None,
    )
    return Source(manifest, _KINDS.get(file.suffix, "a table"), ledger, notes)
