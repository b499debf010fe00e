"""Errors that a user can act on: found, expected, next step, in one sentence.

Every error caused by what a user gave derives from `FrugalclipError`; the command line prints it without
traceback. `assert` stays for our own mistakes.
"""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

QUOTED = 200  # characters of a name or value that a message quotes
LONGEST = 1500  # characters of a message


def shortened(value: object, limit: int = QUOTED) -> str:
    """A name or value as a message quotes it: on one line, without control characters, the middle left out.

    Args:
        value: what was found.
        limit: characters at most, about.
    """
    text = "".join(one if one.isprintable() else repr(one)[1:-1] for one in _ends(str(value), 4 * limit))
    return _ends(text, limit)


def _ends(text: str, limit: int) -> str:
    """A text, or its two ends with the number of characters between them."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}… ({len(text):,} characters) …{text[-half:]}"


class FrugalclipError(Exception):
    """Base class of errors that are caused by what a user gave.

    Args:
        lines: the sentence, and lines below it. What they quote neither breaks a line nor fills the screen.
    """

    def __init__(self, *lines: object) -> None:
        super().__init__(*(shortened(line, LONGEST) for line in lines))

    def __str__(self) -> str:
        return "\n".join(self.args)


class RecipeError(FrugalclipError):
    """A recipe, or an override, that does not describe a run."""


class PluginError(RecipeError):
    """Code of the user's own that a recipe names, and that fails or gives something else than is expected."""


class UsageError(FrugalclipError):
    """A command line, or arguments of a function, that cannot be understood."""


class DataError(FrugalclipError):
    """A data set, file or field that cannot be used."""


class ModelError(FrugalclipError):
    """A model, checkpoint or run directory that cannot be loaded."""


class TrainingError(FrugalclipError):
    """A run that cannot continue; its last checkpoint is intact."""


class InUseError(FrugalclipError):
    """A folder or file that another command writes into."""


class MissingExtra(FrugalclipError):
    """An optional dependency is not installed."""


def known_names(name: str, known: Iterable[str], *, limit: int = 12, near: str = "") -> str:
    """The end of a did-you-mean sentence: the nearest known name if one is near, then the known names.

    Args:
        name: what was found.
        known: what would have been understood.
        limit: how many known names are listed at most.
        near: what is probably meant, where the caller knows better.

    Returns:
        For example `did you mean 'queue'? Known: queue, dim, scale.`
    """
    names = sorted(dict.fromkeys(known))
    near = near or next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.6)), "")
    listed = ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
    return (f"did you mean '{near}'? " if near else "") + f"Known: {listed or 'none'}."


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
