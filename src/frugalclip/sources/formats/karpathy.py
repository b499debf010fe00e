"""Karpathy's JSON of COCO, Flickr8k and Flickr30k: images with their sentences and their split.

Source: Karpathy & Fei-Fei 2015, arXiv 1412.2306, `dataset_coco.json` as published. COCO has a split
`restval`, the rest of its validation images, which papers train on.
"""

from pathlib import PurePosixPath
from typing import final

from frugalclip.sources.annotations import Annotations
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.joining import read_each
from frugalclip.sources.languages import texts_in


@final
class Karpathy(DataFormat):
    """`{"images": [{"filename", "sentences": [{"raw"}], "split"}], "dataset": "coco"}`."""

    name = "karpathy"
    precedence = 20

    def recognises(self, file: DataFile) -> bool:
        if b'"sentences"' not in file.head and b'"sentids"' not in file.head:
            return False  # before a file of hundreds of megabytes is read
        images = file.record.get("images")
        one = images[0] if isinstance(images, list) and images else None
        return isinstance(one, dict) and "filename" in one and isinstance(one.get("sentences"), list)

    def find(self, folder: DataFolder) -> Found | None:
        files = [file for file in folder.annotations(".json") if self.recognises(file)]
        return Found(str(folder.path), files, folder) if files else None

    def read(self, found: Found, options: ReadOptions) -> Source:
        return read_each(found.files, lambda file: _read_one(file, found), found.name)


def _read_one(file: DataFile, found: Found) -> Source:
    annotations = Annotations()
    for place, image in enumerate(file.record["images"]):
        if not isinstance(image, dict) or not isinstance(image.get("filename"), str):
            annotations.ledger.drop(f"image {place + 1}", "no-image", "without a filename")
            continue
        path = PurePosixPath(str(image.get("filepath") or ""), image["filename"])
        fields = {name: image.get(name) for name in ("split", "imgid", "cocoid")}
        annotations.add(str(path), texts_in(image.get("sentences")), **fields)
    splits = {str(image.get("split")) for image in file.record["images"] if isinstance(image, dict)}
    if {"restval", "train"} <= splits:
        annotations.notes.append('papers train on restval too: data.where="split=train|restval"')
    return annotations.source("Karpathy's JSON", file.path, found)
