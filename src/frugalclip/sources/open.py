"""Any data set as one manifest: what a path is, and who reads it.

`open_data` gives the samples; `read_source` also tells what was recognised,
dropped and why.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from frugalclip.core.errors import DataError, known_names
from frugalclip.data.conditions import SELECTION
from frugalclip.data.images import EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest, concatenate, is_manifest
from frugalclip.sources import tar_index as shards
from frugalclip.sources.folders import folder_manifest
from frugalclip.sources.huggingface import (
    arrow_manifest,
    hub_files,
    is_saved_dataset,
    saved_manifest,
    split_of,
    with_split,
)
from frugalclip.sources.parquet_tables import parquet_manifest
from frugalclip.sources.reading import READING
from frugalclip.sources.sample import sample_manifest
from frugalclip.sources.tables import table_manifest
from frugalclip.sources.webdataset import shards_manifest

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
_TABLE_NAMES = ("metadata", "captions", "annotations", "labels", "data", "index")


@dataclass
class Source:
    """A data set with what was learned while reading it."""

    manifest: Manifest
    kind: str  # in plain words
    ledger: Ledger = field(default_factory=lambda: Ledger(READING))
    notes: list[str] = field(default_factory=list)

    @property
    def seen(self) -> int:
        """Samples met: kept, merged or dropped."""
        return len(self.manifest) + len(self.ledger.entries)

    def where(self, condition: str | None) -> "Source":
        """The samples that meet a condition; the ledger names the others. See `Manifest.where`."""
        manifest = self.manifest.where(condition)
        ledger = Ledger(SELECTION)
        ledger.include(self.ledger)
        kept = set(manifest.ids)
        for id in self.manifest.ids:
            if id not in kept:
                ledger.drop(id, "filtered", condition or "")
        return replace(self, manifest=manifest, ledger=ledger)


def open_data(
    path: str | Path, *, where: str | None = None, columns: Mapping[str, str] | None = None
) -> Manifest:
    """Open a data set of any supported form.

    Args:
        path: the word `sample`; a folder (images with .txt beside them, class folders, one table, Parquet
            files or tars); a CSV, TSV, JSON lines or Parquet file; WebDataset tars, with braces and globs; a
            saved Hugging Face dataset; a manifest.
        where: a condition over fields, see `Manifest.where`.
        columns: for tables, names of the columns `image`, `caption` (several with commas between) and `id`
            where they are not recognised.

    Raises:
        DataError: when nothing is there, it is not understood, or no sample is left.
    """
    return read_source(path, columns=columns).manifest.where(where)


def read_source(path: str | Path, *, columns: Mapping[str, str] | None = None, mend: bool = False) -> Source:
    """As `open_data`, with the kind that was recognised, the ledger of what was dropped, and remarks.

    Args:
        path: as for `open_data`.
        columns: as for `open_data`.
        mend: read captions that are not UTF-8 where there is one sensible way; the ledger names them.

    Raises:
        DataError: as `open_data`.
    """
    reading = _ReadOptions(columns, mend)
    text = str(path)
    if not _is_text(text):
        raise DataError(
            f"the path {text!r} is not UTF-8; rename the file or folder, for example with convmv."
        )
    if text == "sample" and isinstance(path, str):
        return Source(sample_manifest(), "the sample that comes with frugalclip")
    if "://" in text or text.startswith("pipe:"):
        raise DataError(f"{text} is not on this machine; download it first, then give the folder or files.")
    if shards.has_pattern(text):
        return _read_files(shards.expand(text), text, reading)
    place = Path(text).expanduser()
    if os.path.isdir(place):  # unlike Path's own, these answer whatever the name is
        return _read_folder(place, reading)
    if not os.path.exists(place):
        raise DataError(_missing(place))
    return _read_files([place], text, reading)


def read_sources(
    paths: Sequence[str | Path] | str | Path, *, columns: Mapping[str, str] | None = None, mend: bool = False
) -> Source:
    """Several data sets as one, one after another; ids that clash get their data set's name as prefix.

    Args:
        paths: one or more, each as for `read_source`.
        columns: as for `read_source`.
        mend: as for `read_source`.

    Raises:
        DataError: as `open_data`.
    """
    every = as_paths(paths)
    sources = [read_source(path, columns=columns, mend=mend) for path in every]
    return sources[0] if len(sources) == 1 else _together(sources, " + ".join(map(str, every)))


def as_paths(paths: Sequence[str | Path] | str | Path) -> list[str | Path]:
    """One path or several as a list.

    Raises:
        DataError: where there is none.
    """
    every = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not every:
        raise DataError(
            "no data set was given, expected one or more paths; try: frugalclip data check sample"
        )
    return every


@dataclass(frozen=True)
class _ReadOptions:
    """How a source is read: the caller's choices."""

    columns: Mapping[str, str] | None
    mend: bool


def _is_text(text: str) -> bool:
    try:
        return "\0" not in text and text.encode() is not None
    except UnicodeEncodeError:
        return False


def _missing(place: Path) -> str:
    if os.path.islink(place):
        target = os.readlink(place)
        return f"{place} is a link to {target}, which does not exist; mend the link or give another path."
    parent = place.parent
    try:
        known = (
            [entry.name for entry in parent.iterdir() if not entry.name.startswith(".")]
            if os.path.isdir(parent)
            else []
        )
    except OSError:
        known = []
    there = (
        known_names(place.name, known)
        if known
        else f"{parent} {'is empty' if os.path.isdir(parent) else 'does not exist either'}."
    )
    return f"{str(place)[:500]} does not exist; {there} Give a folder, a table, tars, or the word sample."


def _read_files(paths: Sequence[Path], name: str, reading: _ReadOptions) -> Source:
    """Files given by name: one table, or tars, or Parquet files."""
    if not paths:
        raise DataError(f"{name} matches no file; check the pattern with: ls {name}")
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        more = f" (and {len(missing) - 1:,} more of {len(paths):,})" if len(missing) > 1 else ""
        raise DataError(
            f"{missing[0]} does not exist{more}, expected all that {name} stands for; correct the pattern."
        )
    folders = [path for path in paths if path.is_dir()]
    if folders:
        raise DataError(
            f"{name} matches the folder {folders[0]}, expected files; give the folder alone, "
            "or end the pattern with *.tar."
        )
    for path in paths:
        if not path.is_file():
            raise DataError(
                f"{path} is a pipe or device, expected a file; copy what it gives into one first."
            )
    kinds = {_kind(path) for path in paths}
    if len(kinds) > 1:
        raise DataError(
            f"{name} matches files of several kinds ({', '.join(sorted(kinds))}); give them apart to: "
            "frugalclip data manifest --out FILE"
        )
    kind = kinds.pop()
    if kind == "tar":
        return _read_shards(paths, name, reading)
    if kind == "arrow":
        ledger, notes = Ledger(READING), list[str]()
        manifest = arrow_manifest(paths, name=name, columns=reading.columns, ledger=ledger, notes=notes)
        return Source(
            manifest, "an Arrow file" if len(paths) == 1 else f"{len(paths):,} Arrow files", ledger, notes
        )
    if kind == "parquet":
        return _read_several(paths, name, reading)
    sources = [_read_table(path, reading) for path in paths]
    return sources[0] if len(sources) == 1 else _together(sources, name)


def _read_several(paths: Sequence[Path], name: str, reading: _ReadOptions) -> Source:
    """Parquet files; among several one that cannot be read is a fault like any other, as it is among tars."""
    sources: list[Source] = []
    refused = Ledger(READING)
    for path in paths:
        try:
            sources.append(_with_split(_read_parquet(path, reading), path))
        except DataError as error:
            if path == paths[-1] and not sources:
                raise
            refused.drop(path.name, "not-a-shard", str(error))
    joined = sources[0] if len(sources) == 1 else _together(sources, name)
    joined.ledger.include(refused)
    return joined


def _with_split(source: Source, path: Path) -> Source:
    """The source with a field `split`, where the file's name has one: `train-00000-of-00012.parquet`."""
    split = split_of(path)
    return replace(source, manifest=with_split(source.manifest, split)) if split else source


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if path.name.lower().endswith(_TARS):
        return "tar"
    if suffix in (".parquet", ".pq"):
        return "parquet"
    if suffix == ".arrow":
        return "arrow"
    if suffix in TABLES:
        return "table"
    with path.open("rb") as file:
        head = file.read(512)
    if head[:4] == b"PAR1":
        return "parquet"
    if head[257:262] == b"ustar":
        return "tar"
    if suffix in EXTENSIONS:
        raise DataError(f"{path} is one image, expected a data set; give the folder it lies in.")
    if suffix in (".gz", ".zip", ".zst", ".bz2", ".xz", ".7z"):
        raise DataError(f"{path} is compressed; unpack it first, then give the folder or file inside.")
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            f"{path} is of an unknown kind, expected .csv, .tsv, .jsonl, .parquet, .tar or a folder; "
            "convert it to one of these."
        )
    return "table"


def _read_shards(paths: Sequence[Path], name: str, reading: _ReadOptions) -> Source:
    ledger, notes = Ledger(READING), list[str]()
    manifest = shards_manifest(paths, name=name, ledger=ledger, notes=notes, mend=reading.mend)
    return Source(
        manifest, f"WebDataset tars ({len(paths):,})" if len(paths) > 1 else "a WebDataset tar", ledger, notes
    )


def _read_table(path: Path, reading: _ReadOptions) -> Source:
    ledger, notes = Ledger(READING), list[str]()
    manifest = table_manifest(path, columns=reading.columns, ledger=ledger, notes=notes, mend=reading.mend)
    words = {
        ".csv": "a CSV table",
        ".tsv": "a TSV table",
        ".jsonl": "JSON lines",
        ".ndjson": "JSON lines",
        ".json": "a JSON list",
    }
    return Source(manifest, words.get(path.suffix.lower(), "a table"), ledger, notes)


def _read_parquet(path: Path, reading: _ReadOptions) -> Source:
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}); copy it again."
        ) from None
    if is_manifest(schema):
        return Source(Manifest.read(path), "a manifest")
    ledger, notes = Ledger(READING), list[str]()
    return Source(
        parquet_manifest(path, columns=reading.columns, ledger=ledger, notes=notes),
        "a Parquet table",
        ledger,
        notes,
    )


def _together(sources: Sequence[Source], name: str) -> Source:
    manifest = concatenate([source.manifest for source in sources], name=name)
    ends = np.cumsum([len(source.manifest) for source in sources])
    ids = [manifest.ids[end - len(source.manifest) : end] for source, end in zip(sources, ends, strict=True)]
    ledger = Ledger(READING)
    for source, new in zip(sources, ids, strict=True):
        ledger.include(source.ledger.renamed(source.manifest.ids, new))
    notes = list(dict.fromkeys(note for source in sources for note in source.notes))
    kinds = list(dict.fromkeys(source.kind for source in sources))
    kind = (
        f"{len(sources):,} files, each {kinds[0]}"
        if len(kinds) == 1
        else f"{len(sources):,} data sets ({', '.join(kinds)})"
    )
    return Source(manifest, kind, ledger, notes)


def _read_folder(folder: Path, reading: _ReadOptions) -> Source:
    """A folder is what it holds at its top: shards, Parquet files, one table, or else images."""
    try:
        names = sorted(
            entry.name
            for entry in folder.iterdir()
            if not _is_ours(entry.name) and os.path.isfile(entry) and _is_text(entry.name)
        )
    except OSError as error:
        raise DataError(f"{folder} may not be read ({error.strerror}); check its permissions.") from None
    by_kind = {kind: [folder / n for n in names if n.lower().endswith(ends)] for kind, ends in _KINDS.items()}
    if is_saved_dataset(folder):
        ledger, notes = Ledger(READING), list[str]()
        return Source(
            saved_manifest(folder, columns=reading.columns, ledger=ledger, notes=notes),
            "a saved Hugging Face dataset",
            ledger,
            notes,
        )
    images = any(name.lower().endswith(EXTENSIONS) for name in names)
    if by_kind["tar"] and not images:
        return _read_shards(by_kind["tar"], str(folder), reading)
    if by_kind["parquet"] and not images:
        return _named(_read_files(by_kind["parquet"], str(folder), reading), folder)
    tables = by_kind["table"]
    preferred = [path for stem in _TABLE_NAMES for path in tables if path.stem.lower() == stem]
    if preferred or (len(tables) == 1 and not any(name.lower().endswith(".txt") for name in names)):
        return _named(_read_table((preferred or tables)[0], reading), folder)
    if len(tables) > 1 and not images:
        raise DataError(
            f"{folder} holds {len(tables)} tables ({', '.join(p.name for p in tables[:5])}); "
            f"give the one meant, such as {tables[0]}."
        )
    if not (images or tables) and (files := hub_files(folder)):
        return _read_hub(files, folder, reading)
    ledger, notes = Ledger(READING), list[str]()
    manifest, kind = folder_manifest(folder, ledger=ledger, notes=notes, mend=reading.mend)
    return Source(manifest, kind, ledger, notes)


def _read_hub(files: Sequence[tuple[Path, str | None]], folder: Path, reading: _ReadOptions) -> Source:
    """Parquet files in folders, as the Hugging Face hub keeps them."""
    sources: list[Source] = []
    for path, split in files:
        source = _read_parquet(path, reading)
        sources.append(
            replace(source, manifest=with_split(source.manifest, split) if split else source.manifest)
        )
    joined = sources[0] if len(sources) == 1 else _together(sources, str(folder))
    return _named(joined, folder)


def _is_ours(name: str) -> bool:
    """Hidden, or written by `data verify` and `data manifest` beside what they read."""
    return name.startswith(".") or name.endswith((LEDGER, CLEAN))


LEDGER, CLEAN = ".ledger.parquet", ".clean.parquet"  # how the names of ledgers and of mended manifests end
_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_KINDS = {
    "tar": _TARS,
    "parquet": (".parquet", ".pq"),
    "table": (".csv", ".tsv", ".jsonl", ".ndjson"),
    "arrow": (".arrow",),
}


def _named(source: Source, folder: Path) -> Source:
    manifest = source.manifest
    return Source(
        Manifest(manifest.table, manifest.root, str(folder)),
        f"a folder with {source.kind}",
        source.ledger,
        source.notes,
    )
