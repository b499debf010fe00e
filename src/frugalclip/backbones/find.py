"""Finds the kind of a backbone by its source. A new kind is a new file of this package, no more."""

import functools
import importlib
import inspect
import pkgutil
from typing import Any, Literal

from frugalclip.backbones.base import BackboneKind, Side, Use
from frugalclip.backbones.packages import PACKAGES
from frugalclip.core.errors import ModelError, RecipeError, known_names
from frugalclip.interop.source import ModelSource

Kind = type[BackboneKind[Any]]


@functools.cache
def backbone_kinds() -> tuple[Kind, ...]:
    """The classes of this package's files that derive from `BackboneKind`."""
    package = importlib.import_module("frugalclip.backbones")
    found: list[Kind] = []
    for file in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        module = importlib.import_module(f"{package.__name__}.{file}")
        found += [
            one
            for _, one in inspect.getmembers(module, inspect.isclass)
            if issubclass(one, BackboneKind)
            and one.__module__ == module.__name__
            and not inspect.isabstract(one)
        ]
    return tuple(found)


def find_backbone(source: ModelSource, use: Use) -> BackboneKind[Any]:
    """The backbone that a source names, not yet loaded.

    Args:
        source: as the recipe has it.
        use: what the tower needs.

    Raises:
        ModelError: for a source that is no backbone of this side, with those that are.
    """
    found = [kind for kind in _kinds_of(use.side) if kind.matches(source)]
    if not found:
        raise ModelError(_refusal(source, use.side))
    assert len(found) == 1, f"{source} is of the kinds {found}"
    if source.selection.is_given and not found[0].has_weight_file:
        raise ModelError(
            f"'{source}' names a key or a prefix, and its library finds the tensors itself; "
            f"write {source.selection.source}."
        )
    return found[0](source, use)


def modality(source: ModelSource) -> Literal["both", "image", "text"]:
    """What a source encodes, from its name or config.json; `both` too where that cannot be told yet."""
    sides: set[Side] = {side for kind in backbone_kinds() if kind.matches(source) for side in kind.sides}
    return next(iter(sides)) if len(sides) == 1 else "both"


def check_source_options(source: ModelSource, use: Use) -> None:
    """Refuse options that the reader of a source does not know, before any weights are read.

    Args:
        source: with its options; of a folder that is not there yet, those that no reader knows are refused.
        use: what the tower needs.

    Raises:
        RecipeError: naming the setting and the known ones, or where the source cannot be tuned.
        ModelError: where options have no effect, or a source is not one of this side.
    """
    candidates = [kind for kind in _kinds_of(use.side) if kind.may_match(source)]
    if not candidates or any(kind.matches(source) for kind in _kinds_of(use.side)):
        find_backbone(source, use).options()
        return
    known = {name for kind in candidates for name in kind.option_names()}
    if known and (unknown := [name for name in source.options if name not in known]):
        raise RecipeError(
            f"{use.options_name}.{unknown[0]} is not a setting; {known_names(unknown[0], known)}"
        )
    if source.options:  # they tell the kind, where only one has them
        shared = {kind: len(source.options.keys() & kind.option_names()) for kind in candidates}
        max(candidates, key=lambda kind: shared[kind])(source, use).options()


def _kinds_of(side: Side) -> list[Kind]:
    return [kind for kind in backbone_kinds() if side in kind.sides]


def _refusal(source: ModelSource, side: Side) -> str:
    """Why a source is no backbone of a side, and what would be one."""
    packaged = {f"package:{name}" for name in PACKAGES if _is_packaged(name, side)}
    if source.scheme == "package":
        return f"'{source}' is no {side} backbone; {known_names(str(source), packaged)}"
    forms = ", ".join(kind.form for kind in _kinds_of(side))
    if source.config is not None:
        model_type = source.config.get("model_type")
        found = f"{source.folder} holds a model of type '{model_type}'"
        return f"{found}, which is no {side} backbone; expected {forms}."
    what = (
        f"{source.folder} has no config.json"
        if source.scheme == "hf"
        else f"'{source}' is no {side} backbone"
    )
    return f"{what}; expected {forms}."


def _is_packaged(name: str, side: Side) -> bool:
    source = ModelSource.parse(f"package:{name}")
    return any(kind.matches(source) for kind in _kinds_of(side))
