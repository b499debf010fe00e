"""How far long work is, in lines: at most two a minute, for logs and pipes where no bar can move.

Work deep inside counts what it has done (`counter`); whoever starts it decides whether lines are printed, and
where (`progress_lines`).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SILENCE = 30.0  # seconds without a line, at most


class Ticker:
    """Says how far some work is and how long the rest takes, every half minute.

    Args:
        what: the work or what is counted, such as `images`.
        say: prints a line.
        clock: seconds that only grow.
    """

    def __init__(
        self, what: str, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.what, self.say, self.clock = what, say, clock
        self._begun = self._last = clock()

    def __call__(self, done: int, total: int | None) -> None:
        """Note that so many are done, of so many where that is known."""
        now = self.clock()
        if now - self._last < SILENCE or done == total:
            return
        self._last = now
        if not total or not done:
            self.say(f"{self.what}: {done:,} so far")
            return
        left = (now - self._begun) * (total - done) / done
        self.say(f"{self.what}: {done:,} of {total:,}, about {in_minutes(left)} left")


_PRINTER: ContextVar[Callable[[str], None] | None] = ContextVar("progress printer", default=None)


@contextmanager
def progress_lines(say: Callable[[str], None]) -> Iterator[None]:
    """Print the lines of every counter inside the block.

    Args:
        say: prints a line.
    """
    token = _PRINTER.set(say)
    try:
        yield
    finally:
        _PRINTER.reset(token)


def counter(what: str, total: int) -> Callable[[int], None]:
    """A function that adds to a count, and prints how far the work is where that is wanted.

    Args:
        what: the work or what is counted, such as `images`.
        total: when it is done.
    """
    say = _PRINTER.get()
    if say is None:
        return lambda number: None
    tick, done = Ticker(what, say), 0

    def add(number: int) -> None:
        nonlocal done
        done += number
        tick(done, total)

    return add


def in_minutes(seconds: float) -> str:
    """A duration as people say it: seconds, minutes, hours or days."""
    if seconds < 60:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        minutes = seconds / 60
        return f"{minutes:.1f} min" if minutes < 10 else f"{minutes:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
