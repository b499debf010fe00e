"""Groups of rows that the bootstrap draws together and that no split separates.

One concept in three drawing styles is one piece of evidence, not three. Data that knows such groups has a
field for them; `family` (a concept without gender, hair or direction) and `component` (near duplicates) are
used by default.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from frugalclip.data.manifest import Manifest

FIELDS = ("family", "component")
LEAST = 10  # groups; fewer are used on request only, as a bootstrap over few groups means little


@dataclass(frozen=True)
class Groups:
    """The groups of some rows."""

    codes: np.ndarray  # (rows,) int64, equal within a group, the same on every machine and in every data set
    over: str | None  # the field or fields in words; None: every row alone
    origin: Literal["found in the data", "as requested", "none"]


def find_groups(manifest: Manifest, group: str | None = None) -> Groups:
    """The groups of a data set's rows.

    Args:
        manifest: the rows.
        group: a field whose equal values are one group; `id` puts every row alone. Default: `family`, for
            rows without one `component`, where the rows have at least ten groups of these; else every row
            alone.

    Raises:
        DataError: when there is no such field.
    """
    if group is not None:
        return Groups(manifest.codes(group), group, "as requested")
    codes, fields = np.zeros(len(manifest), dtype=np.int64), []
    open_rows = np.ones(len(manifest), dtype=bool)  # without a value so far
    for name in [name for name in FIELDS if name in manifest.field_names]:
        known = open_rows & np.array([value is not None for value in manifest.field(name)], dtype=bool)
        if known.any():
            codes, open_rows = np.where(known, manifest.codes(name), codes), open_rows & ~known
            fields.append(name)
    if open_rows.any():
        codes = np.where(open_rows, manifest.codes("id"), codes)
    if not fields or len(np.unique(codes)) < LEAST:
        return Groups(manifest.codes("id"), None, "none")
    return Groups(codes, ", else ".join(fields), "found in the data")
