"""Folders of images as manifests: samples made of a picture and the small files beside it.

Tars share the rule: files of one key belong together (`a.jpg`, `a.txt`, `a.json`, `a.cls`); text gives
captions, one a line; JSON gives fields, and captions by language where it has them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frugalclip.core.errors import DataError
from frugalclip.data.images import EXTENSIONS, UNREADABLE_EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.data.tables import is_number
from frugalclip.sources.class_lists import class_names, is_list_name
from frugalclip.sources.folder_names import class_of_path, split_in, split_of_path
from frugalclip.sources.sidecars import ID_KEY, LARGEST_TEXT, SidecarTexts, TooLong, read_beside
from frugalclip.sources.values import column_of

_NOT_CAPTIONS = (
    "readme",
    "license",
    "licence",
    "notice",
    "requirements",
    "classes",
    "classnames",
    "labels",
    "attribution",
    "credits",
)


@dataclass
class SampleColumns:
    """Samples as columns, before they become a manifest."""

    ids: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    captions: list[list[str]] = field(default_factory=list)
    by_language: list[dict[str, list[str]]] = field(default_factory=list)
    fields: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        id: str,
        path: str,
        captions: list[str],
        by_language: dict[str, list[str]],
        fields: dict[str, Any],
    ) -> None:
        self.ids.append(str(fields.pop(ID_KEY, id)))
        self.paths.append(path)
        self.captions.append(captions)
        self.by_language.append(by_language)
        self.fields.append(fields)

    def manifest(self, *, root: Path, name: str) -> Manifest:
        names = list(dict.fromkeys(key for row in self.fields for key in row))
        fields = {key: column_of([row.get(key) for row in self.fields], key) for key in names}
        return make_manifest(
            ids=self.ids,
            images=image_places(self.paths, offsets=self.offsets or None, lengths=self.lengths or None),
            captions=self.captions,
            captions_by_language=[list(row.items()) for row in self.by_language]
            if any(self.by_language)
            else None,
            weights=fields.pop("weight") if "weight" in fields and is_number(fields["weight"].type) else None,
            fields=fields,
            root=root,
            name=name,
        )


@dataclass
class _Scan:
    """Files of a folder tree by kind, as paths relative to the root, sorted."""

    images: list[str] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)
    others: dict[str, int] = field(default_factory=dict)  # extension -> files
    like_images: list[str] = field(default_factory=list)  # folders with an image's name
    hidden: int = 0


def scan(root: Path, ledger: Ledger) -> _Scan:
    """Every file beneath a folder. Links to folders are followed once; hidden files are left out."""
    found = _Scan()
    seen = {_identity(root)}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            ledger.drop(folder or ".", "no-permission", error.strerror or str(error))
            continue
        inner: list[str] = []
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                found.hidden += 1
            elif not _is_utf8(path):
                ledger.drop(path.encode("utf-8", "replace").decode(), "not-utf8", "the file's name")
            elif (kind := _kind_of(entry)) == "folder":
                if (identity := _identity(Path(entry.path))) in seen:
                    ledger.drop(path, "symlink-loop", os.path.realpath(entry.path))
                else:
                    seen.add(identity)
                    inner.append(path)
                    found.like_images += [path] if path.lower().endswith(EXTENSIONS) else []
            else:
                _sort_file(path, kind, found, ledger)
        waiting += reversed(inner)
    found.images.sort()
    for path in found.like_images:
        if not any(image.startswith(f"{path}/") for image in found.images):
            ledger.drop(path, "not-a-file", "a folder with an image's name")
    return found


def _kind_of(entry: os.DirEntry[str]) -> str:
    """`folder`, `file`, or the reason why an entry is neither."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        return "not-a-file" if os.path.exists(entry.path) else "missing-file"
    except PermissionError:
        return "no-permission"
    except OSError:
        return "symlink-loop"


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
        return True
    except UnicodeEncodeError:
        return False


def _sort_file(path: str, kind: str, found: _Scan, ledger: Ledger) -> None:
    extension = os.path.splitext(path)[1].lower()
    if kind != "file" and (extension in (*EXTENSIONS, ".txt", ".json") or kind == "symlink-loop"):
        words = {
            "missing-file": "the link leads nowhere",
            "not-a-file": "a pipe or device",
            "symlink-loop": "the link leads back to itself",
        }
        ledger.drop(path, kind, words.get(kind, ""))
    elif extension in EXTENSIONS:
        found.images.append(path)
    elif extension in (".txt", ".json"):
        found.texts.add(path)
    else:
        found.others[extension or "(no extension)"] = found.others.get(extension or "(no extension)", 0) + 1
        if extension in UNREADABLE_EXTENSIONS:
            ledger.drop(path, "unsupported-format", f"a {extension} file")


def folder_manifest(
    root: Path,
    *,
    ledger: Ledger,
    notes: list[str],
    mend: bool = False,
    has_classes: bool = True,
    without_captions: bool = False,
) -> tuple[Manifest, str]:
    """A folder of images with text beside them, of class folders, or of both.

    Args:
        root: the folder.
        ledger: gets what is left out.
        notes: gets remarks.
        mend: read texts in another encoding than UTF-8 where there is one sensible way.
        has_classes: whether the names of folders may be classes.
        without_captions: keep images that have no caption.

    Returns:
        The manifest, and the layout in words.

    Raises:
        DataError: when no image is found, or none has a caption.
    """
    found = scan(root, ledger)
    if not found.images:
        raise DataError(_no_images(root, found))
    beside = {path: _read_files(root, path, found.texts, mend) for path in found.images}
    from_folders = _class_folders(found.images, beside) if has_classes else {}
    synonyms = class_names(root, set(from_folders.values()))
    result = SampleColumns()
    names = _stems(found.images)
    counted = {"text": 0, "folder": 0, "bare": 0}
    for path in found.images:
        sample = beside[path]
        label = from_folders.get(path)
        texts = synonyms.get(label or "", [label] if label else [])
        label = texts[0] if texts else None
        fields = {**_split_field(path), **({"label": label} if from_folders else {}), **sample.fields}
        if sample.fault:
            ledger.drop(names[path], *sample.fault)
        elif not (sample.captions or label or without_captions):
            ledger.drop(names[path], "no-caption", f"expected {os.path.splitext(path)[0]}.txt")
        else:
            counted["text" if sample.captions else "folder" if label else "bare"] += 1
            if sample.mended:
                ledger.remark(names[path], "repaired", sample.mended)
            result.add(names[path], path, sample.captions or texts, sample.by_language, fields)
    _orphans(found, ledger)
    if not result.ids:
        single = {class_of_path(path) for path in found.images}
        if len(single) == 1 and (name := single.pop()):
            raise DataError(
                f"{root} has {len(found.images):,} images, all in one folder '{name}', and no text: "
                "a single class over everything is no caption; "
                "expected NAME.txt beside NAME.jpg, a folder for each class, or a table."
            )
        more = f" ({ledger.in_words()})" if ledger.counts().keys() - {"no-caption"} else ""
        raise DataError(
            f"{root} has {len(found.images):,} images and no caption{more}; "
            "expected NAME.txt beside NAME.jpg, a folder for each class, "
            "or a table (captions.csv with columns image,caption) in the folder."
        )
    layout = "a folder of images with text beside them" if counted["text"] else "class folders"
    layout = "a folder of images" if counted["bare"] == len(result.ids) else layout
    layout += " and class folders" if counted["text"] and counted["folder"] else ""
    ignored = [
        f"{count:,} {extension}"
        for extension, count in sorted(found.others.items())
        if extension not in UNREADABLE_EXTENSIONS
    ]
    notes += [f"other files are not read: {', '.join(ignored)}"] if ignored else []
    notes += [f"hidden files and folders are not read: {found.hidden:,}"] if found.hidden else []
    return result.manifest(root=root, name=str(root)), layout


def _read_files(root: Path, path: str, texts: set[str], mend: bool) -> SidecarTexts:
    stem = os.path.splitext(path)[0]

    def read(extension: str) -> bytes | None:
        name = next(
            (n for n in (stem + extension, stem + extension.upper(), path + extension) if n in texts), None
        )
        if name is None:
            return None
        with (root / name).open("rb") as file:
            data = file.read(LARGEST_TEXT + 1)
        if len(data) > LARGEST_TEXT:
            raise TooLong(f"{name} is larger than {LARGEST_TEXT:,} bytes")
        return data

    try:
        return read_beside(read, mend=mend)
    except OSError as error:
        return SidecarTexts(fault=("no-permission", error.strerror or str(error)))


def _stems(paths: Sequence[str]) -> dict[str, str]:
    """Ids: paths without extension, or whole where that would make two equal."""
    stems = [os.path.splitext(path)[0] for path in paths]
    counts: dict[str, int] = {}
    for stem in stems:
        counts[stem] = counts.get(stem, 0) + 1
    return {path: stem if counts[stem] == 1 else path for path, stem in zip(paths, stems, strict=True)}


def _class_folders(paths: Sequence[str], beside: dict[str, SidecarTexts]) -> dict[str, str]:
    """Labels from folders; none unless an image without text lies in a folder whose name can be a class."""
    labels = {path: label for path in paths if (label := class_of_path(path))}
    if len(labels) == len(paths) and len(set(labels.values())) == 1:
        return {}  # a name over everything divides nothing: it is no class
    return labels if any(not beside[path].captions and not beside[path].fault for path in labels) else {}


def _split_field(path: str) -> dict[str, str]:
    split = split_of_path(path)
    return {"split": split} if split else {}


def _orphans(found: _Scan, ledger: Ledger) -> None:
    """Text files to which no image belongs, apart from the usual notes and lists of classes and of splits."""
    stems = {os.path.splitext(path)[0] for path in found.images} | set(found.images)
    for text in sorted(found.texts):
        stem, extension = os.path.splitext(text)
        if (
            extension.lower() == ".txt"
            and stem not in stems
            and os.path.basename(stem).lower() not in _NOT_CAPTIONS
            and not is_list_name(os.path.basename(text))
            and not split_in(os.path.basename(stem))
        ):
            ledger.drop(text, "no-image", f"no image named {stem}")


def _no_images(root: Path, found: _Scan) -> str:
    kinds = dict(found.others)
    for text in found.texts:
        extension = os.path.splitext(text)[1].lower()
        kinds[extension] = kinds.get(extension, 0) + 1
    listed = ", ".join(
        f"{count:,} {extension}" for extension, count in sorted(kinds.items(), key=lambda item: -item[1])[:8]
    )
    expected = (
        f"expected {', '.join(EXTENSIONS[:7])}, tar shards, or one table (.csv, .tsv, .jsonl, .parquet)"
    )
    return (
        f"{root} holds no image (found: {listed or 'nothing'}; {expected}); give the folder that holds them."
    )
