"""What became of every sample, and why.

Each stage that drops samples declares its own reasons and keeps a ledger. Entries of several stages are put
together when the ledger is written, with the samples that are kept. The sum is checked: what was met is what
was kept, merged or dropped. Written as Parquet with `id, status, stage, reason, detail`, one row a sample
(`docs/formats.md`).
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, final

import pyarrow as pa
import pyarrow.parquet as pq

from frugalclip.core.disk import replacing
from frugalclip.core.errors import DataError, shortened
from frugalclip.core.guard import parse_json, reading
from frugalclip.data.tables import read_parquet

VERSION = b"2"
_VERSION_KEY = b"frugalclip.ledger"
_REASONS_KEY = b"frugalclip.ledger.reasons"
COLUMNS = ("id", "status", "stage", "reason", "detail")
_SCHEMA = pa.schema([(name, pa.string()) for name in COLUMNS])

KEPT, MERGED, DROPPED = "kept", "merged", "dropped"
MAX_ERROR_FRACTION = 0.01  # share of bad samples that a run accepts unless told otherwise
LEAST_BAD = 3  # fewer never stop a run: of 20 samples a single one is 5 %


@final
@dataclass(frozen=True)
class LedgerStage:
    """A step that drops, merges or remarks on samples."""

    name: str
    reasons: Mapping[str, str] = field(compare=False, repr=False)  # code -> plain words
    harmless: frozenset[str] = field(
        default=frozenset(), compare=False, repr=False
    )  # codes that mean no damage


class Entry(NamedTuple):
    """What a stage decided about one sample."""

    id: str
    stage: LedgerStage
    reason: str  # one of the stage's
    detail: str = ""
    status: str = DROPPED

    @property
    def meaning(self) -> str:
        """The reason in plain words."""
        return self.stage.reasons[self.reason]

    @property
    def is_damage(self) -> bool:
        """Whether the sample was dropped because something is wrong with it."""
        return self.status == DROPPED and self.reason not in self.stage.harmless


@final
@dataclass(frozen=True)
class Cause:
    """A reason with its number of samples."""

    reason: str
    meaning: str
    count: int
    examples: list[Entry]  # the first ones


class Ledger:
    """Entries in the order in which they were made.

    Args:
        stage: the one that drops, merges and remarks here.
        entries: made before, by this or other stages.
    """

    def __init__(self, stage: LedgerStage, entries: Iterable[Entry] = ()) -> None:
        self.stage = stage
        self.entries: list[Entry] = []
        self.remarks: dict[str, Entry] = {}  # id -> entry of a sample that is kept
        self.extend(entries)

    def drop(self, id: str, reason: str, detail: str = "") -> None:
        self._add(Entry(id, self.stage, reason, detail, DROPPED))

    def merge(self, id: str, reason: str, detail: str = "") -> None:
        self._add(Entry(id, self.stage, reason, detail, MERGED))

    def remark(self, id: str, reason: str, detail: str = "") -> None:
        """Note something about a sample that is kept."""
        self._add(Entry(id, self.stage, reason, detail, KEPT))

    def _add(self, entry: Entry) -> None:
        assert entry.reason in entry.stage.reasons, f"{entry.stage.name} has no reason '{entry.reason}'"
        if entry.status == KEPT:
            self.remarks[entry.id] = entry
        else:
            self.entries.append(entry)

    def extend(self, entries: Iterable[Entry]) -> None:
        """Add entries of any stage."""
        for entry in entries:
            self._add(entry)

    def include(self, other: "Ledger") -> None:
        """Add everything of another ledger."""
        self.entries += other.entries
        self.remarks |= other.remarks

    def renamed(self, old: Sequence[str], new: Sequence[str]) -> "Ledger":
        """The same ledger after the samples that are kept got other ids."""
        names = dict(zip(old, new, strict=True)) if self.remarks else {}
        result = Ledger(self.stage, self.entries)
        result.extend(entry._replace(id=names.get(id, id)) for id, entry in self.remarks.items())
        return result

    @property
    def dropped(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.status == DROPPED]

    @property
    def bad(self) -> list[Entry]:
        """Those dropped because something is wrong with them, not because a condition leaves them out."""
        return [entry for entry in self.entries if entry.is_damage]

    @property
    def merged(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.status == MERGED]

    def counts(self) -> dict[str, int]:
        """Reason -> dropped samples, the most frequent first, equal counts by name."""
        return {cause.reason: cause.count for cause in causes_of(self.dropped)}

    def in_words(self) -> str:
        """Counts of what was dropped, such as `3 truncated, 1 no-caption`; empty where nothing was."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.counts().items())

    def table(self, kept: Sequence[str]) -> pa.Table:
        """One row a sample: the kept ones in their order, then the entries in theirs."""
        nothing = (None, None, None)
        remarks = [_columns_of(self.remarks[id]) if id in self.remarks else nothing for id in kept]
        rows = [
            *((id, KEPT, *remark) for id, remark in zip(kept, remarks, strict=True)),
            *((entry.id, entry.status, *_columns_of(entry)) for entry in self.entries),
        ]
        metadata = {_VERSION_KEY: VERSION, _REASONS_KEY: json.dumps(self._meanings(), sort_keys=True)}
        schema = _SCHEMA.with_metadata(metadata)
        columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
        return pa.table([pa.array(column, pa.string()) for column in columns], schema=schema)

    def _meanings(self) -> dict[str, dict[str, str]]:
        """Stage -> reason -> plain words, of the reasons that occur."""
        found: dict[str, dict[str, str]] = {}
        for entry in (*self.entries, *self.remarks.values()):
            found.setdefault(entry.stage.name, {})[entry.reason] = entry.meaning
        return found

    def write(self, path: Path, *, kept: Sequence[str], seen: int | None = None) -> None:
        """Write the ledger as Parquet.

        Args:
            path: the file.
            kept: ids of the manifest that goes with it.
            seen: samples that were met; checked against the sum where given.
        """
        total = len(kept) + len(self.entries)
        assert seen is None or seen == total, f"{seen} samples were met but {total} have an entry"
        with replacing(path) as temporary:
            pq.write_table(self.table(kept), temporary, compression="zstd")


def _columns_of(entry: Entry) -> tuple[str, str, str]:
    return entry.stage.name, entry.reason, entry.detail


def causes_of(entries: Sequence[Entry], *, examples: int = 0) -> list[Cause]:
    """The reasons of entries, the most frequent first, equal counts by name.

    Args:
        entries: of one status.
        examples: how many entries of each reason to give.
    """
    counts = Counter(entry.reason for entry in entries)
    first: dict[str, list[Entry]] = {}
    for entry in entries:
        if len(known := first.setdefault(entry.reason, [])) < max(examples, 1):
            known.append(entry)
    return [
        Cause(reason, first[reason][0].meaning, count, first[reason][:examples])
        for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def read_ledger(path: Path) -> pa.Table:
    """The table `id, status, stage, reason, detail` of a ledger.

    Raises:
        DataError: when the file is not a ledger of this version.
    """
    table = read_parquet(path, advice="it is not a ledger, which frugalclip verbs write as Parquet")
    check_version(table, path, key=_VERSION_KEY, version=VERSION, what="a ledger", advice="write it again")
    check_content(table, path, schema=_SCHEMA, key=_REASONS_KEY, advice="write it again")
    return table


def check_content(table: pa.Table, path: Path, *, schema: pa.Schema, key: bytes, advice: str) -> None:
    """Refuse a ledger with other columns, or with reasons that cannot be read.

    Args:
        table: as it was read.
        path: its file.
        schema: of the columns that it must have.
        key: of its metadata that holds the meanings of reasons.
        advice: what to do.

    Raises:
        DataError: naming the file.
    """
    with reading(path, advice=advice):
        if not table.schema.remove_metadata().equals(schema):
            raise ValueError(f"its columns are not those of a ledger: {', '.join(schema.names)}")
        found = ledger_meanings(table, key=key)
        if not all(isinstance(own, dict) and set(map(type, own.values())) <= {str} for own in found.values()):
            raise ValueError("it does not explain its reasons")


def check_version(table: pa.Table, path: Path, *, key: bytes, version: bytes, what: str, advice: str) -> None:
    """Refuse a table of another version.

    Args:
        table: as it was read.
        path: its file.
        key: of its metadata that holds the version.
        version: the one that is expected.
        what: the table is, with its article.
        advice: what to do.

    Raises:
        DataError: when its version is missing or another one.
    """
    found = (table.schema.metadata or {}).get(key)
    if found != version:
        shown = shortened(found.decode("utf-8", "replace") if found else "none", 40)
        raise DataError(f"{path} is {what} of version {shown}, expected {version.decode()}; {advice}.")


def ledger_meanings(table: pa.Table, *, key: bytes = _REASONS_KEY) -> dict[str, dict[str, str]]:
    """Stage -> reason -> plain words, as a ledger that was read explains its own rows.

    Args:
        table: the ledger.
        key: of its metadata that holds them.
    """
    return parse_json((table.schema.metadata or {}).get(key, b"{}"))
