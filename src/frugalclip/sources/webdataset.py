"""Tar shards as manifests: members of one key are a sample, and its image is a range of bytes."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from frugalclip.core.errors import DataError
from frugalclip.data.images import EXTENSIONS, UNREADABLE_EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest
from frugalclip.sources import tar_index as shards
from frugalclip.sources.class_lists import class_names
from frugalclip.sources.folders import SampleColumns
from frugalclip.sources.sidecars import LARGEST_TEXT, SidecarTexts, TooLong, read_beside
from frugalclip.sources.tar_index import Member

_TEXTS = (".txt", ".json", ".cls")


def shards_manifest(
    paths: Sequence[Path], *, name: str, ledger: Ledger, notes: list[str], mend: bool = False
) -> Manifest:
    """WebDataset tars as one manifest with byte ranges; keys that occur twice get their shard's name.

    Raises:
        DataError: when the only tar is compressed or no tar, or no sample is found.
    """
    root = Path(os.path.commonpath([path.parent.absolute() for path in paths]))
    reader = _ShardReader(root, ledger, mend)
    refusals: list[DataError] = []
    for path in paths:
        try:
            reader.add(path)
        except DataError as error:  # among good shards one that is none is a fault like any other
            refusals.append(error)
            ledger.drop(path.name, "not-a-shard", str(error))
        except OSError as error:
            refusals.append(DataError(f"{path} cannot be read ({error.strerror}); check its permissions."))
            ledger.drop(path.name, "no-permission", error.strerror or "")
    result = reader.result
    if not result.ids:
        if refusals:
            raise refusals[0]
        counts = ledger.in_words() or "no file"
        raise DataError(
            f"{name} holds no sample ({counts}); expected KEY.jpg with KEY.txt or KEY.json in {len(paths):,} "
            "tars."
        )
    keys = result.ids
    if len(set(keys)) < len(keys):
        notes.append("keys occur in several shards: ids are SHARD/KEY")
        result.ids = [f"{origin}/{key}" for origin, key in zip(reader.origins, keys, strict=True)]
    if len(set(result.ids)) < len(result.ids):
        raise DataError(
            f"{name} names the same shard twice or two shards of one name; give each tar once, "
            "with a name of its own."
        )
    for row, how in reader.mended.items():
        ledger.remark(result.ids[row], "repaired", how)
    notes += reader.notes()
    return result.manifest(root=root, name=name)


class _ShardReader:
    """Samples of one tar after another."""

    def __init__(self, root: Path, ledger: Ledger, mend: bool) -> None:
        self.root, self.ledger, self.mend = root, ledger, mend
        self.result = SampleColumns()
        self.origins: list[str] = []
        self.mended: dict[int, str] = {}
        self.ignored: dict[str, int] = {}  # what -> members
        self.classes: dict[tuple[Path, str], list[str]] = {}  # folder of a tar and number -> names

    def notes(self) -> list[str]:
        return [f"{what}: {count:,}" for what, count in self.ignored.items()]

    def add(self, path: Path) -> None:
        index = shards.index(path)
        groups = self._groups(path, index.members)
        place = path.absolute().relative_to(self.root).as_posix()
        taken: dict[str, int] = {}
        with path.open("rb") as file:
            samples = [sample for key, group in groups.items() for sample in divided(key, group)]
            for number, (key, group) in enumerate(samples, start=1):
                is_last = index.fault is not None and number == len(samples)
                shown = _printable(key)
                taken[shown] = taken.get(shown, 0) + 1
                shown = (
                    shown if taken[shown] == 1 else f"{shown}#{taken[shown]}"
                )  # names that are no text may look alike
                self._add_sample(file, shown, group, place, path, is_last=is_last)
        for member in index.links:
            if shards.split_name(member)[1].endswith(EXTENSIONS):
                self.ledger.drop(
                    f"{path.name}/{_printable(member)}",
                    "not-a-file",
                    "a link, device or sparse file in a tar",
                )
        self.origins += [path.stem] * (len(self.result.ids) - len(self.origins))
        if index.fault:
            self.ledger.drop(path.name, index.fault, index.detail)

    def _groups(self, path: Path, members: Sequence[Member]) -> dict[str, dict[str, Member]]:
        """Key -> extension -> member, without what is hidden, repeated, or leaves the folder."""
        groups: dict[str, dict[str, Member]] = {}
        outside: dict[str, str] = {}
        for member in members:
            key, extension = shards.split_name(member.name)
            if not os.path.basename(key) or "__MACOSX" in key:
                self._ignore("hidden members are not read")
            elif key.startswith("/") or ".." in key.split("/"):
                outside.setdefault(f"{path.name}/{_printable(key)}", _printable(member.name))
            elif extension not in groups.setdefault(key, {}):
                groups[key][extension] = member
            elif extension in EXTENSIONS:
                detail = f"{_printable(member.name)} occurs again at byte {member.offset:,}"
                self.ledger.drop(f"{path.name}/{_printable(key)}", "duplicate-key", detail)
            else:
                self._ignore("members that repeat a name are not read")
        for key, name in outside.items():
            self.ledger.drop(key, "outside-folder", f"{name} in the tar")
        return groups

    def _ignore(self, what: str) -> None:
        self.ignored[what] = self.ignored.get(what, 0) + 1

    def _add_sample(
        self, file: Any, key: str, group: dict[str, Member], place: str, path: Path, *, is_last: bool
    ) -> None:
        image = next((extension for extension in group if extension in EXTENSIONS), None) or next(
            (e for e in group if e.endswith(EXTENSIONS)), None
        )
        name = f"{path.name}/{key}"
        if image is None:
            unreadable = next((e for e in group if e.endswith(UNREADABLE_EXTENSIONS)), None)
            if unreadable or (set(_TEXTS) & group.keys() and not is_last):
                self.ledger.drop(
                    name, "unsupported-format" if unreadable else "no-image", f"found {', '.join(group)}"
                )
            elif not is_last:
                self._ignore("keys without an image, caption or record are not read")
            return
        sample = read_beside(_reader(file, group), mend=self.mend)
        self._name_class(sample, path)
        if sample.fault:
            self.ledger.drop(name, *sample.fault)
        elif not sample.captions:
            if not is_last:  # the last key of a damaged tar is part of that damage
                self.ledger.drop(name, "no-caption", f"found {', '.join(group)}")
        else:
            if sample.mended:
                self.mended[len(self.result.ids)] = sample.mended
            self.result.add(key, place, sample.captions, sample.by_language, sample.fields)
            self.result.offsets.append(group[image].offset)
            self.result.lengths.append(group[image].length)
            for other in [e for e in group if e.endswith(EXTENSIONS) and e != image]:
                self.ledger.drop(f"{name}{other}", "another-image", f"{image} is read")

    def _name_class(self, sample: SidecarTexts, path: Path) -> None:
        """Give a sample with the number of a class its name, where a list of names lies near the tar."""
        number = sample.fields.get("cls")
        if not isinstance(number, int):
            return
        key = path.parent, str(number)
        if key not in self.classes:
            self.classes[key] = class_names(path.parent, {str(number)}).get(str(number), [])
        if names := self.classes[key]:
            sample.fields.setdefault("label", names[0])
            sample.captions = sample.captions or list(names)


def divided(key: str, group: dict[str, Member]) -> list[tuple[str, dict[str, Member]]]:
    """Samples of a key that ends at the first dot.

    Names such as `22.05.png` hold dots of their own: where that makes pairs, or several images without a
    caption, keys end at the last dot. An image and a text that share the key only, `a.image.png` and
    `a.caption.txt`, are a pair.
    """
    images = [extension for extension in group if extension.endswith(EXTENSIONS)]
    by_last: dict[str, dict[str, Member]] = {}
    for extension, member in group.items():
        stem, _, last = extension.rpartition(".")
        by_last.setdefault(f"{key}{stem}", {})[f".{last}"] = member
    has_text = any(extension in group for extension in _TEXTS)
    if any(name != key and _is_pair(inner) for name, inner in by_last.items()):
        return list(by_last.items())
    if not images or has_text:
        return [(key, group)]
    if len(images) > 1:
        return list(by_last.items())
    texts = [extension for extension in group if extension.endswith(_TEXTS)]
    endings = [f".{extension.rpartition('.')[2]}" for extension in texts]
    if len(set(endings)) < len(endings):
        return [(key, group)]
    return [(key, group | {end: group[text] for end, text in zip(endings, texts, strict=True)})]


def _is_pair(group: dict[str, Member]) -> bool:
    return any(e in group for e in EXTENSIONS) and any(e in group for e in _TEXTS)


def _reader(file: Any, group: dict[str, Member]) -> Callable[[str], bytes | None]:
    """Gives the bytes of a sample's member by extension."""

    def read(extension: str) -> bytes | None:
        member = group.get(extension)
        if member is None:
            return None
        if member.length > LARGEST_TEXT:
            raise TooLong(f"{_printable(member.name)} is larger than {LARGEST_TEXT:,} bytes")
        file.seek(member.offset)
        return file.read(member.length)

    return read


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
