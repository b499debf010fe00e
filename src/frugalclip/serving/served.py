"""The index that a server answers from: replaced while it runs, and never in the middle of a request."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import final

from PIL import Image

from frugalclip.core.errors import FrugalclipError
from frugalclip.serving.index import open_index, stamp
from frugalclip.serving.layout import read_index_head

HEALTHY = 1.0  # seconds for which one real embedding is proof enough
_PROBE = "a photo"


@final
class ServedIndex:
    """An open index that follows its folder.

    Args:
        path: the folder.
        note: called with a line when the index was replaced, or could not be.
    """

    def __init__(self, path: Path, *, note: Callable[[str], None] = lambda line: None) -> None:
        self.path, self.note = path, note
        read_index_head(path)  # says what is there in place of an index
        self._stamp = stamp(path)
        self.index = open_index(path)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._proved = 0.0

    def follow(self, *, seconds: float = 2.0) -> threading.Thread:
        """Look for a new index every few seconds, in a thread of its own, until `close`."""
        thread = threading.Thread(target=self._follow, args=(seconds,), daemon=True, name="index")
        thread.start()
        return thread

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()

    def _follow(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self.refresh()

    def refresh(self) -> bool:
        """Open the index again if it was replaced; requests that have begun keep the old one."""
        found = self._stamp
        try:
            if (found := stamp(self.path)) == self._stamp:
                return False
            same_model = read_index_head(self.path).model == self.index.head.model
            model = self.index.encoder.model if same_model else None
            index = open_index(self.path, model=model)
        except (FrugalclipError, OSError) as error:
            self.note(f"the index could not be opened again, so the old one answers: {error}")
            self._stamp = found  # the next change is tried again
            return False
        self._stamp, self.index = found, index
        self.note(f"{self.path}: {len(index):,} rows now")
        return True

    def prove(self) -> None:
        """Encode something, so that a broken model does not look healthy.

        Raises:
            Exception: whatever goes wrong.
        """
        with self._lock:
            if time.monotonic() - self._proved < HEALTHY:
                return
            index = self.index
            if index.encoder.model.reads == "both":
                vector = index.encoder.model.encode_text([_PROBE])
            else:
                vector = index.encoder.model.encode_image(Image.new("RGB", (8, 8)))
            if not bool(vector.isfinite().all()):
                raise ValueError("the embedding is not finite")
            self._proved = time.monotonic()
