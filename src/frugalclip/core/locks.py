"""One process at a time in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frugalclip.core.errors import FrugalclipError

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is held
    fcntl = None


@contextmanager
def held(folder: Path, refusal: FrugalclipError) -> Iterator[None]:
    """Hold a folder that exists; let go at the end, or when the process ends, however it does. Nothing is written into it.

    Raises:
        FrugalclipError: `refusal`, while another process holds it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        except OSError:  # a file system that has no locks
            pass
        yield
    finally:
        os.close(handle)
