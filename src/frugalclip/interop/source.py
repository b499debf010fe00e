"""Where a model comes from, as a user writes it: a path, or a scheme with what it names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from frugalclip.core.paths import user_path
from frugalclip.core.records import read_json

_SELECTION = re.compile(r"(.*)#((?:key|prefix)=[^,]*(?:,(?:key|prefix)=[^,]*)?)", re.DOTALL)
_SCHEME = re.compile(r"([a-z_]{2,}):(.*)", re.DOTALL)  # one letter before a colon is a drive


@dataclass(frozen=True)
class TensorSelection:
    """Which tensors of a file a source means: `#key=ENTRY,prefix=NAMES` behind it, either or both."""

    source: str = ""  # without the selection
    key: str | None = None  # entry of a training checkpoint, dotted where it lies in another one
    prefix: str | None = None  # of the names, such as `model.`

    @classmethod
    def parse(cls, text: str) -> "TensorSelection":
        """Split a MODEL string at the selection behind it."""
        match = _SELECTION.fullmatch(text)
        if match is None:
            return cls(text)
        given = dict(pair.split("=", 1) for pair in match[2].split(","))
        return cls(match[1], given.get("key"), given.get("prefix"))

    @property
    def is_given(self) -> bool:
        """Whether there is any."""
        return self.key is not None or self.prefix is not None

    def written(self, *, key: str | None = None, prefix: str | None = None) -> str:
        """The source with another key or prefix, as a user writes it."""
        chosen = {"key": key if key is not None else self.key, "prefix": prefix or self.prefix}
        return f"{self.source}#" + ",".join(
            f"{name}={one}" for name, one in chosen.items() if one is not None
        )


EVERYTHING = TensorSelection()


@dataclass(frozen=True)
class ModelSource:
    """A MODEL string, parsed: `open_clip:ARCH@FILE`, `hf:DIR`, `timm:NAME@FILE`, `package:NAME` or a path.

    Behind all but paths may stand which tensors of the file are meant: `#key=ema,prefix=model.`
    """

    text: str  # as written
    scheme: str  # before the colon; empty for a path
    rest: str  # behind the colon, without the selection; the whole text of a path
    selection: TensorSelection = EVERYTHING
    options: Mapping[str, Any] = field(default_factory=dict)  # settings of its reader
    is_of_hub: bool = False  # a name, whose files were found in the hub's cache

    @classmethod
    def parse(cls, text: str, options: Mapping[str, Any] | None = None) -> "ModelSource":
        """Split a MODEL string; nothing is read, and any scheme is accepted.

        Args:
            text: as a user writes it.
            options: settings of its reader, such as the prompts of a language model.
        """
        match = _SCHEME.fullmatch(text)
        if match is None:
            return cls(text, "", text, options=options or {})
        if match[1] == "package":  # whose weights have one form
            return cls(text, match[1], match[2], options=options or {})
        selection = TensorSelection.parse(text)
        return cls(text, match[1], selection.source[len(match[1]) + 1 :], selection, options or {})

    def __str__(self) -> str:
        return self.text

    @property
    def absolute(self) -> str:
        """The text with absolute paths in the place of relative ones that are there.

        It names the same model from any folder.
        """
        if self.is_of_hub:
            return self.text
        head = f"{self.scheme}:" if self.scheme else ""
        selection = self.text[len(head) + len(self.rest) :]
        name, file = (self.rest, None) if self.folder.exists() else (self.name, self.file)
        return head + _if_there(name) + (f"@{_if_there(str(file))}" if file else "") + selection

    @property
    def name(self) -> str:
        """NAME of `NAME@FILE`."""
        return self.rest[: self._split]

    @property
    def file(self) -> Path | None:
        """FILE of `NAME@FILE`."""
        file = self.rest[self._split + 1 :]
        return Path(file) if file else None

    @cached_property
    def _split(self) -> int:
        """Where NAME ends: at the first @, or behind a JSON file whose folder has an @ in its name."""
        at = [place for place, sign in enumerate(self.rest) if sign == "@"]
        of_json = [place for place in at if self.rest[:place].endswith(".json")]
        is_path = "/" in self.rest[: at[0]] if at else False
        named = next((place for place in of_json if Path(self.rest[:place]).is_file()), None)
        if named is None and is_path:
            named = next(iter(of_json), None)
        return named if named is not None else next(iter(at), len(self.rest))

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


def _if_there(text: str) -> str:
    """The absolute path of what is there, or the text as it is."""
    path = user_path(text)
    return str(path.absolute()) if path.exists() else text
