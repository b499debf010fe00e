"""Classes found by a name in a recipe: one file, one name, one class.

A name is a file of one of our packages. A user's own file is a path (`./hardneg.py`), the name of a file
beside the recipe, or the dotted path of an installed module. Each holds exactly one class of the kind that is
wanted, with its settings as `Config`.
"""

import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from frugalclip.core.errors import FrugalclipError, PluginError, RecipeError, known_names
from frugalclip.core.paths import user_path

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class PluginKind(Generic[Kind]):
    """A kind of class that recipes name."""

    base: type[Kind]  # what the class derives from
    config: type[BaseModel]  # what its `Config` derives from
    package: str  # dotted name of the package that holds ours
    setting: str  # the key in a recipe, for messages
    noun: str  # what the class is, with its article
    key: str = "kind"  # under which a file names the class
    file: str = "recipe"  # what that file is, for messages

    @property
    def name(self) -> str:
        """What the class is, without its article."""
        return self.noun.partition(" ")[2]


@cache
def known_kinds(package: str) -> list[str]:
    """Names of the files in one of our packages, without `base`, which holds what they derive from."""
    found = importlib.import_module(package)
    return sorted(m.name for m in pkgutil.iter_modules(found.__path__) if m.name != "base")


def located(kind: str, folder: Path, *, package: str) -> str:
    """A kind as it stands in a recipe, with the file that it means as an absolute path.

    Args:
        kind: a name, a path that ends in .py, or a dotted name.
        folder: of the recipe; paths start there, and a file of the kind's name there is found.
        package: dotted name of the package that holds ours, which come first.
    """
    if kind.endswith(".py"):
        return str((folder / user_path(kind)).resolve())
    beside = folder / f"{kind}.py"
    is_beside = re.fullmatch(r"\w+", kind) and kind not in known_kinds(package) and beside.is_file()
    return str(beside.resolve()) if is_beside else kind


def find_class(kind: str, wanted: PluginKind[Kind]) -> type[Kind]:
    """The class in the file `kind`.

    Args:
        kind: a file of the package, the path of a file that ends in .py, or the dotted name of a module.
        wanted: what the class is.

    Raises:
        RecipeError: if there is no such file, it does not import, or it does not hold exactly one such class.
    """
    module = _module(kind, wanted)
    place = module.__file__ or kind
    found = [
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, wanted.base) and c.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = f" ({', '.join(c.__name__ for c in found)})" if found else ""
        raise RecipeError(
            f"{place} holds {len(found)} {wanted.name}s{names}, expected one class that derives from "
            f"{wanted.base.__name__}."
        )
    _check_class(found[0], wanted, place)
    return found[0]


def is_ours(owner: object) -> bool:
    """Whether a class, or that of an object, stands in this package: its errors are not the user's."""
    return owner.__module__.partition(".")[0] == "frugalclip"


def failure_in(error: BaseException, file: str | None) -> str:
    """Where an error was raised in a file, and the error: ` line 7: KeyError: 'second'`.

    Args:
        error: as it was caught.
        file: of the user's code; None: not known.
    """
    if isinstance(error, SyntaxError):
        return f" line {error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else text[:297] + "..."
    return f"{f' line {lines[-1]}' if lines else ''}: {type(error).__name__}{f': {text}' if text else ''}"


def calling(what: str, function: Callable[..., Any], *arguments: Any, hint: str = "") -> Any:
    """Call a function of the user's own; its errors name what was called, its file and the line.

    Args:
        what: such as `objectives.mine: needs()`.
        function: a class, a method or a module.
        arguments: of the call.
        hint: what to add where a name was not found.

    Raises:
        PluginError: for any error inside, but memory that runs out.
    """
    try:
        return function(*arguments)
    except FrugalclipError:
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        file = file_of(function)
        more = f"; {hint}" if hint and isinstance(error, KeyError) else ""
        raise PluginError(f"{what} failed in {file or 'its file'}{failure_in(error, file)}{more}.") from error


def file_of(owner: object) -> str | None:
    """The file of a class, a function or the class of an object."""
    module = sys.modules.get(getattr(owner, "__module__", ""))
    return getattr(module, "__file__", None)


def _module(kind: str, wanted: PluginKind[Any]) -> ModuleType:
    if kind.endswith(".py"):
        return _imported(kind, wanted, lambda: _module_of_file(Path(kind), wanted))
    if kind in known_kinds(wanted.package):
        return importlib.import_module(f"{wanted.package}.{kind}")
    if "." not in kind:
        raise RecipeError(
            f"{wanted.setting}.{kind[:60]} is not {wanted.noun}; "
            f"{known_names(kind, known_kinds(wanted.package))} For one of your own write it in a file beside "
            f"the {wanted.file} and set {wanted.key}: ./{_stem(kind)}.py."
        )
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", kind):
        raise RecipeError(
            f"{wanted.name} '{kind[:60]}' is no module; write {wanted.key}: ./{_stem(kind)}.py for a file "
            f"beside the {wanted.file}, or {wanted.key}: package.module."
        )
    return _imported(kind, wanted, lambda: importlib.import_module(kind))


def _stem(kind: str) -> str:
    return re.sub(r"\W+", "_", kind).strip("_")[:40] or "mine"


def _imported(kind: str, wanted: PluginKind[Any], load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except FrugalclipError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{kind}.".startswith(f"{error.name}."):
            raise RecipeError(
                f"{wanted.name} '{kind}' does not import ({error}); put its folder on PYTHONPATH, install "
                f"its package, or write {wanted.key}: ./{kind.rpartition('.')[2]}.py for a file beside the "
                f"{wanted.file}."
            ) from error
        spec = None if kind.endswith(".py") else importlib.util.find_spec(kind)
        file = (spec.origin if spec else None) or kind
        raise RecipeError(f"{wanted.name} {file} does not import{failure_in(error, file)}.") from error


def _module_of_file(path: Path, wanted: PluginKind[Any]) -> ModuleType:
    """A file as a module, imported once."""
    if not path.is_file():
        raise RecipeError(
            f"there is no file {path} for {wanted.noun}; {wanted.key}: ./NAME.py is a path from the "
            f"{wanted.file}'s folder."
        )
    name = f"own_{_stem(path.stem)}_{abs(hash(str(path))):x}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None, "the name ends in .py"
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


def _check_class(found: type[Any], wanted: PluginKind[Any], place: str) -> None:
    where = f"{place}: {found.__name__}"
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        required = " and ".join(
            f"{one}()" for one in sorted(getattr(wanted.base, "__abstractmethods__", ()))[::-1]
        )
        raise RecipeError(f"{where} has no {missing[0]}(); every {wanted.name} defines {required}.")
    config = getattr(found, "Config", None)
    if not (isinstance(config, type) and issubclass(config, wanted.config)):
        state = "has no Config" if config is None else "has a Config that derives from something else"
        raise RecipeError(
            f"{where} {state}; write its settings as class Config({wanted.config.__name__}), and Config = "
            "Config in the class."
        )
