"""Values of table-like sources in the narrowest type that loses nothing."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute

from frugalclip.data.manifest import CAPTIONS_BY_LANGUAGE
from frugalclip.sources.caption_values import answers_in, is_conversation
from frugalclip.sources.column_names import BY_LANGUAGE_NAMES, TEXT_NAMES, plain_name
from frugalclip.sources.languages import (
    languages_in,
    texts_in,
)

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers


def typed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as the narrowest type that loses nothing: bool, int64, double, or text ('007'); '' is null."""
    if not pa.types.is_string(column.type):
        return column
    text = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    distinct = pc.unique(text).drop_null()
    if not len(distinct):
        return pa.chunked_array([pa.nulls(len(column))])
    if pc.all(pc.is_in(pc.utf8_lower(distinct), pa.array(["true", "false"]))).as_py():
        return pc.equal(pc.utf8_lower(text), "true")
    if pc.all(pc.match_substring_regex(distinct, r"^(0|-?[1-9][0-9]{0,17})$")).as_py():
        return text.cast(pa.int64())
    if pc.all(
        pc.match_substring_regex(distinct, r"^(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?|nan|NaN)$")
    ).as_py():
        return text.cast(pa.float64())
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def rows_to_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """JSON objects as a table of all their keys; values that do not share a type become JSON text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: column_of([row.get(name) for row in rows], name) for name in names})


def column_of(values: list[Any], name: str) -> pa.Array:
    """JSON values of one key as an array; objects stay objects only where they may be captions."""
    if plain_name(name) in TEXT_NAMES or plain_name(name) in BY_LANGUAGE_NAMES:
        languages = [languages_in(value) if isinstance(value, (dict, list)) else {} for value in values]
        if any(languages) and all(found or not value for found, value in zip(languages, values, strict=True)):
            return pa.array(
                [list(found.items()) if found else None for found in languages], CAPTIONS_BY_LANGUAGE
            )
        if any(languages):  # some rows have languages, some have none: `captions_of` reads each
            return pa.array([as_text(value) for value in values], pa.string())
    if plain_name(name) not in TEXT_NAMES:
        values = [as_text(value) if _has_objects(value) else value for value in values]
    elif any(
        _has_objects(value) and isinstance(value, list) for value in values
    ):  # records such as {"raw": "a dog", "tokens": [...]}
        values = [None if value is None else _texts(value) for value in values]
    if any(isinstance(value, list) for value in values):  # one caption or several: a list either way
        values = [value if value is None or isinstance(value, list) else [value] for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        numbers = all(
            value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
            for value in values
        )
        if numbers:
            return pa.array([None if value is None else float(value) for value in values], pa.float64())
        return pa.array([as_text(value) for value in values], pa.string())


def _texts(value: Any) -> list[str]:
    """Captions of records, or the first answer of a conversation."""
    return answers_in(value)[:1] if is_conversation(value) else texts_in(value)


def as_text(value: Any) -> str | None:
    """Text as it is, anything else as JSON, None as None."""
    return (
        value
        if value is None or isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, default=str)
    )


def _has_objects(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)
    )
