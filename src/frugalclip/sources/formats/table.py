"""Tables in text: CSV, TSV, JSON lines and lists of JSON objects."""

from typing import final

from frugalclip.core.errors import DataError
from frugalclip.data.images import EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.folder_names import split_in, split_named
from frugalclip.sources.joining import in_split, joined
from frugalclip.sources.paths import is_annotation_folder
from frugalclip.sources.reading import READING
from frugalclip.sources.tables import PREFERRED, TABLES, names_pairs, table_manifest, why_no_pairs

_KINDS = {
    ".csv": "a CSV table",
    ".tsv": "a TSV table",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "a JSON list",
}
_CERTAIN = (".csv", ".tsv", ".jsonl", ".ndjson")
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
        tables = [file for file in folder.annotations(*TABLES) if _is_table_of(folder, file)]
        tables = [file for file in tables if file.path.parent == folder.path] or tables
        preferred = [file for stem in PREFERRED for file in tables if file.path.stem.lower() == stem]
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


def _is_table_of(folder: DataFolder, file: DataFile) -> bool:
    """Whether a file is the table of a folder's images.

    At its top a .csv, .tsv or .jsonl with a name such as `captions` is; others must name images and captions
    in their first lines. In a folder inside the name, the folder's name or paths that begin with `../` must
    tell too that the table is about images elsewhere: it may be a list of results.
    """
    inner, is_preferred = file.path.parent, file.path.stem.lower() in PREFERRED
    if inner == folder.path:
        return (is_preferred and file.suffix in _CERTAIN) or names_pairs(file)
    is_about_others = (
        is_preferred or is_annotation_folder(inner) or b"../" in file.head or b"..\\" in file.head
    )
    return is_about_others and names_pairs(file)


def _has_text_beside(folder: DataFolder) -> bool:
    """Whether an image at the top has a text file of its name."""
    texts = {file.path.stem for file in folder.ending(".txt")}
    return any(file.path.stem in texts for file in folder.files if file.ends_with(*EXTENSIONS))


def read_table(file: DataFile, found: Found, options: ReadOptions) -> Source:
    """One table.

    Raises:
        DataError: when columns are not recognised, or no row is a sample.
    """
    if file.record and why_no_pairs(file) is not None:
        keys = ", ".join(list(file.record)[:8])
        raise DataError(
            f"{file.path} is one JSON object with the keys {keys}; expected COCO's or Karpathy's, "
            '{"a.jpg": ["a dog"]}, or a list of rows such as [{"image": "a.jpg", "caption": "a dog"}].'
        )
    ledger, notes = Ledger(READING), list[str]()
    manifest = table_manifest(
        file.path,
        columns=options.columns,
        ledger=ledger,
        notes=notes,
        mend=options.mend,
        root=found.folder.path if found.folder else None,
    )
    source = Source(manifest, _KINDS.get(file.suffix, "a table"), ledger, notes)
    return in_split(source, split_in(file.path.stem) or split_named(file.path.absolute().parent.name))
