"""Where a model comes from, as a user writes it: a path, or a scheme with what it names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from frugalclip.core.records import read_json

SCHEMES = ("open_clip", "hf", "timm", "package")
"""Prefixes before a colon; whatever else is written is a path."""


@dataclass(frozen=True)
class ModelSource:
    """A MODEL string, parsed: `open_clip:ARCH@FILE`, `hf:DIR`, `timm:NAME@FILE`, `package:NAME` or a path."""

    text: str  # as written
    scheme: str  # one of `SCHEMES`, or nothing for a path
    name: str  # the architecture, folder or part; the path where there is no scheme
    file: Path | None = None  # of weights, behind @
    options: Mapping[str, Any] = field(default_factory=dict)  # settings of its reader

    @classmethod
    def parse(cls, text: str, options: Mapping[str, Any] | None = None) -> "ModelSource":
        """Split a MODEL string; nothing is read.

        Args:
            text: as a user writes it.
            options: settings of its reader, such as the prompts of a language model.
        """
        scheme, _, rest = text.partition(":")
        if scheme not in SCHEMES:
            return cls(text, "", text, options=options or {})
        name, at, file = rest.partition("@") if scheme in ("open_clip", "timm") else (rest, "", "")
        return cls(text, scheme, name, Path(file) if at and file else None, options or {})

    def __str__(self) -> str:
        return self.text

    @property
    def folder(self) -> Path:
        """The folder, or the file, of a source that is one."""
        return Path(self.name)

    @cached_property
    def config(self) -> Mapping[str, Any] | None:
        """`config.json` of a folder of Hugging Face: empty if it holds no settings, None if there is none."""
        file = self.folder / "config.json"
        if self.scheme not in ("hf", "") or not file.is_file():
            return None
        content = read_json(file)
        return content if isinstance(content, Mapping) else {}
