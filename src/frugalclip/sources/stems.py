"""Images that a table names without the ending of their files: `00123` for `00123.jpg`."""

import os
from collections.abc import Sequence
from pathlib import Path

from frugalclip.data.images import EXTENSIONS


class ImageStems:
    """Finds images by their names without endings; every folder is listed once."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, list[str]]] = {}

    def find(self, folder: Path, path: str) -> str | None:
        """The path with the ending of the only image of that name; None where there is none, or several.

        Args:
            folder: where the path starts.
            path: as the table has it.
        """
        if not is_without_ending(path):
            return None
        inner, name = os.path.split(path)
        found = self._images(os.path.join(folder, inner)).get(name, [])
        return os.path.join(inner, found[0]) if len(found) == 1 else None

    def _images(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._folders:
            self._folders[folder] = _listed(folder)
        return self._folders[folder]


def is_without_ending(path: str) -> bool:
    """Whether a path does not end as images do."""
    return not path.lower().endswith(EXTENSIONS)


def complete(
    paths: list[str | None], faults: Sequence[str | None], base: Path, stems: ImageStems
) -> list[int]:
    """Give missing files the ending that they have; the rows that were found.

    Args:
        paths: of a table; changed in place.
        faults: why each is no image.
        base: where the paths start.
        stems: what was listed.
    """
    found = []
    for row, (path, fault) in enumerate(zip(paths, faults, strict=True)):
        if fault == "missing-file" and path and (whole := stems.find(base, path)):
            paths[row] = whole
            found.append(row)
    return found


def _listed(folder: str) -> dict[str, list[str]]:
    """Name without ending -> images of that name."""
    found: dict[str, list[str]] = {}
    try:
        names = sorted(os.listdir(folder))
    except (OSError, ValueError):
        return found
    for name in names:
        if not is_without_ending(name):
            found.setdefault(os.path.splitext(name)[0], []).append(name)
    return found
