"""Class labels of Hugging Face: numbers in the columns, names in the schema."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers


def features_of(schema: pa.Schema) -> dict[str, Any]:
    """What Hugging Face's `datasets` wrote about each column into a schema; empty where it did not."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _class_names(feature: Any) -> list[str]:
    """Names of a class label, or of a list of them; empty for anything else."""
    if isinstance(feature, list) and feature:
        return _class_names(feature[0])
    if not isinstance(feature, dict):
        return []
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return [str(name) for name in names] if isinstance(names, list) else _class_names(feature.get("feature"))


def label_names(features: Mapping[str, Any]) -> list[str]:
    """Columns that hold class labels."""
    return [name for name, feature in features.items() if _class_names(feature)]


def named_labels(table: pa.Table, features: Mapping[str, Any]) -> pa.Table:
    """Class labels by name: Hugging Face keeps numbers, and names in the schema. Null without a name."""
    for name, feature in features.items():
        known = _class_names(feature)
        if known and name in table.column_names:
            column = table[name]
            named = [_named(chunk, pa.array(known, pa.string())) for chunk in column.chunks]
            if all(chunk is not None for chunk in named):
                kind = pa.list_(pa.string()) if pa.types.is_list(column.type) else pa.string()
                table = table.set_column(table.column_names.index(name), name, pa.chunked_array(named, kind))
    return table


def _named(values: pa.Array, names: pa.Array) -> pa.Array | None:
    if pa.types.is_list(values.type):
        flat = _named(pc.list_flatten(values), names)
        if flat is None:
            return None
        ends = np.cumsum([0, *pc.fill_null(pc.list_value_length(values), 0).to_pylist()])
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat, mask=values.is_null())
    if not pa.types.is_integer(values.type):
        return None
    is_known = pc.and_(pc.greater_equal(values, 0), pc.less(values, len(names)))
    return names.take(pc.if_else(is_known, values, None))
