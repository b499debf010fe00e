"""Arrow tables: read from Parquet that may be damaged, in plain types, and several as one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from frugalclip.core.guard import reading


def read_parquet(
    path: Path, *, advice: str, columns: Sequence[str] | None = None, id: str | None = None
) -> pa.Table:
    """The rows of a Parquet file, with text that is UTF-8.

    Args:
        path: the file.
        advice: what to do when it is damaged.
        columns: to read; None reads all.
        id: reads only rows of this id.

    Raises:
        DataError: when the file cannot be read.
    """
    with reading(path, advice=advice):
        filters = None if id is None else [("id", "=", id)]
        table = pq.read_table(path, columns=columns and list(columns), filters=filters)
        table.validate(full=True)
    return table


def concatenate_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """Rows of all tables, with all their columns. Types widen where they can, else they become text."""
    tables = [plain_types(table.replace_schema_metadata(None)) for table in tables]
    names = list(dict.fromkeys(name for table in tables for name in table.column_names))
    for column in names:
        types = {table.schema.field(column).type for table in tables if column in table.column_names} - {
            pa.null()
        }
        if len(types) > 1 and any(
            pa.types.is_map(t) for t in types
        ):  # captions by language beside plain ones: as JSON each stays what it is
            tables, types = [_as_text(table, column) for table in tables], {pa.string()}
        if any(pa.types.is_list(t) for t in types):
            tables = [_as_lists(table, column) for table in tables]
            types = {pa.list_(t) if not pa.types.is_list(t) else t for t in types}
        if len(types) > 1 and not all(is_number(t) for t in types):
            tables = [_as_text(table, column) for table in tables]
    return pa.concat_tables(tables, promote_options="permissive").select(names)


def plain_types(table: pa.Table) -> pa.Table:
    """The same values in the types of this library.

    Other writers use large strings, categories, nanoseconds, and other names for the items of lists.
    """
    for position, column in enumerate(table.schema):
        if (kind := _plain_type(column.type)) != column.type or pa.types.is_nested(kind):
            # not safe: Python has no times below the microsecond
            table = table.set_column(position, column.name, table[column.name].cast(kind, safe=False))
    return table


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([child.with_type(_plain_type(child.type)) for child in kind])
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    return pa.string() if pa.types.is_large_string(kind) else kind


def is_number(kind: pa.DataType) -> bool:
    """Whether a column holds whole numbers or floats."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _as_text(table: pa.Table, column: str) -> pa.Table:
    if column not in table.column_names or pa.types.is_string(table.schema.field(column).type):
        return table
    values = table[column].to_pylist()
    if pa.types.is_map(table.schema.field(column).type):
        values = [None if value is None else dict(value) for value in values]
    values = [_text(value) for value in values]
    return table.set_column(table.column_names.index(column), column, pa.array(values, pa.string()))


def _as_lists(table: pa.Table, column: str) -> pa.Table:
    """A column of single values as lists of one, so that it goes with a column of lists."""
    kind = table.schema.field(column).type if column in table.column_names else pa.null()
    if pa.types.is_list(kind) or pa.types.is_null(kind):
        return table
    values = [None if value is None else [value] for value in table[column].to_pylist()]
    return table.set_column(table.column_names.index(column), column, pa.array(values, pa.list_(kind)))


def _text(value: Any) -> str | None:
    return (
        value
        if value is None or isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, default=str)
    )
