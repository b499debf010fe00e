"""Data sets of captions alone, for tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frugalclip.data.manifest import Manifest, image_places, make_manifest


def manifest_of(captions: Sequence[Sequence[str]], **fields: Any) -> Manifest:
    """A manifest whose images are not there."""
    ids = [f"{row:04d}" for row in range(len(captions))]
    return make_manifest(
        ids=ids,
        images=image_places([f"{id}.png" for id in ids]),
        captions=captions,
        fields=fields,
        root=Path(),
        name="captions",
    )
