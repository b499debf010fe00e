"""The folder of an export: it changes as a whole, and only an earlier export is replaced."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from frugalclip.core.errors import ModelError
from frugalclip.core.locks import contents
from frugalclip.interop.onnx_folder import RECORD  # it marks a folder that an export may replace

_BUILDING = ".building"


def check_folder(out: Path) -> None:
    """Refuse a folder that is neither empty nor an export.

    Raises:
        ModelError: saying so.
    """
    if out.is_file():
        raise ModelError(f"{out} is a file; give a new folder with --out.")
    if contents(out) and not any((out / name).exists() for name in (RECORD, _BUILDING)):
        raise ModelError(
            f"{out} holds something else than an export; give an empty or new folder with --out."
        )


@contextlib.contextmanager
def replaced_contents(out: Path) -> Iterator[Path]:
    """A folder to write into, whose files take the place of what `out` holds at the end.

    `export.json` leaves first and arrives last, so that a folder with it is whole.
    """
    building = out / _BUILDING
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        yield building
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    (out / RECORD).unlink(missing_ok=True)
    for old in contents(out):
        if old != building:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    for new in sorted(building.iterdir(), key=lambda path: path.name == RECORD):
        os.replace(new, out / new.name)
    building.rmdir()
