"""Batches that threads prepare ahead come whole and in order."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from frugalclip.core.prefetch import prefetched


@pytest.mark.parametrize(("rows", "firsts"), [(range(7), [0, 3, 6]), (range(4, 10), [4, 7]), (range(0), [])])
def test_every_row_comes_once_and_in_order(rows: range, firsts: list[int]):
    with ThreadPoolExecutor(2) as pool:
        found = list(prefetched(lambda row: row * row, rows, batch=3, pool=pool))
    assert [first for first, _ in found] == firsts
    assert [result for _, results in found for result in results] == [row * row for row in rows]


def test_the_next_batch_is_begun_while_the_caller_works_on_one():
    begun: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        batches = prefetched(begun.append, range(9), batch=3, pool=pool)
        next(batches)
    assert begun == [0, 1, 2, 3, 4, 5]


def test_an_error_of_a_row_reaches_the_caller():
    with ThreadPoolExecutor(1) as pool, pytest.raises(ZeroDivisionError):
        list(prefetched(lambda row: 1 // row, range(2), batch=1, pool=pool))
