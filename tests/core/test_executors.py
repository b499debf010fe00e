"""Executors give the same results in the same order, and say which item's process died."""

import os
import signal

import pytest

from frugalclip.core.executors import (
    SHARED,
    Crash,
    Executor,
    InlineExecutor,
    ProcessExecutor,
    ThreadExecutor,
    local_executor,
)

EXECUTORS = [InlineExecutor(), ThreadExecutor(2), ProcessExecutor(2)]


def square(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * number


@pytest.mark.parametrize("executor", EXECUTORS, ids=lambda executor: type(executor).__name__)
def test_results_come_in_the_order_of_the_items(executor: Executor):
    assert list(executor.run(square, [3, 1, 2])) == [(3, 9), (1, 1), (2, 4)]
    assert list(executor.run(square, [])) == []


@pytest.mark.parametrize("executor", EXECUTORS, ids=lambda executor: type(executor).__name__)
def test_an_exception_reaches_the_caller(executor: Executor):
    results = executor.run(square, [1, -2, *range(100)])
    assert next(results) == (1, 1)
    with pytest.raises(ValueError, match="-2 is negative"):
        next(results)


def killing(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.skipif(SHARED != "fork", reason="kills a process")
def test_an_item_whose_process_dies_is_a_crash():
    results = dict(ProcessExecutor(1).run(killing, [1, 2, 3]))
    assert list(results) == [1, 2, 3]
    assert isinstance(results[2], Crash)


def test_one_worker_needs_no_process():
    assert isinstance(local_executor(1), InlineExecutor)
    assert isinstance(local_executor(2), ProcessExecutor)
