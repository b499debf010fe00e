"""An exported folder as its library reads it, or our own importer where the library is not installed."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

from frugalclip.exporting.base import ReadBack
from frugalclip.models import load


def library_reader(library: str, read: Callable[[Path], ReadBack], folder: Path, *, source: str) -> ReadBack:
    """A folder read by a library, or by `frugalclip.load`.

    Args:
        library: package that the folder is written for.
        read: reads the folder with it.
        folder: of the export.
        source: the folder as a MODEL, such as `hf:DIR`.
    """
    if importlib.util.find_spec(library) is not None:
        return read(folder)
    model = load(source)
    return ReadBack(
        "frugalclip's own importer (the library is not installed)", model.encode_image, model.encode_text
    )
