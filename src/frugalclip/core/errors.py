"""Errors that a user can act on: found, expected, next step, in one sentence.

Every error caused by what a user gave derives from `FrugalclipError`; the command line prints it without
traceback. `assert` stays for our own mistakes.
"""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class FrugalclipError(Exception):
    """Base class of errors that are caused by what a user gave."""


class RecipeError(FrugalclipError):
    """A recipe, or an override, that does not describe a run."""


class DataError(FrugalclipError):
    """A data set, file or field that cannot be used."""


class ModelError(FrugalclipError):
    """A model, checkpoint or run directory that cannot be loaded."""


class TrainingError(FrugalclipError):
    """A run that cannot continue; its last checkpoint is intact."""


class MissingExtra(FrugalclipError):
    """An optional dependency is not installed."""


def known_names(name: str, known: Iterable[str], *, limit: int = 12) -> str:
    """The end of a did-you-mean sentence: the nearest known name if one is near, then the known names.

    Args:
        name: what was found.
        known: what would have been understood.
        limit: how many known names are listed at most.

    Returns:
        For example `did you mean 'queue'? Known: queue, dim, scale.`
    """
    names = sorted(dict.fromkeys(known))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    listed = ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
    return (f"did you mean '{near[0]}'? " if near else "") + f"Known: {listed or 'none'}."


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency, or say how to get it.

    Args:
        module: dotted name, such as `onnx`.
        extra: the extra of this package that brings it, such as `export`.
        purpose: what it is needed for, as the subject of the sentence: `exporting to ONNX`.

    Raises:
        MissingExtra: when it does not import.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise MissingExtra(
            f"{purpose} needs {package} ({error}); install it with pip install 'frugalclip[{extra}]'."
        ) from error
