"""Captions of Flickr8k and Flickr30k as published: `1000092795.jpg#0<TAB>Two young guys .` a line.

Lists beside such as `Flickr_8k.trainImages.txt` give the field `split`.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import final

from frugalclip.sources.annotations import Annotations
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.captions import decoded, mended
from frugalclip.sources.folder_names import split_in
from frugalclip.sources.joining import read_each

_LINE = re.compile(r"(?P<image>[^\t]+\.\w{2,5})#(?:\w+#)*(?P<number>\w+)[\t ]+(?P<caption>.*)")
_LISTS = re.compile(r".*(?:train|dev|val|test)\w*\.(?:txt|lst)", re.IGNORECASE)
_LARGEST_LIST = 2**24  # bytes


@final
class FlickrTokens(DataFormat):
    """A file of tokens, or the folder that holds one."""

    name = "flickr"
    precedence = 40

    def recognises(self, file: DataFile) -> bool:
        if not file.ends_with(".token", ".txt", ".tokens"):
            return False
        lines = [line for line in file.head.decode("utf-8", "replace").splitlines()[:20] if line.strip()]
        matching = sum(bool(_LINE.fullmatch(line.strip())) for line in lines)
        return matching > len(lines) / 2

    def find(self, folder: DataFolder) -> Found | None:
        files = [f for f in folder.annotations(".token", ".txt", ".tokens") if self.recognises(f)]
        plain = [file for file in files if "lemma" not in file.path.name.lower()] or files
        return Found(str(folder.path), plain[:1], folder) if files else None

    def read(self, found: Found, options: ReadOptions) -> Source:
        return read_each(found.files, lambda file: _read_one(file, found, options.mend), found.name)


def _read_one(file: DataFile, found: Found, mend: bool) -> Source:
    annotations = Annotations()
    captions: dict[str, list[str]] = {}
    for number, raw in enumerate(file.path.read_bytes().split(b"\n"), start=1):
        line = _text(raw, mend)
        if line is None:
            annotations.ledger.drop(f"line {number}", "not-utf8", ascii(raw[:60]))
        elif match := _LINE.fullmatch(line.strip()):
            captions.setdefault(match["image"].strip(), []).append(match["caption"].strip())
        elif line.strip():
            annotations.ledger.drop(f"line {number}", "wrong-columns", line.strip()[:100])
    splits = _splits_beside(file.path, captions.keys())
    for image, texts in captions.items():
        annotations.add(image, texts, split=splits.get(image))
    return annotations.source("Flickr's tokens", file.path, found)


def _text(raw: bytes, mend: bool) -> str | None:
    try:
        return decoded(raw)
    except UnicodeDecodeError:
        reading = mended(raw) if mend else None
        return reading[0] if reading else None


def _splits_beside(path: Path, known: Collection[str]) -> dict[str, str]:
    """Image -> split, from lists of images beside."""
    found: dict[str, str] = {}
    for place in sorted(path.parent.iterdir()):
        split = (
            split_in(re.sub(r"([a-z])([A-Z])", r"\1_\2", place.stem))
            if _LISTS.fullmatch(place.name)
            else None
        )
        if split is None or place == path or not place.is_file() or place.stat().st_size > _LARGEST_LIST:
            continue
        names = place.read_bytes().decode("utf-8", "replace").split()
        if names and all(name in known for name in names):
            found |= dict.fromkeys(names, split)
    return found
