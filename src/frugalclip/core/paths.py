"""Paths as users write them."""

import os
from pathlib import Path

from frugalclip.core.errors import DataError


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path with a leading `~` or `~user` replaced by the home folder.

    Raises:
        DataError: if this machine has no such user.
    """
    text = os.fspath(path)
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        name = text.split(os.sep)[0]
        raise DataError(
            f"{text} begins with {name}, the home folder of a user that this machine does not have; for a "
            f"folder of that name write {os.path.join(os.getcwd(), text)}."
        )
    return Path(expanded)
