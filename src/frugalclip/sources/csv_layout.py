"""How a CSV file is written: separator, header, spaces before quotes, and the line of Excel that names it."""

import codecs
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from frugalclip.data.images import EXTENSIONS
from frugalclip.sources.captions import mended
from frugalclip.sources.column_names import CAPTION_NAMES, IMAGE_NAMES, plain_name

HEAD = 2**16  # characters by which a file's layout is recognised
_SEPARATORS = (",", "\t", ";", "|")
_DECLARED = re.compile(r'"?sep=(.|\\t)"?[,;|\t]*\r?\n', re.IGNORECASE)
_ROWS = 100  # that are compared


@dataclass(frozen=True)
class CsvLayout:
    """How the rows of a file are divided into cells."""

    separator: str
    names: list[str]  # of the columns
    has_header: bool
    skips_spaces: bool = False  # spaces between a separator and a quote do not count
    is_declared: bool = False  # the first line is `sep=;`

    def reader(self, lines: Iterable[str]) -> Any:
        """Rows of lines."""
        return csv.reader(lines, delimiter=self.separator, skipinitialspace=self.skips_spaces)

    @property
    def in_words(self) -> str:
        """A remark for the reader."""
        shown = "TAB" if self.separator == "\t" else repr(self.separator)
        return f"separator {shown}" + ("" if self.has_header else ", no header: columns are numbered")


def csv_layout(head: str, suffix: str) -> CsvLayout:
    """The layout of a file.

    Args:
        head: its beginning, not blank, where bytes that are no UTF-8 are lone surrogates.
        suffix: of its name.
    """
    declared = _DECLARED.match(head)
    head = head[declared.end() :] if declared else head
    whole = head if len(head) < HEAD - 16 else head[: head.rfind("\n") + 1] or head
    separator = declared[1].replace("\\t", "\t") if declared else _separator(whole, suffix)
    skips = _skips_spaces(whole, separator)
    first = next(iter(_rows(whole, separator, skips)), [""])
    has_header = not any(_is_image(cell) for cell in first)
    names = _unique(_header(first)) if has_header else _numbered(len(first))
    return CsvLayout(separator, names, has_header, skips, declared is not None)


def text_head(data: bytes) -> str:
    """The beginning of a file as text: UTF-16 by its mark, else UTF-8."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data[: len(data) // 2 * 2].decode("utf-16", "replace")
    return data.decode("utf-8-sig", "surrogateescape")


def _rows(text: str, separator: str, skips_spaces: bool) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=skips_spaces)
    try:
        return [row for row in itertools.islice(reader, _ROWS) if row]
    except csv.Error:  # a cell beyond all bounds
        return []


def _separator(whole: str, suffix: str) -> str:
    """The separator whose rows agree best with the first one, then by known column names, then by suffix."""
    known = {*IMAGE_NAMES, *CAPTION_NAMES}

    def score(separator: str) -> tuple[float, ...]:
        rows = _rows(whole, separator, _skips_spaces(whole, separator))
        if not rows or len(rows[0]) < 2:
            return 0.0, 0.0, 0.0
        recognised = sum(plain_name(cell) in known or _is_image(cell) for cell in rows[0])
        return recognised, _agreement(rows), separator == "\t" and suffix == ".tsv"

    return max(_SEPARATORS, key=score)


def _skips_spaces(whole: str, separator: str) -> bool:
    """Whether more rows are whole where a quote may stand behind spaces, as in `a.jpg, "a dog, a cat"`."""
    if not re.search(rf'{re.escape(separator)} +"', whole):
        return False
    return _agreement(_rows(whole, separator, True)) > _agreement(_rows(whole, separator, False))


def _agreement(rows: list[list[str]]) -> float:
    """Share of rows with as many cells as the first one."""
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows) if rows else 0.0


def _is_image(cell: str) -> bool:
    return cell.strip().lower().endswith(EXTENSIONS)


def _header(cells: list[str]) -> list[str]:
    """Cells of the header as text, where they are not UTF-8 too."""
    raw = "\n".join(cells).encode("utf-8", "surrogateescape")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        found = mended(raw)
        text = found[0] if found else raw.decode("utf-8", "replace")
    return [cell.strip() for cell in text.split("\n")] if text.count("\n") == len(cells) - 1 else cells


def _numbered(count: int) -> list[str]:
    return [f"column_{number}" for number in range(1, count + 1)]


def _unique(names: list[str]) -> list[str]:
    """Header cells as column names: empty ones numbered, repeated ones told apart."""
    seen: Counter[str] = Counter()
    result: list[str] = []
    for number, name in enumerate(names, start=1):
        name = name or f"column_{number}"
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return result
