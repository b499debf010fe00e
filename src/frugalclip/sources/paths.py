"""Image paths as tables write them, and where the images are.

A table may come from another system (backslashes, drives, `file://`) or from another folder. Relative paths
start from the table's folder; if nothing is there, from a folder inside it, from the folder above a folder of
annotations, or from the current folder. Where a whole folder is not there, its last parts are tried: a path
`/home/other/set/photos/a.jpg` is `photos/a.jpg` beside the table. Two paths never become one image that way.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from frugalclip.data.images import UNREADABLE_EXTENSIONS
from frugalclip.sources.base import is_file
from frugalclip.sources.folder_names import GENERIC
from frugalclip.sources.stems import ImageStems, complete

LISTED = 64  # from so many files of one folder on, the folder is listed once instead of asking for each
_LONGEST_PATH, _LONGEST_NAME = 4095, 255  # bytes, of Linux
_PROBED = 50  # paths, and folders, that are tried
_FILE_URL = re.compile(r"file:(?://(?:localhost)?)?(?=/)", re.IGNORECASE)
_ANNOTATIONS = re.compile(
    r"(annotation|caption|label|list|split|meta|metadata|text|csv|json|karpathy)s?", re.IGNORECASE
)


@dataclass(frozen=True)
class ImagePaths:
    """Paths of a table, each either with an image file or with a fault."""

    base: Path  # relative paths start from here
    paths: list[str | None]
    faults: list[str | None]  # a reason of the ledger, or None


def find_images(
    values: Iterable[Any], file: Path, notes: list[str], *, root: Path | None = None
) -> ImagePaths:
    """Where the images of a table are.

    Args:
        values: one a row, as the table has them.
        file: the table.
        notes: gets a remark where images lie elsewhere than the paths say.
        root: a folder above the table that the user named; paths may lead anywhere inside it.
    """
    paths = [clean_path(value, file.parent) for value in values]
    places, stems = _places(file.parent, root), ImageStems()
    base = _base(paths, file, places, notes, stems)
    if root is not None and any(path and path.startswith("../") for path in paths):
        inside = os.path.relpath(base, root)
        paths = [
            path and (path if _is_elsewhere(path) else os.path.normpath(f"{inside}/{path}")) for path in paths
        ]
        base = root
    faults = path_faults(paths, base)
    for row in complete(paths, faults, base, stems):
        faults[row] = None
    _relocate(paths, faults, base, places, notes)
    return ImagePaths(base, paths, faults)


def clean_path(value: Any, folder: Path | None = None) -> str | None:
    """A path as written in a table, with forward slashes and without `./`; None where there is none.

    Args:
        value: of the cell.
        folder: where relative paths start, to tell a backslash in a name from one between folders.
    """
    value = str(value) if isinstance(value, int) else value  # the number of an image
    path = value.strip() if isinstance(value, str) else None
    if not path:
        return None
    if found := _FILE_URL.match(path):
        path = unquote(path[found.end() :])
        path = path[1:] if re.match(r"/[A-Za-z]:", path) else path
    if "\0" in path or "://" in path:  # normpath cuts at a NUL in some versions of Python
        return path
    if "\\" in path and not (folder is not None and os.path.exists(folder / path)):
        path = path.replace("\\", "/")  # written on Windows
    return os.path.normpath(path)


def _is_elsewhere(path: str) -> bool:
    """Whether a path does not start from the table's folder."""
    return os.path.isabs(path) or "://" in path or "\0" in path


def _base(
    paths: Sequence[str | None], file: Path, places: Sequence[Path], notes: list[str], stems: ImageStems
) -> Path:
    """The folder that relative paths start from: the table's own, or the first in which any of them is."""
    own = file.parent
    probes = [path for path in paths if path and not _is_elsewhere(path) and not path.startswith("..")]
    probes = probes[:_PROBED]
    for folder in places if probes else ():
        # Path.exists raises for long names
        if any(os.path.exists(folder / path) or stems.find(folder, path) for path in probes):
            if folder != own:
                notes.append(f"image paths start from {folder}, not from {own}")
            return folder
    return own


def is_annotation_folder(folder: Path) -> bool:
    """Whether a folder is called after annotations, so that its images lie elsewhere."""
    return bool(_ANNOTATIONS.fullmatch(folder.name))


def _places(own: Path, root: Path | None) -> list[Path]:
    """Folders that images of a table may lie in, the nearest first."""
    places = [own, *_folders(own)]
    if root is not None and root != own:
        places += [root, *_folders(root)]
    if is_annotation_folder(own):
        places += [own.parent, *_folders(own.parent)]
    return list(dict.fromkeys([*places, Path.cwd()]))


def _folders(folder: Path) -> list[Path]:
    """Folders inside, and those inside of `images` and the like."""
    found: list[Path] = []
    for inner in _inside_of(folder):
        found += [inner, *(_inside_of(inner) if inner.name.lower() in GENERIC else [])]
    return found


def _inside_of(folder: Path) -> list[Path]:
    try:
        inner = sorted(e for e in folder.iterdir() if not e.name.startswith(".") and e.is_dir())
    except OSError:
        return []
    return inner[:_PROBED]


def _relocate(
    paths: list[str | None], faults: list[str | None], base: Path, around: Sequence[Path], notes: list[str]
) -> None:
    """Give paths of folders that are not there the place of their last parts, and clear their faults."""
    lost: dict[str, list[int]] = {}
    for row, (path, fault) in enumerate(zip(paths, faults, strict=True)):
        if fault == "missing-file" and path and os.path.dirname(path):
            lost.setdefault(os.path.dirname(path), []).append(row)
    lost = {folder: rows for folder, rows in lost.items() if not os.path.isdir(base / folder)}
    if not lost:
        return
    places = [base, *(place for place in around if place not in (base, Path.cwd()))]
    taken = {path for path, fault in zip(paths, faults, strict=True) if fault is None}
    found = dict[int, str]()
    for folder, rows in lost.items():
        names = [os.path.basename(paths[row] or "") for row in rows]
        if place := _place_of(folder, names, places):
            found |= {row: os.path.join(place, name) for row, name in zip(rows, names, strict=True)}
    found = {
        row: os.path.relpath(place, base) if _is_inside(place, base) else place
        for row, place in found.items()
    }
    _keep_apart(found, paths, taken)
    moved = [row for row, path in found.items() if os.path.isfile(base / path)]
    if moved:
        first = paths[moved[0]]
        notes.append(
            f"{len(moved):,} paths lead to folders that are not here, such as {first}; "
            f"their last parts are: {found[moved[0]]}"
        )
    for row in moved:
        paths[row], faults[row] = found[row], None


def _is_inside(path: str, folder: Path) -> bool:
    return os.path.commonpath([os.path.abspath(path), os.path.abspath(folder)]) == os.path.abspath(folder)


def _keep_apart(found: dict[int, str], paths: Sequence[str | None], taken: set[str | None]) -> None:
    """Forget places that two different paths would share: one of them is not that image."""
    owners: dict[str, set[str | None]] = {}
    for row, place in found.items():
        owners.setdefault(place, set()).add(paths[row])
    for row, place in list(found.items()):
        if len(owners[place]) > 1 or place in taken:
            del found[row]


def _place_of(folder: str, names: Sequence[str], places: Sequence[Path]) -> Path | None:
    """The folder that ends with most of a lost folder's last parts and holds any of the names."""
    parts = [part for part in folder.split("/") if part]
    for start in range(1, len(parts) + 1):
        rest = "/".join(parts[start:])
        for place in places:
            inner = place / rest
            if os.path.isdir(inner) and any(os.path.isfile(inner / name) for name in names[:_PROBED]):
                return inner
    return None


def path_faults(paths: Sequence[str | None], base: Path) -> list[str | None]:
    """For each path why it cannot be an image file, or None. Folders with many paths are listed once."""
    reasons: list[str | None] = [None] * len(paths)
    folders: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        if path is None:
            reasons[row] = "no-image"
        elif "://" in path:
            reasons[row] = "is-url"
        elif "\0" in path or (len(path) > 60 and _is_too_long(path)):  # a character has at most four bytes
            reasons[row] = "not-a-path"
        elif path.split("/", 1)[0] == "..":
            reasons[row] = "outside-folder"
        elif path.lower().endswith(UNREADABLE_EXTENSIONS):
            reasons[row] = "unsupported-format"
        else:
            folders.setdefault(os.path.dirname(path), []).append(row)
    for folder, rows in folders.items():
        present = _files(base / folder) if len(rows) >= LISTED else None
        for row in rows:
            path = paths[row] or ""
            there = os.path.basename(path) in present if present is not None else os.path.isfile(base / path)
            if not there:
                reasons[row] = "not-a-file" if os.path.exists(base / path) else "missing-file"
    return reasons


def _is_too_long(path: str) -> bool:
    return len(os.fsencode(path)) > _LONGEST_PATH or any(
        len(os.fsencode(part)) > _LONGEST_NAME for part in path.split("/")
    )


def _files(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if is_file(entry)}
    except OSError:
        return set()
