"""Folders of images as manifests: samples made of a picture and the small files beside it.

Tars share the rule: files of one key belong together (`a.jpg`, `a.txt`, `a.json`, `a.cls`); text gives
captions, one a line; JSON gives fields, and captions by language where it has them.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frugalclip.core.errors import DataError
from frugalclip.data.images import EXTENSIONS, UNREADABLE_EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest, image_places, is_number, make_manifest
from frugalclip.sources.captions import decoded, mended, readable, readable_by_language
from frugalclip.sources.columns import CAPTION_NAMES, column_of
from frugalclip.sources.languages import is_code, languages_beside, languages_in, texts_in, training_captions

SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
_GENERIC = (
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
ID_KEY = "__id__"  # in the JSON of a sample whose id cannot be the name of a file
LARGEST_TEXT = 2**20


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
class SidecarTexts:
    """Captions and fields of the files beside an image."""

    captions: list[str] = field(default_factory=list)
    by_language: dict[str, list[str]] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    fault: tuple[str, str] | None = None  # reason and detail
    mended: str | None = None  # how a text that is not UTF-8 was read


class TooLong(Exception):
    """A text that is too long to be a caption."""


def read_beside(read: Callable[[str], bytes | None], *, mend: bool = False) -> SidecarTexts:
    """Captions and fields of one sample.

    Args:
        read: gives the bytes of the file with an extension such as `.txt`, or None where there is none.
        mend: read texts in another encoding than UTF-8 where there is one sensible way.
    """
    result = SidecarTexts()

    def content(extension: str) -> str | None:
        data = read(extension)
        return None if data is None else _content(data, extension, result, mend)

    try:
        lines, record, label = content(".txt"), content(".json"), content(".cls")
        if lines is not None:
            result.captions = [line.strip() for line in lines.splitlines() if line.strip()]
        if record is not None:
            _read_record(json.loads(record), result)
        if label is not None:
            _read_label(label.strip(), result)
    except UnicodeError as error:
        result.fault = (
            "not-utf8",
            f"{error.reason} at byte {error.start}" if isinstance(error, UnicodeDecodeError) else str(error),
        )
    except TooLong as error:
        result.fault = "caption-too-long", str(error)
    except (ValueError, RecursionError) as error:
        result.fault = "not-json", str(error)
    result.captions, cause = readable(result.captions)
    result.by_language = readable_by_language(result.by_language)
    if cause and not result.captions:
        result.fault = result.fault or (cause, "the text beside the image")
    return result


def _content(data: bytes, extension: str, result: SidecarTexts, mend: bool) -> str:
    """Text of a file beside an image."""
    try:
        content = decoded(data)
        if "\0" not in content or not mend:
            return content
        error = None
    except UnicodeDecodeError as caught:
        error = caught
    found = mended(data) if mend else None
    if found is None:
        if error is not None:
            raise error
        return decoded(data)
    result.mended = f"{extension} read as {found[1]}"
    return found[0]


def _read_record(record: Any, result: SidecarTexts) -> None:
    if not isinstance(record, dict):
        raise ValueError(f"the JSON beside is a {type(record).__name__}, expected an object")
    json.dumps(record, ensure_ascii=False).encode()  # lone surrogates are valid JSON and no text
    if ID_KEY in record:  # written by `data convert`: keys are what they are called
        result.captions = texts_in(record.get("captions"))
        result.by_language = languages_in(record.get("captions_by_language"))
        result.fields = {
            key: value for key, value in record.items() if key not in ("captions", "captions_by_language")
        }
        return
    result.by_language, taken = languages_beside(record)
    record = {name: value for name, value in record.items() if name not in taken}
    if isinstance(every := record.get("captions"), list) and _is_same_text(
        result.captions, listed := texts_in(every)
    ):
        result.captions = listed
        record = {name: value for name, value in record.items() if name != "captions"}
    elif not result.captions and not result.by_language:
        named = next((key for key in CAPTION_NAMES[:10] if texts_in(record.get(key))), None)
        result.captions = texts_in(record[named]) if named else []
        if isinstance(code := record.get("language"), str) and is_code(code) and result.captions:
            result.by_language = {code: list(result.captions)}
    result.captions = result.captions or training_captions(result.by_language)
    result.fields = {key: value for key, value in record.items() if key not in ("caption", "captions")}


def _is_same_text(lines: list[str], listed: list[str]) -> bool:
    """Whether a list of captions holds the text of the .txt, line by line or as one caption."""
    return set(lines) <= set(listed) or lines in (
        [line.strip() for line in text.splitlines() if line.strip()] for text in listed
    )


def _read_label(label: str, result: SidecarTexts) -> None:
    is_number = re.fullmatch(r"-?\d{1,18}", label)
    result.fields.setdefault("cls", int(label) if is_number else label)
    if not result.captions and label and not is_number:
        result.captions = [label.replace("_", " ")]


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
    root: Path, *, ledger: Ledger, notes: list[str], mend: bool = False
) -> tuple[Manifest, str]:
    """A folder of images with text beside them, of class folders, or of both.

    Returns:
        The manifest, and the layout in words.

    Raises:
        DataError: when no image is found, or none has a caption.
    """
    found = scan(root, ledger)
    if not found.images:
        raise DataError(_no_images(root, found))
    beside = {path: _read_files(root, path, found.texts, mend) for path in found.images}
    from_folders = _class_folders(found.images, beside)
    result = SampleColumns()
    names = _stems(found.images)
    counted = {"text": 0, "folder": 0}
    for path in found.images:
        sample = beside[path]
        label = from_folders.get(path)
        fields = {**_split_field(path), **({"label": label} if from_folders else {}), **sample.fields}
        if sample.fault:
            ledger.drop(names[path], *sample.fault)
        elif not sample.captions and not label:
            ledger.drop(names[path], "no-caption", f"expected {os.path.splitext(path)[0]}.txt")
        else:
            counted["text" if sample.captions else "folder"] += 1
            if sample.mended:
                ledger.remark(names[path], "repaired", sample.mended)
            result.add(names[path], path, sample.captions or [label or ""], sample.by_language, fields)
    _orphans(found, ledger)
    if not result.ids:
        more = f" ({ledger.in_words()})" if ledger.counts().keys() - {"no-caption"} else ""
        raise DataError(
            f"{root} has {len(found.images):,} images and no caption{more}; "
            "expected NAME.txt beside NAME.jpg, a folder for each class, "
            "or a table (captions.csv with columns image,caption) in the folder."
        )
    layout = "a folder of images with text beside them" if counted["text"] else "class folders"
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
    labels: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")[:-1]
        if parts and parts[-1].lower() not in (*_GENERIC, *SPLITS):
            labels[path] = re.sub(r"[_\-\s]+", " ", parts[-1]).strip()
    return labels if any(not beside[path].captions and not beside[path].fault for path in labels) else {}


def _split_field(path: str) -> dict[str, str]:
    first = path.split("/")[0].lower()
    return {"split": first} if "/" in path and first in SPLITS else {}


def _orphans(found: _Scan, ledger: Ledger) -> None:
    """Text files to which no image belongs, apart from the usual notes."""
    stems = {os.path.splitext(path)[0] for path in found.images} | set(found.images)
    for text in sorted(found.texts):
        stem, extension = os.path.splitext(text)
        if (
            extension.lower() == ".txt"
            and stem not in stems
            and os.path.basename(stem).lower() not in _NOT_CAPTIONS
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
