"""Ctrl-C, SIGTERM and a closed terminal as a flag that running work checks where it can stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and SIGHUP (a closed terminal) set.

    A second signal raises KeyboardInterrupt. Only in the main thread. `nohup` ignores SIGHUP, and so does the
    event then. A handler that the work sets itself (`ignore_termination`) stays.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals are caught in the main thread only
        return

    def ask(number: int, _: object) -> None:
        if stop.is_set() and number != HANGUP:  # a closing terminal may send it more than once
            raise KeyboardInterrupt  # the second signal
        stop.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN:
        numbers.append(HANGUP)
    old = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            if signal.getsignal(number) is ask:
                signal.signal(number, handler)


def ignore_termination() -> None:
    """Let no SIGTERM end this process before it has said why it ends by itself; only in the main thread.

    A launcher that loses one process sends SIGTERM to the others at once.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
