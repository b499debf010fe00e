"""The little language of `where`: `split=train,skin_tone=null,category=a|b,style!=noto`."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from frugalclip.core.errors import DataError, known_names
from frugalclip.data.ledger import LedgerStage

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers

SELECTION = LedgerStage(
    "select", {"filtered": "the condition leaves it out"}, harmless=frozenset({"filtered"})
)
_HIDDEN = ("image", "captions_by_language")


@dataclass(frozen=True)
class Clause:
    """One `field=a|b` or `field!=a|b`; a value of None stands for the word null."""

    field: str
    values: tuple[str | None, ...]
    negated: bool

    def __str__(self) -> str:
        values = "|".join("null" if value is None else value for value in self.values)
        return f"{self.field}{'!=' if self.negated else '='}{values}"


def parse(condition: str) -> list[Clause]:
    """Clauses of a condition.

    Raises:
        DataError: where a clause has no `=` or a quote is left open.
    """
    return [_clause(part, condition) for part in _split(condition, ",", condition)]


def matching(table: pa.Table, condition: str, *, name: str) -> np.ndarray:
    """Rows of a table that meet every clause.

    Args:
        table: the samples.
        condition: the clauses.
        name: of the data set, for messages.

    Returns:
        (rows,) int64, ascending.

    Raises:
        DataError: for an unknown field, a value its type cannot hold, or when no row is left.
    """
    kept = np.ones(table.num_rows, dtype=bool)
    for clause in parse(condition):
        mask = _mask(table, clause, name)
        if table.num_rows and not (kept & mask).any():
            raise DataError(_nothing_left(table, clause, kept, condition, name))
        kept &= mask
    return np.flatnonzero(kept)


def _split(text: str, separator: str, condition: str) -> list[str]:
    """Parts between separators that stand outside double quotes."""
    if text.count('"') % 2:
        raise DataError(
            f"the condition '{condition}' leaves a quote open; write field=\"a value, with a comma\"."
        )
    return re.split(rf'{re.escape(separator)}(?=(?:[^"]*"[^"]*")*[^"]*$)', text)


def _clause(part: str, condition: str) -> Clause:
    found = re.fullmatch(r"\s*([^=!]+?)\s*(!=|==?)(.*)", part, re.DOTALL)
    if not found:
        raise DataError(
            f"'{part.strip()}' in the condition '{condition}' is not a clause; write field=value, "
            "such as split=train,style!=noto."
        )
    values = tuple(_value(text) for text in _split(found[3], "|", condition))
    return Clause(found[1], values, found[2] == "!=")


def _value(text: str) -> str | None:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1]
    return None if text == "null" else text


def _mask(table: pa.Table, clause: Clause, name: str) -> np.ndarray:
    known = [column for column in table.column_names if column not in _HIDDEN]
    if clause.field not in known:
        raise DataError(
            f"{name} has no field '{clause.field}' to filter by; {known_names(clause.field, known, limit=40)}"
        )
    column = table[clause.field].combine_chunks()
    words = [value for value in clause.values if value is not None]
    mask = np.zeros(len(column), dtype=bool)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        wanted = pa.array(
            [_converted(w, column.type.value_type, clause.field) for w in words], column.type.value_type
        )
        parents = pc.list_parent_indices(column).to_numpy()
        mask[parents[pc.is_in(pc.list_flatten(column), wanted).to_numpy(zero_copy_only=False)]] = True
        empty = pc.fill_null(pc.equal(pc.list_value_length(column), 0), True)
    elif pa.types.is_nested(column.type):
        raise DataError(
            f"the field '{clause.field}' of {name} holds {column.type}, which cannot be compared; "
            "choose another field."
        )
    else:
        wanted = pa.array([_converted(w, column.type, clause.field) for w in words], column.type)
        if words:
            mask |= pc.fill_null(pc.is_in(column, wanted), False).to_numpy(zero_copy_only=False)
            mask &= ~column.is_null().to_numpy(zero_copy_only=False)
        empty = column.is_null()
    if None in clause.values:
        mask |= empty.to_numpy(zero_copy_only=False)
    return ~mask if clause.negated else mask


def _converted(word: str, kind: pa.DataType, field: str) -> Any:
    """A word of the condition as a value of the field's type."""
    try:
        if pa.types.is_boolean(kind):
            return {"true": True, "false": False}[word.lower()]
        if pa.types.is_integer(kind):
            return int(word)
        if pa.types.is_floating(kind):
            return float(word)
        return word if pa.types.is_string(kind) else pa.scalar(word).cast(kind).as_py()
    except (KeyError, ValueError, pa.ArrowException):
        expected = (
            "true or false"
            if pa.types.is_boolean(kind)
            else "a whole number"
            if pa.types.is_integer(kind)
            else f"a value of type {kind}"
        )
        raise DataError(
            f"{field}={word} cannot be compared: '{field}' holds {kind} values, expected {expected}, or null."
        ) from None


def _nothing_left(table: pa.Table, clause: Clause, kept: np.ndarray, condition: str, name: str) -> str:
    rows = table[clause.field].take(pa.array(np.flatnonzero(kept))).to_pylist()
    values = Counter(item for row in rows for item in (row if isinstance(row, list) else [row]))
    listed = ", ".join(f"{_shown(value)} ({count:,})" for value, count in values.most_common(12))
    more = f" and {len(values) - 12:,} more" if len(values) > 12 else ""
    before = "" if kept.all() else f" after the clauses before it left {kept.sum():,}"
    text = (
        f"{clause} leaves none of the {table.num_rows:,} samples of {name}{before}; "
        f"{clause.field} holds {listed or 'nothing'}{more}."
    )
    near = [str(value) for value in values if value is not None]
    hints = [
        known_names(word, near).split("? ")[0] + "?"
        for word in clause.values
        if word is not None and "did you mean" in known_names(word, near)
    ]
    return text + (f" {hints[0][0].upper()}{hints[0][1:]}" if hints and not clause.negated else "")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
