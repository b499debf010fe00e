"""Classes found by a name in a recipe: one file, one name, one class.

A name is a file of one of our packages; a dotted path is a module of the user's own. Either holds exactly one
class of the kind that is wanted.
"""

import importlib
import inspect
import pkgutil
from typing import TypeVar

from frugalclip.core.errors import RecipeError, known_names

Kind = TypeVar("Kind")


def known_kinds(package: str) -> list[str]:
    """Names of the files in one of our packages, without `base`, which holds what they derive from."""
    found = importlib.import_module(package)
    return sorted(m.name for m in pkgutil.iter_modules(found.__path__) if m.name != "base")


def find_class(kind: str, base: type[Kind], *, package: str, setting: str, noun: str) -> type[Kind]:
    """The class in the file `kind`.

    Args:
        kind: a file of the package, or the dotted path of a module of the user's own.
        base: what the class derives from.
        package: dotted name of the package that holds ours.
        setting: the key in a recipe, for messages.
        noun: what the class is, with its article.

    Raises:
        RecipeError: if there is no such file, or it does not hold exactly one such class.
    """
    is_ours = "." not in kind
    if is_ours and kind not in known_kinds(package):
        raise RecipeError(
            f"{setting}.{kind} is not {noun}; {known_names(kind, known_kinds(package))} For one of your own "
            "set "
            "kind: package.module."
        )
    path = f"{package}.{kind}" if is_ours else kind
    name = noun.partition(" ")[2]
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"{name} '{kind}' does not import ({error}); put its folder on PYTHONPATH or install its package."
        ) from error
    found = [
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, base) and c.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise RecipeError(
            f"{path} holds {len(found)} {name}s, expected one class that derives from {base.__name__}."
        )
    if missing := sorted(getattr(found[0], "__abstractmethods__", ())):
        required = " and ".join(f"{one}()" for one in sorted(getattr(base, "__abstractmethods__", ()))[::-1])
        raise RecipeError(
            f"{path}.{found[0].__name__} has no {missing[0]}(); every {name} defines {required}."
        )
    return found[0]
