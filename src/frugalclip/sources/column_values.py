"""What the values of a column are, by their type and by the first of them."""

import re
from typing import Any

import pyarrow as pa

from frugalclip.sources.caption_values import caption_value, is_conversation, is_structured, parsed
from frugalclip.sources.column_names import INDEX_NAMES, LABEL_NAMES, plain_name

_URL = re.compile(r"(?!file:)[a-zA-Z][a-zA-Z0-9+.-]{1,12}://")
PROBED = 200  # rows read when content decides


def holds_bytes(kind: pa.DataType) -> str | None:
    """How the bytes of images lie in a type; None for a type without any.

    The answer is the end of a dotted name: '' for bytes, '.bytes' for Hugging Face's struct of bytes and
    path, and '[]' before either for lists of them.
    """
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return ""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = holds_bytes(kind.value_type)
        return f"[]{inner}" if inner in ("", ".bytes") else None
    if pa.types.is_struct(kind) and any(
        child.name == "bytes" and holds_bytes(child.type) == "" for child in kind
    ):
        return ".bytes"
    return None


def is_structured_column(column: pa.ChunkedArray) -> bool:
    """Whether most values of a column are structures without captions, such as boxes as JSON."""
    if pa.types.is_string(column.type):
        return share_of(column, is_structured) > 0.5
    values = [value for value in column.slice(0, PROBED).to_pylist() if value]
    return pa.types.is_nested(column.type) and any(caption_value(value).is_structured for value in values)


def holds_conversations(column: pa.ChunkedArray) -> bool:
    """Whether a column holds conversations, as LLaVA's does."""
    if not (pa.types.is_list(column.type) or pa.types.is_string(column.type)):
        return False
    values = [value for value in column.slice(0, PROBED).to_pylist() if value]
    return bool(values) and sum(is_conversation(parsed(value)) for value in values) > len(values) / 2


def is_class_numbers(table: pa.Table, name: str) -> bool:
    """Whether a column has a name for labels and holds numbers only."""
    kind = table.schema.field(name).type
    if plain_name(name) not in (*LABEL_NAMES, *INDEX_NAMES):
        return False
    return pa.types.is_integer(kind) or (
        pa.types.is_string(kind) and share_of(table[name], str.isdigit) == 1.0
    )


def share_of(column: pa.ChunkedArray, test: Any) -> float:
    """Share of the first texts of a column that pass a test."""
    values = [text for text in column.slice(0, PROBED).to_pylist() if text]
    return sum(bool(test(text.strip())) for text in values) / len(values) if values else 0.0


def mean_length(column: pa.ChunkedArray) -> float:
    """Mean length of the first texts of a column."""
    values = [text for text in column.slice(0, PROBED).to_pylist() if text]
    return sum(map(len, values)) / max(len(values), 1)


def is_texts(kind: pa.DataType) -> bool:
    """Text, or lists of text."""
    return pa.types.is_string(kind) or (pa.types.is_list(kind) and pa.types.is_string(kind.value_type))


def is_captions(kind: pa.DataType) -> bool:
    """Text, lists of text, records with a text inside, or languages as keys."""
    if pa.types.is_list(kind):
        return is_captions(kind.value_type)
    return (
        pa.types.is_string(kind)
        or pa.types.is_map(kind)
        or (pa.types.is_struct(kind) and any(is_captions(child.type) for child in kind))
    )


def may_hold_languages(kind: pa.DataType) -> bool:
    """Whether values of a type may be captions by language."""
    return (
        pa.types.is_map(kind)
        or pa.types.is_struct(kind)
        or pa.types.is_list(kind)
        or pa.types.is_string(kind)
    )


def is_url(text: str) -> bool:
    """Whether a text is a web address."""
    return bool(_URL.match(text))
