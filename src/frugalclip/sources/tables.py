"""CSV, TSV and JSON lines as manifests, and whether a text file is such a table by its first lines."""

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from frugalclip.core.errors import DataError
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest
from frugalclip.sources.assembling import assemble, faults_in_words
from frugalclip.sources.base import DataFile
from frugalclip.sources.class_lists import with_class_names
from frugalclip.sources.columns import choose
from frugalclip.sources.csv_layout import text_head
from frugalclip.sources.csv_rows import csv_head, read_csv_rows
from frugalclip.sources.json_rows import raw_table, read_json_rows
from frugalclip.sources.reading import READING
from frugalclip.sources.rows import RawTable, with_plain_images

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt")  # endings of files that may be tables
PREFERRED = ("metadata", "captions", "annotations", "labels", "data", "index")  # names of tables in folders


def table_manifest(
    path: Path,
    *,
    columns: Mapping[str, str] | None,
    ledger: Ledger,
    notes: list[str],
    mend: bool = False,
    root: Path | None = None,
) -> Manifest:
    """A CSV, TSV or JSON file as a manifest; faults go to the ledger, remarks to the notes.

    Raises:
        DataError: when columns are not recognised, or no row is a sample.
    """
    is_json = path.suffix.lower() in (".jsonl", ".ndjson", ".json")
    raw = (
        read_json_rows(path, ledger, mend=mend) if is_json else read_csv_rows(path, ledger, notes, mend=mend)
    )
    if not raw.table.num_rows:
        raise DataError(
            f"{path} has no usable row{faults_in_words(ledger)}; expected a header such as image,caption "
            "and one row a sample."
        )
    return rows_manifest(raw, path, columns, ledger, notes, root=root)


def names_pairs(file: DataFile) -> bool:
    """Whether the first lines of a text file name images and captions, as columns or as keys of objects."""
    return why_no_pairs(file) is None


def why_no_pairs(file: DataFile) -> str | None:
    """Why a text file is no table of images and captions by its first lines; None where it may be one."""
    if b"\0" in file.head[:512] and not file.head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "it is no text"
    head = text_head(file.head)
    try:
        table = _first_rows(head, file.suffix) if head.strip() else None
        if table is None:
            return "it holds no row"
        table, labels = with_class_names(with_plain_images(table), file.path)
        choose(table, None, where=file.path.name, labels=labels)
    except (ValueError, RecursionError) as error:
        return str(error)
    except DataError as error:
        return str(error)
    return None


def _first_rows(head: str, suffix: str) -> pa.Table | None:
    """The first object of JSON, or the first rows of a CSV file."""
    if suffix not in (".json", ".jsonl", ".ndjson"):
        return csv_head(head, suffix)
    row, _ = json.JSONDecoder().raw_decode(head, head.index("{"))
    raw = raw_table(iter([(1, row)]), Ledger(READING)) if isinstance(row, dict) else None
    return raw and raw.table


def rows_manifest(
    raw: RawTable,
    file: Path,
    columns: Mapping[str, str] | None,
    ledger: Ledger,
    notes: list[str],
    *,
    root: Path | None = None,
) -> Manifest:
    """Samples of rows whose columns are still to be recognised; as `assemble` otherwise."""
    raw.table, labels = with_class_names(raw.table, file)
    raw.unpack_lists()
    return assemble(
        raw, choose(raw.table, columns, where=str(file), labels=labels), file, ledger, notes, root=root
    )
