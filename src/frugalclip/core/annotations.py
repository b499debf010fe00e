"""Types of settings, read from the annotations of a configuration."""

import types
import typing
from typing import Any

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
