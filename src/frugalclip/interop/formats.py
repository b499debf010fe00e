"""Foreign model formats: the files of this package that hold a `FOREIGN_FORMAT`. A new format is one file."""

import functools
import importlib
import pkgutil

from frugalclip.interop.foreign import ForeignFormat


@functools.cache
def foreign_formats() -> dict[str, ForeignFormat]:
    """Formats of models with two towers, by scheme."""
    package = importlib.import_module("frugalclip.interop")
    files = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"{package.__name__}.{file}") for file in files]
    found = [module.FOREIGN_FORMAT for module in modules if hasattr(module, "FOREIGN_FORMAT")]
    return {one.scheme: one for one in found}
