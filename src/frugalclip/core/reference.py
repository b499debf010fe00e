"""Descriptions of settings: every field of a configuration with its type, unit, default and meaning.

The classes are walked, not a list beside them, so a new field appears in the terminal and in the
documentation at once. A unit is read from the field's own description ("side of a patch in pixels").
"""

import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from frugalclip.core.annotations import key_of, members

REQUIRED, SECTION = "required", "see its section"  # defaults that are no value
_UNITS = re.compile(
    r"\b(pixels|samples|steps|epochs|rows|pairs|tokens|words|bytes|nats|seconds|processes|threads|GFLOP"
    r"|layers|blocks|neurons|heads|channels|captions|views|clusters|anchors"
    r"|evaluations|checkpoints|iterations|degrees|percent|share"
    r"|fraction|probability)\b"
)
_SHARES = ("share", "fraction", "probability")


@dataclass(frozen=True)
class Setting:
    """One field of a configuration."""

    name: str  # dotted, such as optimizer.lr
    unit: str  # of a number, or what else a value may be
    default: str
    description: str


@dataclass(frozen=True)
class Section:
    """The fields of one configuration class, without those of the configurations inside it."""

    path: str  # dotted; NAME stands for a name that the user chooses
    kind: str  # which of several configurations at this path; empty where there is one
    title: str
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class SettingValue:
    """The value of one setting in a validated configuration."""

    setting: Setting
    value: str
    is_default: bool


def sections(settings: type[BaseModel], path: str = "", *, kind: str = "") -> Iterator[Section]:
    """Every section that a configuration class can hold, outermost first.

    Args:
        settings: the class.
        path: dotted name of the section.
        kind: which of several classes at this path it is.
    """
    own = tuple(
        setting_of(name, field, path) for name, field in settings.model_fields.items() if name != "kind"
    )
    yield Section(path, kind, _title(settings), own)
    for name, field in settings.model_fields.items():
        for inner, suffix in _inner(field.annotation):
            inner_path = _join(path, key_of(name, field)) + suffix
            yield from sections(inner, inner_path, kind=_kind(inner))


def values(configuration: BaseModel, path: str = "") -> Iterator[SettingValue]:
    """Every setting of a validated configuration with its value, configurations inside it included."""
    for name, field in type(configuration).model_fields.items():
        value = getattr(configuration, name)
        place = _join(path, key_of(name, field))
        if isinstance(value, BaseModel):
            yield from values(value, place)
        elif (
            isinstance(value, Mapping) and value and all(isinstance(one, BaseModel) for one in value.values())
        ):
            for key, inner in value.items():
                yield from values(inner, _join(place, str(key)))
        else:
            default = field.get_default(call_default_factory=True, validated_data={})
            is_default = value == default or field.is_required()
            yield SettingValue(setting_of(name, field, path), written(value), is_default)


def setting_of(name: str, field: FieldInfo, path: str = "") -> Setting:
    """The description of one field.

    Args:
        name: of the attribute.
        field: as pydantic keeps it.
        path: dotted name of the section it belongs to.
    """
    return Setting(_join(path, key_of(name, field)), unit_of(field), _default(field), field.description or "")


def unit_of(field: FieldInfo) -> str:
    """The unit of a number, the choices of a word, or what else a field holds."""
    kinds = members(field.annotation)
    choices = [str(c) for one in kinds if typing.get_origin(one) is Literal for c in typing.get_args(one)]
    if choices:
        return " | ".join(choices)
    numbers = [one for one in _flat(kinds) if one in (int, float)]
    if bool in kinds:
        return "true or false"
    if not numbers:
        return _container(kinds)
    named = _UNITS.search(field.description or "")
    if named is None or named[1] in _SHARES:
        return _range(field) or (named[1] if named else "number")
    return named[1]


def written(value: Any) -> str:
    """A value as a recipe would write it."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True)
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not any(isinstance(one, BaseModel) for one in value):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else str(value)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _title(settings: type[BaseModel]) -> str:
    return (settings.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")


def _kind(settings: type[BaseModel]) -> str:
    field = settings.model_fields.get("kind")
    names = typing.get_args(field.annotation) if field else ()
    return str(names[0]) if len(names) == 1 else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return REQUIRED
    value = field.get_default(call_default_factory=True, validated_data={})
    inner = list(value.values()) if isinstance(value, Mapping) else [value]
    if any(isinstance(one, BaseModel) for one in inner):
        return SECTION
    return written(value)


def _range(field: FieldInfo) -> str:
    """`0 to 1` where a number has both bounds."""
    least = [getattr(one, end) for one in field.metadata for end in ("ge", "gt") if hasattr(one, end)]
    most = [getattr(one, end) for one in field.metadata for end in ("le", "lt") if hasattr(one, end)]
    return f"{least[0]} to {most[0]}" if least and most else ""


def _container(kinds: Sequence[Any]) -> str:
    if any(typing.get_origin(one) is dict or one is dict for one in kinds):
        return "mapping"
    if any(typing.get_origin(one) in (list, tuple) for one in kinds):
        return "list"
    if any(isinstance(one, type) and issubclass(one, BaseModel) for one in kinds):
        return "section"
    return "text"


def _inner(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Configuration classes that a field may hold, and what stands between its name and theirs."""
    for one in members(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel):
            yield one, ""
        elif typing.get_origin(one) in (dict, list, tuple):
            suffix = ".NAME" if typing.get_origin(one) is dict else "[]"
            found = [inner for inner in dict.fromkeys(typing.get_args(one)) if inner is not Ellipsis]
            yield from ((inner, suffix) for each in found for inner, _ in _inner(each))


def _flat(kinds: Sequence[Any]) -> list[Any]:
    """Types, with those inside lists and tuples."""
    return [
        inner
        for one in kinds
        for inner in (_flat(typing.get_args(one)) if typing.get_origin(one) in (list, tuple) else [one])
    ]
