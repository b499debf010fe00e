"""Tiny-ImageNet: `train/WNID/images/x.JPEG`, `val/val_annotations.txt`, and names of classes in `words.txt`.

The images of `test` have no labels and are not read.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import final

from frugalclip.data.images import EXTENSIONS
from frugalclip.sources.annotations import Annotations
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.class_lists import class_names

_MARK, _VALIDATION = "wnids.txt", "val_annotations.txt"


@final
class TinyImageNet(DataFormat):
    """The folder, or `val_annotations.txt` for the validation images alone."""

    name = "tiny-imagenet"
    precedence = 15

    def recognises(self, file: DataFile) -> bool:
        return file.path.name == _VALIDATION

    def find(self, folder: DataFolder) -> Found | None:
        names = {file.path.name for file in folder.files}
        splits = [split for split in ("train", "val") if (folder.path / split).is_dir()]
        return Found(str(folder.path), folder=folder) if _MARK in names and splits else None

    def read(self, found: Found, options: ReadOptions) -> Source:
        is_whole = found.folder is not None
        root = found.folder.path if found.folder else found.files[0].path.absolute().parent.parent
        images = [
            (split, path, wnid)
            for split in (("train", "val") if is_whole else ("val",))
            for path, wnid in _labelled(root, split)
        ]
        synonyms = class_names(root, {wnid for _, _, wnid in images})
        annotations = Annotations()
        for split, path, wnid in images:
            names = synonyms.get(wnid, [wnid])
            annotations.add(path, names, label=names[0], wnid=wnid, split=split)
        if is_whole and (root / "test").is_dir():
            annotations.notes.append("test has no labels and is not read")
        return annotations.source("Tiny-ImageNet", root / _MARK, found)


def _labelled(root: Path, split: str) -> Iterator[tuple[str, str]]:
    """(path, WordNet id) of the images of a split: from its list, else from its folders."""
    listed = root / split / _VALIDATION
    if listed.is_file() and (root / split / "images").is_dir():
        for line in listed.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, rest = line.partition("\t")
            if rest:
                yield f"{split}/images/{name}", rest.split("\t")[0]
        return
    for place, folders, names in os.walk(root / split):
        folders.sort()
        parts = Path(place).relative_to(root).parts
        for name in sorted(names):
            if len(parts) > 1 and name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                yield "/".join((*parts, name)), parts[1]
