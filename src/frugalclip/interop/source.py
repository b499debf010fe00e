"""Where a model comes from, as a user writes it: a path, or a scheme with what it names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from frugalclip.core.paths import user_path
from frugalclip.core.records import read_json

_SCHEME = re.compile(r"([a-z_]{2,}):(.*)", re.DOTALL)  # one letter before a colon is a drive


@dataclass(frozen=True)
class ModelSource:
    """A MODEL string, parsed: `open_clip:ARCH@FILE`, `hf:DIR`, `timm:NAME@FILE`, `package:NAME` or a path."""

    text: str  # as written
    scheme: str  # before the colon; empty for a path
    rest: str  # behind the colon; the whole text of a path
    options: Mapping[str, Any] = field(default_factory=dict)  # settings of its reader

    @classmethod
    def parse(cls, text: str, options: Mapping[str, Any] | None = None) -> "ModelSource":
        """Split a MODEL string; nothing is read, and any scheme is accepted.

        Args:
            text: as a user writes it.
            options: settings of its reader, such as the prompts of a language model.
        """
        match = _SCHEME.fullmatch(text)
        scheme, rest = match.groups() if match else ("", text)
        return cls(text, scheme, rest, options or {})

    def __str__(self) -> str:
        return self.text

    @property
    def name(self) -> str:
        """NAME of `NAME@FILE`."""
        return self.rest.partition("@")[0]

    @property
    def file(self) -> Path | None:
        """FILE of `NAME@FILE`."""
        file = self.rest.partition("@")[2]
        return user_path(file) if file else None

    @property
    def folder(self) -> Path:
        """The folder, or the file, of a source that is one."""
        return user_path(self.rest)

    @cached_property
    def config(self) -> Mapping[str, Any] | None:
        """`config.json` of a folder of Hugging Face: empty if it holds no settings, None if there is none."""
        file = self.folder / "config.json"
        if self.scheme != "hf" or not file.is_file():
            return None
        content = read_json(file)
        return content if isinstance(content, Mapping) else {}
