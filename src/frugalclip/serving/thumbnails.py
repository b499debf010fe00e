"""Small copies of indexed images, made once and kept in the cache folder under the hash of the image."""

import contextlib
import threading
from pathlib import Path
from typing import final

from PIL import Image

from frugalclip.core.disk import DiskFullError
from frugalclip.core.records import write_atomically
from frugalclip.core.thumbnails import KIND, encoded_thumbnail
from frugalclip.data.images import decode
from frugalclip.data.parquet_images import cache_folder

SIDES = (128, 256, 512, 1024)  # px of the longer side; a request gets the next larger one
_DECODING = 2  # at a time: an image of 64 million pixels takes 200 MB


@final
class Thumbnails:
    """Makes and keeps thumbnails.

    Args:
        folder: where they lie; by default in the cache folder, shared by all indexes.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "thumbnails"
        self.decoding = threading.Semaphore(_DECODING)  # held while an image is decoded, uploads too

    def find(self, key: bytes, side: int) -> bytes | None:
        """The thumbnail of an image that has been made before.

        Args:
            key: hash of the image's bytes.
            side: px.
        """
        with contextlib.suppress(OSError):
            return self._path(key, side).read_bytes()
        return None

    def make(self, data: bytes, key: bytes, side: int) -> bytes:
        """The thumbnail of an encoded image; kept if there is room.

        Raises:
            BadImage: if it cannot be decoded.
        """
        with self.decoding:
            small = decode(data, at_least=2 * side)
            small.thumbnail((side, side), Image.Resampling.LANCZOS)
        content = encoded_thumbnail(small)
        with contextlib.suppress(OSError, DiskFullError):  # without a folder to keep it in, it costs time
            write_atomically(self._path(key, side), content)
        return content

    def _path(self, key: bytes, side: int) -> Path:
        name = key.hex()
        return self.folder / name[:2] / f"{name}-{side}.{KIND}"


def side_of(size: int) -> int:
    """The side of the thumbnail for a wanted size."""
    return next((side for side in SIDES if side >= size), SIDES[-1])
