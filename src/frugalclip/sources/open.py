"""Any data set as one manifest: checks a path, finds its format, and joins several.

`open_data` gives the samples; `read_source` also tells what was recognised, dropped and why. The formats
themselves are files in `formats/`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from frugalclip.core.errors import DataError, known_names
from frugalclip.core.guard import reading
from frugalclip.core.paths import user_path
from frugalclip.data.images import EXTENSIONS
from frugalclip.data.manifest import Manifest
from frugalclip.sources import tar_index as shards
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source, is_text
from frugalclip.sources.find import data_formats
from frugalclip.sources.joining import joined
from frugalclip.sources.sample import sample_manifest

_ADVICE = "copy the data again, or leave the damaged file out"


def open_data(
    path: str | Path,
    *,
    where: str | None = None,
    columns: Mapping[str, str] | None = None,
    without_captions: bool = False,
) -> Manifest:
    """Open a data set of any supported form.

    Args:
        path: the word `sample`; a folder (images with .txt beside them, class folders, one table, Parquet
            files or tars); a CSV, TSV, JSON lines or Parquet file; WebDataset tars, with braces and globs; a
            saved Hugging Face dataset; a manifest.
        where: a condition over fields, see `Manifest.where`.
        columns: for tables, names of the columns `image`, `caption` (several with commas between) and `id`
            where they are not recognised.
        without_captions: keep images of folders that have no caption, which can be found but not trained on.

    Raises:
        DataError: when nothing is there, it is not understood, or no sample is left.
    """
    options = ReadOptions(columns, without_captions=without_captions)
    return _read_source(path, options).manifest.where(where)


def read_source(path: str | Path, *, columns: Mapping[str, str] | None = None, mend: bool = False) -> Source:
    """As `open_data`, with the kind that was recognised, the ledger of what was dropped, and remarks.

    Args:
        path: as for `open_data`.
        columns: as for `open_data`.
        mend: read captions that are not UTF-8 where there is one sensible way; the ledger names them.

    Raises:
        DataError: as `open_data`.
    """
    return _read_source(path, ReadOptions(columns, mend))


def _read_source(path: str | Path, options: ReadOptions) -> Source:
    text = str(path)
    if not is_text(text):
        raise DataError(
            f"the path {text!r} is not UTF-8; rename the file or folder, for example with convmv."
        )
    if text == "sample" and isinstance(path, str):
        return Source(sample_manifest(), "the sample that comes with frugalclip")
    if "://" in text or text.startswith("pipe:"):
        raise DataError(f"{text} is not on this machine; download it first, then give the folder or files.")
    if shards.has_pattern(text):
        return _read_files(shards.expand(str(user_path(text))), text, options)
    place = user_path(text)
    if os.path.isdir(place):  # unlike Path's own, these answer whatever the name is
        return _read_folder(place, options)
    if not os.path.exists(place):
        raise DataError(_missing(place))
    return _read_files([place], text, options)


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
    return joined(
        [read_source(path, columns=columns, mend=mend) for path in every], " + ".join(map(str, every))
    )


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


def _read_folder(place: Path, options: ReadOptions) -> Source:
    """A folder, by the first format that finds its own in it."""
    folder = DataFolder.listed(place)
    format, found = _recognised(folder)
    if format is data_formats()[-1] and not folder.files and len(folder.folders) == 1:
        inner = _recognised(folder.folders[0])  # what an archive was unpacked into
        format, found = (format, found) if inner[0] is format else inner
    source = _read(format, found, options).named(str(place))
    return replace(source, kind=f"a folder with {source.kind}") if found.files else source


def _recognised(folder: DataFolder) -> tuple[DataFormat, Found]:
    """The first format that finds its own in a folder; the last one takes every folder."""
    with reading(str(folder.path), advice=_ADVICE):
        return next((format, found) for format in data_formats() if (found := format.find(folder)))


def _read_files(paths: Sequence[Path], name: str, options: ReadOptions) -> Source:
    """Files given by name, all of one format."""
    _check_files(paths, name)
    files = [DataFile(path) for path in paths]
    formats = [_format_of(file) for file in files]
    if len(set(formats)) > 1:
        kinds = ", ".join(sorted({format.name for format in formats}))
        raise DataError(
            f"{name} matches files of several kinds ({kinds}); give them apart to: "
            "frugalclip data manifest --out FILE"
        )
    return _read(formats[0], Found(name, files), options)


def _read(format: DataFormat, found: Found, options: ReadOptions) -> Source:
    """Whatever damaged files do to a library is a sentence, see `guard.reading`."""
    with reading(found.name, advice=_ADVICE):
        return format.read(found, options)


def _check_files(paths: Sequence[Path], name: str) -> None:
    """Refuse what is not there, and what is no file."""
    if not paths:
        raise DataError(
            f"{name} matches no file; give a pattern of names that are there, such as 'shards/*.tar'."
        )
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


def _format_of(file: DataFile) -> DataFormat:
    found = next((format for format in data_formats() if format.recognises(file)), None)
    if found is not None:
        return found
    if file.ends_with(*EXTENSIONS):
        raise DataError(f"{file.path} is one image, expected a data set; give the folder it lies in.")
    if file.ends_with(".gz", ".zip", ".zst", ".bz2", ".xz", ".7z"):
        raise DataError(f"{file.path} is compressed; unpack it first, then give the folder or file inside.")
    raise DataError(
        f"{file.path} is of an unknown kind, expected .csv, .tsv, .jsonl, .parquet, .tar or a folder; "
        "convert it to one of these."
    )


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
