"""Ctrl-C and SIGTERM as a flag that running work checks where it can stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set.

    A second signal raises KeyboardInterrupt. Only in the main thread.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals are caught in the main thread only
        return

    def ask(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt  # the second signal
        stop.set()

    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
