"""Folders of images and tar shards as manifests: samples made of a picture and the small files beside it.

Both share one rule: files of one key belong together (`a.jpg`, `a.txt`, `a.json`, `a.cls`); text gives captions, one a line; JSON gives
fields, and captions by language where it has them.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frugalclip.core.errors import DataError
from frugalclip.data import shards
from frugalclip.data.columns import CAPTION_NAMES, column_of, languages_in, texts_in, training_captions
from frugalclip.data.images import EXTENSIONS, UNREADABLE_EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest, image_places, make_manifest

SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
_GENERIC = ("images", "image", "img", "imgs", "photos", "pictures", "pics", "data", "dataset", "jpg", "png", "jpegs", "files", "input", "raw")
_NOT_CAPTIONS = ("readme", "license", "licence", "notice", "requirements", "classes", "classnames", "labels", "attribution", "credits")
_LARGEST_TEXT = 2**20


@dataclass
class Gathered:
    """Samples as columns, before they become a manifest."""

    ids: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    captions: list[list[str]] = field(default_factory=list)
    by_language: list[dict[str, list[str]]] = field(default_factory=list)
    fields: list[dict[str, Any]] = field(default_factory=list)

    def add(self, id: str, path: str, captions: list[str], by_language: dict[str, list[str]], fields: dict[str, Any]) -> None:
        self.ids.append(id)
        self.paths.append(path)
        self.captions.append(captions)
        self.by_language.append(by_language)
        self.fields.append(fields)

    def manifest(self, *, root: Path, name: str) -> Manifest:
        names = list(dict.fromkeys(key for row in self.fields for key in row))
        return make_manifest(
            ids=self.ids,
            images=image_places(self.paths, offsets=self.offsets or None, lengths=self.lengths or None),
            captions=self.captions,
            captions_by_language=[list(row.items()) for row in self.by_language] if any(self.by_language) else None,
            fields={key: column_of([row.get(key) for row in self.fields], key) for key in names},
            root=root,
            name=name,
        )


@dataclass
class Beside:
    """What the files beside an image say."""

    captions: list[str] = field(default_factory=list)
    by_language: dict[str, list[str]] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    fault: tuple[str, str] | None = None  # reason and detail


def read_beside(read: Callable[[str], bytes | None]) -> Beside:
    """Captions and fields of one sample.

    Args:
        read: gives the bytes of the file with an extension such as `.txt`, or None where there is none.
    """
    result = Beside()
    try:
        text, record, label = read(".txt"), read(".json"), read(".cls")
        if text is not None:
            result.captions = [line.strip() for line in text.decode("utf-8-sig").splitlines() if line.strip()]
        if record is not None:
            _read_record(json.loads(record.decode("utf-8-sig")), result)
        if label is not None:
            _read_label(label.decode("utf-8-sig").strip(), result)
    except UnicodeDecodeError as error:
        result.fault = "not-utf8", f"{error.reason} at byte {error.start}"
    except (ValueError, RecursionError) as error:
        result.fault = "not-json", str(error)
    return result


def _read_record(record: Any, result: Beside) -> None:
    if not isinstance(record, dict):
        raise ValueError(f"the JSON beside is a {type(record).__name__}, expected an object")
    json.dumps(record, ensure_ascii=False).encode()  # lone surrogates are valid JSON and no text
    for key in ("captions", "caption"):
        if languages := languages_in(record.get(key)):
            result.by_language = languages
            result.captions = result.captions or training_captions(languages)
            record = {name: value for name, value in record.items() if name != key}
    if not result.captions:
        named = next((key for key in CAPTION_NAMES[:10] if texts_in(record.get(key))), None)
        result.captions = texts_in(record[named]) if named else []
    result.fields = {key: value for key, value in record.items() if key not in ("caption", "captions")}


def _read_label(label: str, result: Beside) -> None:
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
                continue
            if not _is_utf8(path):
                ledger.drop(path.encode("utf-8", "replace").decode(), "not-utf8", "the file's name")
            elif entry.is_dir():
                if (identity := _identity(Path(entry.path))) in seen:
                    ledger.drop(path, "symlink-loop", os.path.realpath(entry.path))
                else:
                    seen.add(identity)
                    inner.append(path)
            else:
                _sort_file(path, entry, found, ledger)
        waiting += reversed(inner)
    found.images.sort()
    return found


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
        return True
    except UnicodeEncodeError:
        return False


def _sort_file(path: str, entry: os.DirEntry[str], found: _Scan, ledger: Ledger) -> None:
    extension = os.path.splitext(path)[1].lower()
    if extension in EXTENSIONS:
        if entry.is_file():
            found.images.append(path)
        else:
            ledger.drop(path, "missing-file" if entry.is_symlink() else "not-a-file", os.path.realpath(entry.path))
    elif extension in (".txt", ".json"):
        found.texts.add(path)
    else:
        found.others[extension or "(no extension)"] = found.others.get(extension or "(no extension)", 0) + 1
        if extension in UNREADABLE_EXTENSIONS:
            ledger.drop(path, "unsupported-format", f"a {extension} file")


def folder_manifest(root: Path, *, ledger: Ledger, notes: list[str]) -> tuple[Manifest, str]:
    """A folder of images with text beside them, of class folders, or of both.

    Returns:
        The manifest, and the layout in words.

    Raises:
        DataError: when no image is found, or none has a caption.
    """
    found = scan(root, ledger)
    if not found.images:
        raise DataError(_no_images(root, found))
    beside = {path: _read_files(root, path, found.texts) for path in found.images}
    from_folders = _class_folders(found.images, beside)
    result = Gathered()
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
            result.add(names[path], path, sample.captions or [label or ""], sample.by_language, fields)
    _orphans(found, ledger)
    if not result.ids:
        raise DataError(
            f"{root} has {len(found.images):,} images and no caption; expected NAME.txt beside NAME.jpg, a folder for each class, "
            "or a table (captions.csv with columns image,caption) in the folder."
        )
    layout = "a folder of images with text beside them" if counted["text"] else "class folders"
    layout += " and class folders" if counted["text"] and counted["folder"] else ""
    ignored = [f"{count:,} {extension}" for extension, count in sorted(found.others.items()) if extension not in UNREADABLE_EXTENSIONS]
    notes += [f"other files are not read: {', '.join(ignored)}"] if ignored else []
    return result.manifest(root=root, name=str(root)), layout


def _read_files(root: Path, path: str, texts: set[str]) -> Beside:
    stem = os.path.splitext(path)[0]

    def read(extension: str) -> bytes | None:
        name = next((n for n in (stem + extension, stem + extension.upper(), path + extension) if n in texts), None)
        if name is None:
            return None
        with (root / name).open("rb") as file:
            data = file.read(_LARGEST_TEXT + 1)
        if len(data) > _LARGEST_TEXT:
            raise ValueError(f"{name} is larger than {_LARGEST_TEXT:,} bytes")
        return data

    try:
        return read_beside(read)
    except OSError as error:
        return Beside(fault=("no-permission", error.strerror or str(error)))


def _stems(paths: Sequence[str]) -> dict[str, str]:
    """Ids: paths without extension, or whole where that would make two equal."""
    stems = [os.path.splitext(path)[0] for path in paths]
    counts: dict[str, int] = {}
    for stem in stems:
        counts[stem] = counts.get(stem, 0) + 1
    return {path: stem if counts[stem] == 1 else path for path, stem in zip(paths, stems, strict=True)}


def _class_folders(paths: Sequence[str], beside: dict[str, Beside]) -> dict[str, str]:
    """Labels from folders, empty unless some image without text lies in a folder whose name can be a class."""
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
        if extension.lower() == ".txt" and stem not in stems and os.path.basename(stem).lower() not in _NOT_CAPTIONS:
            ledger.drop(text, "no-image", f"no image named {stem}")


def _no_images(root: Path, found: _Scan) -> str:
    kinds = dict(found.others)
    for text in found.texts:
        extension = os.path.splitext(text)[1].lower()
        kinds[extension] = kinds.get(extension, 0) + 1
    listed = ", ".join(f"{count:,} {extension}" for extension, count in sorted(kinds.items(), key=lambda item: -item[1])[:8])
    expected = f"expected {', '.join(EXTENSIONS[:7])}, tar shards, or one table (.csv, .tsv, .jsonl, .parquet)"
    return f"{root} holds no image (found: {listed or 'nothing'}; {expected}); give the folder that holds them."


def shards_manifest(paths: Sequence[Path], *, name: str, ledger: Ledger, notes: list[str]) -> Manifest:
    """WebDataset tars as one manifest with byte ranges; keys that occur in several shards get the shard's name as prefix.

    Raises:
        DataError: when a tar is compressed, is no tar, or no sample is found.
    """
    root = Path(os.path.commonpath([path.parent.absolute() for path in paths]))
    result = Gathered()
    origins: list[str] = []
    for path in paths:
        before = len(result.ids)
        _add_shard(path, path.absolute().relative_to(root).as_posix(), result, ledger)
        origins += [path.stem] * (len(result.ids) - before)
    if not result.ids:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in ledger.counts().items())
        raise DataError(f"{name} holds no sample ({counts or 'no file'}); expected KEY.jpg with KEY.txt or KEY.json in {len(paths):,} tars.")
    if len(set(result.ids)) < len(result.ids):
        notes.append("keys occur in several shards: ids are SHARD/KEY")
        result.ids = [f"{origin}/{key}" for origin, key in zip(origins, result.ids, strict=True)]
    if len(set(result.ids)) < len(result.ids):
        raise DataError(f"{name} names the same shard twice or two shards of one name; give each tar once, with a name of its own.")
    return result.manifest(root=root, name=name)


def _add_shard(path: Path, place: str, result: Gathered, ledger: Ledger) -> None:
    index = shards.index(path)
    groups: dict[str, dict[str, shards.Member]] = {}
    outside: dict[str, str] = {}
    for member in index.members:
        key, extension = shards.split_name(member.name)
        if not os.path.basename(key) or "__MACOSX" in key:
            continue
        if key.startswith("/") or ".." in key.split("/"):
            outside.setdefault(f"{path.name}/{_printable(key)}", _printable(member.name))
        elif extension in groups.setdefault(key, {}):
            if extension in EXTENSIONS:
                ledger.drop(f"{path.name}/{_printable(key)}", "duplicate-key", f"{_printable(member.name)} occurs again at byte {member.offset:,}")
        else:
            groups[key][extension] = member
    for key, name in outside.items():
        ledger.drop(key, "outside-folder", f"{name} in the tar")
    with path.open("rb") as file:
        for key, group in groups.items():
            _add_sample(file, _printable(key), group, place, path, result, ledger, last=index.fault is not None and key == next(reversed(groups)))
    if index.fault:
        ledger.drop(path.name, index.fault, index.detail)


def _add_sample(
    file: Any, key: str, group: dict[str, shards.Member], place: str, path: Path, result: Gathered, ledger: Ledger, *, last: bool
) -> None:
    image = next((extension for extension in group if extension in EXTENSIONS), None) or next((e for e in group if e.endswith(EXTENSIONS)), None)
    name = f"{path.name}/{key}"
    if image is None:
        if {".txt", ".json", ".cls"} & group.keys() and not last:
            unreadable = next((e for e in group if e.endswith(UNREADABLE_EXTENSIONS)), None)
            ledger.drop(name, "unsupported-format" if unreadable else "no-image", f"found {', '.join(group)}")
        return

    def read(extension: str) -> bytes | None:
        member = group.get(extension)
        if member is None:
            return None
        if member.length > _LARGEST_TEXT:
            raise ValueError(f"{member.name} is larger than {_LARGEST_TEXT:,} bytes")
        file.seek(member.offset)
        return file.read(member.length)

    sample = read_beside(read)
    if sample.fault:
        ledger.drop(name, *sample.fault)
    elif not sample.captions:
        if not last:  # the last key of a damaged tar is part of that damage
            ledger.drop(name, "no-caption", f"found {', '.join(group)}")
    else:
        result.add(key, place, sample.captions, sample.by_language, sample.fields)
        result.offsets.append(group[image].offset)
        result.lengths.append(group[image].length)


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
