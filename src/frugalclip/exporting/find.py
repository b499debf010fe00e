"""Export targets: the files of this package that hold a subclass of `ExportTarget`. A new one is one file."""

import functools
import importlib
import inspect
import pkgutil

from frugalclip.core.errors import UsageError, known_names
from frugalclip.exporting.base import ExportTarget


@functools.cache
def export_targets() -> dict[str, type[ExportTarget]]:
    """The targets by name."""
    package = importlib.import_module("frugalclip.exporting")
    found: dict[str, type[ExportTarget]] = {}
    for file in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        module = importlib.import_module(f"{package.__name__}.{file}")
        for _, one in inspect.getmembers(module, inspect.isclass):
            if (
                issubclass(one, ExportTarget)
                and one.__module__ == module.__name__
                and one is not ExportTarget
            ):
                found[one.name] = one
    return found


def find_target(name: str) -> ExportTarget:
    """The target of a name.

    Raises:
        UsageError: with the known ones.
    """
    targets = export_targets()
    if name not in targets:
        raise UsageError(f"--to {name} is not understood; {known_names(name, targets)}")
    return targets[name]()
