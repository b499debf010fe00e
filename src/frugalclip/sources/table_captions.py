"""Captions of the rows of a table, of every column that has some."""

from dataclasses import dataclass, field

import pyarrow as pa

from frugalclip.core.errors import DataError
from frugalclip.sources.caption_values import caption_value, parsed
from frugalclip.sources.columns import Roles
from frugalclip.sources.languages import is_code, languages_in, texts_in, training_captions


@dataclass
class TableCaptions:
    """Captions of rows, before those that nobody can read are left out."""

    texts: list[list[str]]
    by_language: list[dict[str, list[str]]]
    structured: dict[int, str] = field(default_factory=dict)  # row -> the column that holds a structure


def captions_of(table: pa.Table, roles: Roles, *, where: str) -> TableCaptions:
    """Captions of every row, and by language where the table has languages.

    Args:
        table: the rows.
        roles: which column is what.
        where: the file, for messages.

    Raises:
        DataError: when a caption column holds structures and no caption.
    """
    found = TableCaptions([[] for _ in range(table.num_rows)], [{} for _ in range(table.num_rows)])
    for name in roles.captions:
        _add_column(found, table, name, is_label=roles.is_label(name), where=where)
    for language, name in roles.languages:
        for row, value in enumerate(table[name].to_pylist()):
            if texts := texts_in(parsed(value)):
                found.by_language[row][language] = texts
    if roles.by_language:
        for row, value in enumerate(table[roles.by_language].to_pylist()):
            found.by_language[row].update(languages_in(parsed(value)))
    if roles.code:
        for row, value in enumerate(table[roles.code].to_pylist()):
            if value and found.texts[row] and is_code(value.strip()):
                found.by_language[row][value.strip().replace("_", "-")] = found.texts[row]
    for row, languages in enumerate(found.by_language):
        found.texts[row] = found.texts[row] or training_captions(languages)
    return found


def _add_column(found: TableCaptions, table: pa.Table, name: str, *, is_label: bool, where: str) -> None:
    structured: list[int] = []
    has_captions = False
    for row, value in enumerate(table[name].to_pylist()):
        one = caption_value(value, is_label=is_label)
        found.texts[row] += one.texts
        found.by_language[row].update(one.by_language)
        has_captions |= bool(one.texts or one.by_language)
        structured += [row] if one.is_structured else []
    if structured and not has_captions:
        excerpt = str(table[name][structured[0]].as_py())[:80]
        raise DataError(
            f"'{name}' of {where} holds structures, such as {excerpt}, expected text; "
            "name the column of captions with data.columns.caption=NAME."
        )
    found.structured |= dict.fromkeys(structured, name)
