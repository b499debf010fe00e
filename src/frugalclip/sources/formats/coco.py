"""COCO's JSON: a list of images, and a list of annotations that name them by number.

Captions are read where there are any. An `instances` file alone gives the names of the categories that are in
an image, each as a caption, and all of them as the field `categories`.
"""

from typing import Any, final

from frugalclip.core.errors import DataError
from frugalclip.sources.annotations import Annotations
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source
from frugalclip.sources.folder_names import split_in
from frugalclip.sources.joining import in_split, read_each
from frugalclip.sources.languages import texts_in


@final
class Coco(DataFormat):
    """Annotation files, each with its split in its name, such as `captions_val2017.json`."""

    name = "coco"
    precedence = 30

    def recognises(self, file: DataFile) -> bool:
        if not any(key in file.head for key in (b'"images"', b'"annotations"')):
            return False  # before a file of hundreds of megabytes is read
        images, annotations = file.record.get("images"), file.record.get("annotations")
        if not (isinstance(images, list) and isinstance(annotations, list) and images and annotations):
            return False
        one, other = images[0], annotations[0]
        return (
            isinstance(one, dict)
            and isinstance(other, dict)
            and _file_of(one) is not None
            and "image_id" in other
        )

    def find(self, folder: DataFolder) -> Found | None:
        files = folder.annotations(".json")
        named = [file for file in files if "caption" in file.path.name.lower()]
        for some in (named, [file for file in files if file not in named]):  # the others are large: read last
            recognised = [file for file in some if self.recognises(file)]
            captions = [file for file in recognised if _has_captions(file.record)]
            if captions or recognised:
                return Found(str(folder.path), captions or recognised, folder)
        return None

    def read(self, found: Found, options: ReadOptions) -> Source:
        return read_each(found.files, lambda file: _read_one(file, found), found.name)


def _has_captions(record: dict[str, Any]) -> bool:
    return any("caption" in one for one in record["annotations"][:100] if isinstance(one, dict))


def _read_one(file: DataFile, found: Found) -> Source:
    has_captions = _has_captions(file.record)
    kind = "COCO captions" if has_captions else "COCO instances, with categories as captions"
    annotations = Annotations()
    images, texts = _images(file), _texts(file.record, has_captions)
    for number, image in images.items():
        captions = texts.pop(number, [])
        annotations.add(
            _file_of(image) or "", captions, image_id=number, categories=None if has_captions else captions
        )
    for number in texts:
        annotations.ledger.drop(
            f"image {number}", "no-image", "annotated, and not among the images of the file"
        )
    return in_split(annotations.source(kind, file.path, found), split_in(file.path.stem))


def _images(file: DataFile) -> dict[Any, dict[str, Any]]:
    """Images by number.

    Raises:
        DataError: when one lacks its number or its file.
    """
    images: dict[Any, dict[str, Any]] = {}
    for place, image in enumerate(file.record["images"]):
        if not isinstance(image, dict) or _file_of(image) is None or "id" not in image:
            raise DataError(
                f"{file.path}: images[{place}] is not {{'id': …, 'file_name': …}}, as COCO has it; "
                "correct it or download the file again."
            )
        images[_number(image["id"])] = image
    return images


def _texts(record: dict[str, Any], has_captions: bool) -> dict[Any, list[str]]:
    """Captions of each image by number; of instances the names of its categories, each once."""
    categories = record.get("categories")
    names = {
        _number(category.get("id")): texts_in(category.get("name"))
        for category in (categories if isinstance(categories, list) else ())
        if isinstance(category, dict)
    }
    texts: dict[Any, list[str]] = {}
    for one in record["annotations"]:
        if isinstance(one, dict):
            new = (
                texts_in(one.get("caption"))
                if has_captions
                else names.get(_number(one.get("category_id")), [])
            )
            known = texts.setdefault(_number(one.get("image_id")), [])
            known += [text for text in new if has_captions or text not in known]
    return texts


def _file_of(image: dict[str, Any]) -> str | None:
    """The image's file; some who write COCO's form spell the key in another way."""
    found = next((image[key] for key in ("file_name", "filename", "file", "path") if key in image), None)
    return found if isinstance(found, str) else None


def _number(value: Any) -> int | str:
    """An id that can be compared: COCO has whole numbers, others write text."""
    return value if isinstance(value, int) else str(value)
