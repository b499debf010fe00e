"""Types of settings, read from the annotations of a configuration."""

import difflib
import types
import typing
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def members(annotation: Any) -> list[Any]:
    """What a type may be, without annotations and unions around it."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [member for argument in typing.get_args(annotation) for member in members(argument)]
    return [annotation]


def key_of(name: str, field: FieldInfo) -> str:
    """The name of a field in a recipe, which differs where a word of Python is in the way."""
    return field.alias or (field.validation_alias if isinstance(field.validation_alias, str) else name)


def dotted_names(settings: type[BaseModel], path: str = "") -> Iterator[str]:
    """The names of all settings that have one place, such as `optimizer.lr`; outer ones first.

    Args:
        settings: the class.
        path: dotted name of its section.
    """
    prefix = f"{path}." if path else ""
    keys = {prefix + key_of(name, field): field for name, field in settings.model_fields.items()}
    yield from keys
    for place, field in keys.items():
        for inner in members(field.annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from dotted_names(inner, place)


def near_setting(name: str, settings: type[BaseModel], known: Collection[str]) -> str:
    """The setting that an unknown name may mean, of its section or another one; empty if none is near.

    Args:
        name: what was found.
        settings: the outermost configuration.
        known: names of the section where it was found.
    """
    everywhere = list(dict.fromkeys(dotted_names(settings)))
    same = [one for one in everywhere if one.rpartition(".")[2] == name]
    if same:
        return same[0]
    for names, cutoff in ((known, 0.8), (everywhere, 0.8), (known, 0.6)):
        last = {one.rpartition(".")[2]: one for one in reversed(list(names))}
        if near := difflib.get_close_matches(name, list(last), n=1, cutoff=cutoff):
            return last[near[0]]
    return ""
