"""Finds the data formats. A new format is a new file in `formats/`, no more."""

import functools
import importlib
import inspect
import pkgutil

from frugalclip.sources.base import DataFormat

PACKAGE = "frugalclip.sources.formats"


@functools.cache
def data_formats() -> tuple[DataFormat, ...]:
    """The formats whose classes stand in the files of `formats/`, in the order in which they are tried."""
    package = importlib.import_module(PACKAGE)
    found: list[DataFormat] = []
    for file in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        module = importlib.import_module(f"{PACKAGE}.{file}")
        found += [
            kind()
            for _, kind in inspect.getmembers(module, inspect.isclass)
            if issubclass(kind, DataFormat) and kind.__module__ == module.__name__
        ]
    return tuple(sorted(found, key=lambda one: (one.precedence, one.name)))
