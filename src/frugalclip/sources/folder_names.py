"""What the names of folders mean: splits, classes, or nothing."""

import os
import re
from collections.abc import Sequence

SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
_SPLIT = re.compile(
    rf"(?:(?:images?|imgs?|data|set|coco)[-_ ]?)?({'|'.join(SPLITS)})"
    r"[-_ ]?(?:20\d\d|images?|imgs?|set|data|split)?",
    re.IGNORECASE,
)
_WORD = re.compile(rf"(?:^|[^a-z])({'|'.join(sorted(SPLITS, key=len, reverse=True))})(?=$|[^a-z])")
GENERIC = (
    "images",
    "image",
    "img",
    "imgs",
    "photos",
    "pictures",
    "pics",
    "data",
    "dataset",
    "jpg",
    "png",
    "jpegs",
    "files",
    "input",
    "raw",
)


def split_named(folder: str) -> str | None:
    """The split that a folder is called after, such as `train` of `train`, `train2014` or `train_images`."""
    found = _SPLIT.fullmatch(folder)
    return found[1].lower() if found else None


def split_in(stem: str) -> str | None:
    """The split in the name of a file, such as `val` of `captions_val2014`; None for none or several."""
    found = set(_WORD.findall(stem.lower()))
    return found.pop() if len(found) == 1 else None


def split_of_path(path: str) -> str | None:
    """The split that the first folder of a path names, generic ones such as `images` apart."""
    for part in path.split("/")[:-1]:
        if part.lower() not in GENERIC:
            return split_named(part)
    return None


def class_of_path(path: str) -> str | None:
    """The class that the last folder of a path names; folders such as `images` and splits name none."""
    for part in reversed(path.split("/")[:-1]):
        if split_named(part):
            return None
        if part.lower() not in (*GENERIC, "", "."):
            return re.sub(r"[_\-\s]+", " ", part).strip() or None
    return None


def fields_of_folders(paths: Sequence[str]) -> dict[str, list[str | None]]:
    """Fields `label` and `split` of the images of a table, as far as their folders differ in them.

    Numbers are no labels here: tools that download number their folders.
    """
    folders = [os.path.dirname(path) for path in paths]
    distinct = {folder: f"{folder}/x" for folder in folders}
    labels = {folder: class_of_path(path) for folder, path in distinct.items()}
    splits = {folder: split_of_path(path) for folder, path in distinct.items()}
    fields: dict[str, list[str | None]] = {}
    if len(known := set(labels.values()) - {None}) > 1 and not all(str(label).isdigit() for label in known):
        fields["label"] = [labels[folder] for folder in folders]
    if any(splits.values()):
        fields["split"] = [splits[folder] for folder in folders]
    return fields
