"""Work on one batch while threads prepare the next."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")


def prefetched(
    function: Callable[[int], T], rows: range, *, batch: int, pool: Executor
) -> Iterator[tuple[int, list[T]]]:
    """Results of a function of a row, in batches.

    Args:
        function: computes the result of one row, in a thread of the pool.
        rows: consecutive rows.
        batch: rows of a batch.
        pool: computes the next batch while the caller works on one.

    Yields:
        The first row of a batch and the results of its rows, in order.
    """
    ahead: tuple[int, list[Future[T]]] | None = None
    for first in range(rows.start, rows.stop, batch):
        begun = [pool.submit(function, row) for row in range(first, min(first + batch, rows.stop))]
        if ahead:
            yield ahead[0], [future.result() for future in ahead[1]]
        ahead = (first, begun)
    if ahead:
        yield ahead[0], [future.result() for future in ahead[1]]
