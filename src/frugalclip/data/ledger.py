"""What happened to every sample, and why.

A reader starts a ledger, records each sample it drops or merges, and closes it with the samples kept. The sum is checked: what was seen is
what was kept, merged or dropped. Written as Parquet: `id, status, reason, detail`, one row a sample (`docs/formats.md`).
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from frugalclip.core.errors import DataError

VERSION = b"1"
_VERSION_KEY = b"frugalclip.ledger"

KEPT, MERGED, DROPPED = "kept", "merged", "dropped"

REASONS: dict[str, str] = {  # code -> plain words, as `data check` prints them
    "no-image": "no image belongs to the caption",
    "no-caption": "the caption is missing or empty",
    "missing-file": "the image file does not exist",
    "not-a-file": "the image's path is a folder or another thing that is not a file",
    "outside-folder": "the path leaves the data folder; write an absolute path if that is meant",
    "not-a-path": "the path cannot be a file's name: it is too long, or holds a NUL",
    "is-url": "the image is a web address; download it first, for example with img2dataset",
    "not-utf8": "the text is not UTF-8; convert the file, for example with: iconv -f latin1 -t utf-8",
    "not-text": "the caption holds NUL bytes: it is binary, or UTF-16 without its mark",
    "caption-too-long": "the caption is longer than any caption: probably a whole file landed there",
    "wrong-columns": "the row has more or fewer cells than the header",
    "open-quote": "a quote opens in the row and is not closed; close it, or write it twice inside a quoted cell",
    "not-json": "the line is not a JSON object",
    "unsupported-format": "the image format cannot be read; convert it to JPEG, PNG or WebP",
    "duplicate-key": "the key was already used",
    "duplicate-id": "the id was already used",
    "truncated-shard": "the tar ends before the file does; copy the tar again",
    "broken-shard": "the tar's own structure is damaged here; copy the tar again",
    "symlink-loop": "the folder is a link to a folder that was already read",
    "no-permission": "it may not be read; check the permissions",
    "empty-file": "the image file has no bytes",
    "truncated": "the image ends early; copy it again",
    "not-an-image": "the bytes are not an image",
    "too-many-pixels": "the image has more pixels than is safe to decode",
    "too-many-bytes": "the file is larger than any picture should be",
    "too-much-work": "the image is written so that decoding takes minutes; save it again",
    "web-page": "the bytes are a web page, usually an error page saved by a downloader",
    "svg": "the bytes are an SVG drawing; render it to PNG first",
    "heic": "the bytes are a HEIC photo; convert it to JPEG first",
    "broken-image": "the image cannot be decoded",
    "not-a-shard": "the file is not a tar, or no Parquet file that can be read; copy it again",
    "no-text": "no text view of the recipe finds a text in it",
    "repaired": "kept: its caption was not UTF-8, and there was one sensible way to read it",
    "watched": "kept: it watches the run and is not trained on",
    "filtered": "the condition given leaves it out",
    "same-image": "the row shares its image with an earlier row; its captions were added there",
}


class Fault(NamedTuple):
    """One sample that is not in the manifest, or is part of another one."""

    id: str
    reason: str  # a key of REASONS
    detail: str = ""
    status: str = DROPPED


MAX_ERROR_FRACTION = 0.01  # share of bad samples that a run puts up with unless told otherwise
LEAST_BAD = 3  # fewer never stop a run: of 20 samples a single one is 5 %
NO_DAMAGE = frozenset(
    {"filtered", "no-text", "symlink-loop"}
)  # left out because of what was asked for, or read elsewhere: not bad data


@dataclass
class Ledger:
    """Faults in the order they were met, beside the number of samples kept."""

    faults: list[Fault] = field(default_factory=list)
    remarks: dict[str, tuple[str, str]] = field(default_factory=dict)  # id of a kept sample -> reason, detail

    def drop(self, id: str, reason: str, detail: str = "") -> None:
        assert reason in REASONS, reason
        self.faults.append(Fault(id, reason, detail))

    def merge(self, id: str, reason: str, detail: str = "") -> None:
        assert reason in REASONS, reason
        self.faults.append(Fault(id, reason, detail, MERGED))

    def remark(self, id: str, reason: str, detail: str = "") -> None:
        """Say something of a sample that is kept."""
        assert reason in REASONS, reason
        self.remarks[id] = reason, detail

    def renamed(self, old: Sequence[str], new: Sequence[str]) -> "Ledger":
        """The same ledger after samples that are kept got other ids."""
        names = dict(zip(old, new, strict=True)) if self.remarks else {}
        return Ledger(self.faults, {names.get(id, id): remark for id, remark in self.remarks.items()})

    def extend(self, faults: Iterable[Fault]) -> None:
        self.faults.extend(faults)

    @property
    def dropped(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.status == DROPPED]

    @property
    def bad(self) -> list[Fault]:
        """Those dropped because something is wrong with them, not because a condition leaves them out."""
        return [fault for fault in self.faults if fault.status == DROPPED and fault.reason not in NO_DAMAGE]

    @property
    def merged(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.status == MERGED]

    def counts(self) -> dict[str, int]:
        """Reason -> dropped samples, the most frequent first, equal counts by name."""
        counts = Counter(fault.reason for fault in self.dropped)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def in_words(self) -> str:
        """Counts of what was dropped, such as `3 truncated, 1 no-caption`; empty where nothing was."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.counts().items())

    def table(self, kept: Sequence[str]) -> pa.Table:
        """One row a sample: the kept ones in their order, then the faults in theirs."""
        rows = len(kept)
        remarks = (
            [self.remarks.get(id, (None, None)) for id in kept] if self.remarks else [(None, None)] * rows
        )
        columns = {
            "id": [*kept, *(fault.id for fault in self.faults)],
            "status": [KEPT] * rows + [fault.status for fault in self.faults],
            "reason": [reason for reason, _ in remarks] + [fault.reason for fault in self.faults],
            "detail": [detail for _, detail in remarks] + [fault.detail for fault in self.faults],
        }
        schema = pa.schema([(name, pa.string()) for name in columns], metadata={_VERSION_KEY: VERSION})
        return pa.table(
            {name: pa.array(values, pa.string()) for name, values in columns.items()}, schema=schema
        )

    def write(self, path: Path, *, kept: Sequence[str], seen: int | None = None) -> None:
        """Write the ledger as Parquet.

        Args:
            path: the file.
            kept: ids of the manifest that goes with it.
            seen: samples the reader met; checked against the sum where given.
        """
        total = len(kept) + len(self.faults)
        assert seen is None or seen == total, f"{seen} samples were seen but {total} have a fate"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        pq.write_table(self.table(kept), temporary, compression="zstd")
        os.replace(temporary, path)


def together(ledgers: Iterable[Ledger]) -> Ledger:
    """What several ledgers say, one behind the other."""
    result = Ledger()
    for ledger in ledgers:
        result.faults += ledger.faults
        result.remarks |= ledger.remarks
    return result


def read_ledger(path: Path) -> pa.Table:
    """The table `id, status, reason, detail` of a ledger.

    Raises:
        DataError: when the file is not a ledger of this version.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} is not a ledger ({error}); expected a Parquet file that a frugalclip verb wrote."
        ) from error
    found = (table.schema.metadata or {}).get(_VERSION_KEY)
    if found != VERSION:
        raise DataError(
            f"{path} is a ledger of version {found.decode() if found else 'none'}, expected {VERSION.decode()}; write it again."
        )
    return table
