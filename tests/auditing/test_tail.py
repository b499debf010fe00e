"""The rarest classes, levelled, without near duplicates."""

import numpy as np
import pytest

from frugalclip.auditing.tail import extreme_classes
from frugalclip.core.errors import DataError

COUNTS = {"Rare_One": 0, "few": 3, "common": 900, "unseen": 1, "uncounted": None}
LABELS = ["rare one"] * 6 + ["few"] * 4 + ["common"] * 9 + [None] * 3 + ["other"] * 5 + ["uncounted"] * 5
CODES = np.arange(len(LABELS), dtype=np.uint64)


def test_the_rarest_classes_have_one_number_of_rows():
    found = extreme_classes(LABELS, COUNTS, CODES, classes=2, least=2, rarest=True)
    assert found.names == ["rare one", "few"]
    assert (found.counts, found.each, len(found.rows)) == ([0, 3], 4, 8)
    assert [LABELS[row] for row in found.rows].count("few") == 4
    head = extreme_classes(LABELS, COUNTS, CODES, classes=2, least=2, rarest=False)
    assert head.names == ["common", "few"]


def test_near_duplicates_are_left_out_before_classes_are_counted():
    found = extreme_classes(
        LABELS, COUNTS, CODES, classes=3, least=5, rarest=True, distinct=lambda rows: rows[rows != 0]
    )
    assert found.names == ["rare one", "common"]
    assert found.each == 5
    assert 0 not in found.rows


def test_the_draw_follows_the_ids_and_the_seed():
    first, second = (
        extreme_classes(LABELS, COUNTS, CODES, classes=2, least=2, rarest=True, seed=s).rows.tolist()
        for s in (0, 1)
    )
    assert first != second


def test_too_few_classes_are_said():
    with pytest.raises(DataError, match="0 classes have a count"):
        extreme_classes(LABELS, {"zebra": 1}, CODES, classes=2, least=2, rarest=True)
