"""Postings that are kept: read where they are of these captions, written anew where they are not."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frugalclip.auditing.concepts import caption_postings
from frugalclip.auditing.postings import Postings
from frugalclip.auditing.words import WordForms
from frugalclip.core.checksums import NAME as CHECKSUMS
from frugalclip.core.checksums import Checksums, verify_checksums, write_checksums
from frugalclip.core.errors import DataError, FrugalclipError
from frugalclip.core.guard import parse_json
from frugalclip.core.locks import writing_file
from frugalclip.core.paths import user_path
from frugalclip.core.records import publish_folder, read_json, write_json
from frugalclip.core.stored import read_record
from frugalclip.data.manifest import Manifest

VERSION = 2
_HEAD = "postings.json"


@contextmanager
def postings_of(manifest: Manifest, forms: WordForms, folder: str | Path | None) -> Iterator[Postings]:
    """The postings of a data set's captions.

    Args:
        manifest: the data set.
        forms: splits captions into words.
        folder: where they are kept; None writes them to a temporary folder.

    Raises:
        DataError: when the folder holds something else.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="frugalclip-postings-") as temporary:
            yield caption_postings(manifest, forms, Path(temporary))
        return
    place = user_path(folder)
    key = {"version": VERSION, "captions": manifest.fingerprint(), "words": forms.about}
    key = parse_json(json.dumps(key))  # as it is read again
    if not (place / _HEAD).is_file() and place.exists() and any(place.iterdir()):
        raise DataError(f"{place} holds something else than postings; name a new folder with --postings DIR.")
    if not _is_whole(place, key):
        with writing_file(place), publish_folder(place) as building:
            caption_postings(manifest, forms, building)
            names = [path.name for path in building.iterdir()]
            write_json(building / _HEAD, key)
            write_checksums(building, [*names, _HEAD])
    yield Postings(place)


def _is_whole(place: Path, key: dict[str, Any]) -> bool:
    """Whether a folder holds the postings of these captions, and every byte of them."""
    try:
        names = read_record(place / CHECKSUMS, Checksums).files
        verify_checksums(place, names)
        return _HEAD in names and read_json(place / _HEAD, error=DataError) == key
    except (FrugalclipError, OSError):  # it is written anew
        return False
