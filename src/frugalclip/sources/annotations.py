"""Samples of an annotation file: images by path, each with its captions and fields."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from frugalclip.data.ledger import Ledger
from frugalclip.sources.assembling import assemble
from frugalclip.sources.base import Found, Source
from frugalclip.sources.columns import Roles
from frugalclip.sources.reading import READING
from frugalclip.sources.rows import RawTable
from frugalclip.sources.values import column_of

_IMAGE, _CAPTIONS = "image", "captions"


@dataclass
class Annotations:
    """Images of an annotation file, before it is known which of them are there."""

    ledger: Ledger = field(default_factory=lambda: Ledger(READING))
    notes: list[str] = field(default_factory=list)
    _images: list[str] = field(default_factory=list)
    _captions: list[list[str]] = field(default_factory=list)
    _fields: list[dict[str, Any]] = field(default_factory=list)
    _ignored: Counter[str] = field(default_factory=Counter)

    def add(self, image: str, captions: list[str], **fields: Any) -> None:
        """Add an image; fields that are None are left out."""
        try:
            json.dumps((image, captions, fields), ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:  # escapes such as \ud800 are valid JSON and no text
            self.ledger.drop(f"image {len(self._images) + 1}", "not-utf8", ascii(image)[:100])
            return
        self._images.append(image)
        self._captions.append(captions)
        self._fields.append({name: value for name, value in fields.items() if value is not None})

    def ignore(self, what: str) -> None:
        """Count something that is not read."""
        self._ignored[what] += 1

    def source(self, kind: str, file: Path, found: Found) -> Source:
        """The images that are there.

        Args:
            kind: of the data set, in plain words.
            file: with the annotations; paths start from its folder.
            found: what the user named.

        Raises:
            DataError: when none is there.
        """
        names = list(dict.fromkeys(name for row in self._fields for name in row))
        columns = {name: column_of([row.get(name) for row in self._fields], name) for name in names}
        table = pa.table(
            {
                _IMAGE: pa.array(self._images, pa.string()),
                _CAPTIONS: pa.array(self._captions, pa.list_(pa.string())),
                **columns,
            }
        )
        raw = RawTable(table, np.arange(1, len(self._images) + 1))
        root = found.folder.path if found.folder else None
        roles = Roles(_IMAGE, (_CAPTIONS,))
        manifest = assemble(raw, roles, file, self.ledger, self.notes, root=root)
        self.notes += [f"{what}: {count:,}" for what, count in self._ignored.items()]
        return Source(manifest, kind, self.ledger, self.notes)
