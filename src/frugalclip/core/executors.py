"""Executors: where the items of a job are worked on, here or in several processes.

Results do not depend on the executor. One that spreads the work over machines implements the same method.
"""

import gc
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar, final

SHARED = "fork" if sys.platform == "linux" else "spawn"  # forked workers share this process's memory
CLEAN = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"

Item = TypeVar("Item")
Result = TypeVar("Result")


@final
@dataclass(frozen=True)
class Crash:
    """Takes the place of a result where the worker process died."""


class Executor(ABC):
    """Applies one function to many items."""

    @abstractmethod
    def run(
        self, work: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result | Crash]]:
        """Results in the order of the items.

        An exception that `work` raises is raised here, and no further item is begun.

        Args:
            work: the function; it must not depend on the order in which items come.
            items: what it is applied to.

        Yields:
            Each item with its result, or with a `Crash`.
        """


@final
class InlineExecutor(Executor):
    """Works in this process, on one item after another."""

    def run(
        self, work: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result | Crash]]:
        for item in items:
            yield item, work(item)


@final
class ThreadExecutor(Executor):
    """Works in threads of this process.

    Args:
        workers: number of threads.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(
        self, work: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result | Crash]]:
        pool = ThreadPoolExecutor(self.workers)
        try:
            yield from zip(items, pool.map(work, items), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


@final
class ProcessExecutor(Executor):
    """Works in processes of this machine.

    Args:
        workers: number of processes.
        method: how they start: `SHARED` gives them this process's memory, `CLEAN` a fresh interpreter, which
            needs a `work` that can be pickled.
    """

    def __init__(self, workers: int, *, method: str = SHARED) -> None:
        self.workers, self.method = workers, method

    def run(
        self, work: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result | Crash]]:
        context = multiprocessing.get_context(self.method)
        pool = ProcessPoolExecutor(
            min(self.workers, len(items)) or 1,
            mp_context=context,
            initializer=_begin_worker,
            initargs=(work,),
        )
        try:
            with warnings.catch_warnings():  # forked workers use none of this process's threads
                warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
                futures = [_submitted(pool, item) for item in items]
            for item, future in zip(items, futures, strict=True):
                yield item, _result(future)
        finally:
            pool.shutdown(cancel_futures=True)


def local_executor(workers: int) -> Executor:
    """The executor of this machine for so many workers: processes, or this process where one is enough."""
    return InlineExecutor() if workers <= 1 else ProcessExecutor(workers)


def _submitted(pool: ProcessPoolExecutor, item: object) -> Future[Any] | None:
    try:
        return pool.submit(_apply, item)
    except BrokenProcessPool:  # a worker died while items were handed over
        return None


def _result(future: Future[Any] | None) -> Any:
    try:
        return Crash() if future is None else future.result()
    except BrokenProcessPool:
        return Crash()


_work: Callable[[Any], Any] | None = None  # of a worker process


def _begin_worker(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends the others
    gc.freeze()  # collections that go through the parent's objects cost a quarter of the time
    gc.disable()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker where its parent was killed, so that nothing is held or written afterwards."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _apply(item: object) -> Any:
    assert _work is not None
    result = _work(item)
    gc.collect()
    return result
