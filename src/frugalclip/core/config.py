"""Typed settings: validation, merging, and sentences for what is wrong.

A configuration is plain mappings until it is validated into `Settings`. Merging and overrides work on
mappings, so an override means what the same line in a recipe means. The type of a field converts a value,
never its spelling.
"""

import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, ValidationError, field_validator

from frugalclip.core.annotations import members, near_setting
from frugalclip.core.errors import RecipeError, known_names

if typing.TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass

    @typing.dataclass_transform(kw_only_default=True, field_specifiers=())
    class _Checked(ModelMetaclass):
        """Let type checkers see the default in `Field(1.0, gt=0)`, as in `Field(default=1.0)`."""
else:
    _Checked = type(BaseModel)


class Settings(BaseModel, metaclass=_Checked):
    """Base class of every configuration: frozen, with documented options, refusing unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )

    @field_validator("*")
    @classmethod
    def _is_countable(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > MAX_INT:
            raise ValueError(f"expected a number up to {MAX_INT:,}")
        return value


SettingsT = TypeVar("SettingsT", bound=Settings)
MAX_INT = 2**63 - 1  # what tensors and files hold
KIND = "kind:"  # begins the mark of one of several settings that share a name


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merge by name at every depth, anything else replaces, and None removes the name.

    Entries of a list merge by their number where `over` has a mapping of numbers.
    """
    result: dict[str, Any] = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value)
        elif isinstance(value, Mapping) and isinstance(result.get(key), list | tuple):
            result[key] = _merge_items(str(key), result[key], value)
        elif isinstance(value, Mapping):
            result[key] = merge({}, value)
        else:
            result[key] = value
    return result


def _merge_items(name: str, base: Sequence[Any], over: Mapping[str, Any]) -> list[Any]:
    """Entries of a list merged by their number, as in `stages.0.steps=100`."""
    result = list(base)
    for key, value in over.items():
        if not str(key).isdecimal() or int(key) >= len(result):
            raise RecipeError(
                f"{name}.{key} is no entry of {name}, which has {len(result)}, counted from 0; write "
                f"{name}.0.KEY=VALUE."
            )
        old = result[int(key)]
        is_nested = isinstance(value, Mapping) and isinstance(old, Mapping)
        result[int(key)] = merge(old, value) if is_nested else value
    return result


def validated(
    settings: type[SettingsT], content: Any, *, where: str, error: type[Exception] = RecipeError
) -> SettingsT:
    """Validate plain mappings into settings.

    Args:
        settings: the class to fill.
        content: the mappings.
        where: dotted prefix for messages, such as `objectives.contrastive`; may be empty.
        error: class of the exception to raise.

    Raises:
        RecipeError: for the first fault: an unknown key with the nearest known one, or a value with what is
            expected.
    """
    try:
        return settings.model_validate(content)
    except ValidationError as fault:
        raise error(explain(fault, settings, where=where)) from None


def explain(fault: ValidationError, settings: type[BaseModel], *, where: str) -> str:
    """The first fault of a validation as a sentence.

    Unknown keys go first, since they usually cause the rest.
    """
    faults = sorted(fault.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = faults[0]
    location = [
        str(part)
        for part in first["loc"]
        if not str(part).startswith(("function-", "tagged-", "lax-or-strict"))
    ]
    name = ".".join([*([where] if where else []), *(part for part in location if not part.startswith(KIND))])
    if first["type"] == "extra_forbidden":
        known = _settings_at(settings, location[:-1]).model_fields
        near = near_setting(location[-1], settings, [*known])
        message = f"{name} is not a setting; {known_names(location[-1], known, near=near)}"
    elif first["type"] == "missing":
        message = f"{name} is missing; set it in the recipe or add {name}=VALUE."
    else:
        expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        expected = expected if first["type"] == "value_error" else f"expected {expected}"
        message = (
            f"{name} is {shown(first['input'])}; {expected.rstrip('.')}."
            if name
            else f"{expected.rstrip('.')}."
        )
    more = len(faults) - 1
    return message + (f" ({more} more fault{'s' if more > 1 else ''} after this one.)" if more else "")


def shown(value: Any) -> str:
    """A value as messages quote it, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _settings_at(settings: type[BaseModel], location: Sequence[str]) -> type[BaseModel]:
    """The settings class reached by following field names.

    Steps through optional fields, unions, lists and mappings.
    """
    current: Any = settings
    for part in location:
        options = [o for o in members(current) if isinstance(o, type) and issubclass(o, BaseModel)]
        if part.startswith(KIND):
            current = next(
                o
                for o in options
                if part.removeprefix(KIND) in typing.get_args(o.model_fields["kind"].annotation)
            )
            continue
        named = [o for o in options if part in o.model_fields]
        if named:
            current = named[0].model_fields[part].annotation
        elif containers := [m for m in members(current) if typing.get_origin(m) in (dict, list, tuple)]:
            current = typing.get_args(containers[0])[-1]
    options = [o for o in members(current) if isinstance(o, type) and issubclass(o, BaseModel)]
    return options[0] if options else settings


def of_kind(name: str) -> Tag:
    """Marks one of several settings that share a name in the recipe; see `by_kind`."""
    return Tag(KIND + name)


def by_kind(*names: str) -> Discriminator:
    """Settings of several kinds under one name; the key `kind` tells which, and the first is the default.

    Args:
        names: known kinds; their settings are marked with `of_kind` and have a field `kind`.

    Returns:
        What pydantic needs beside the union of the settings.
    """

    def tag(value: Any) -> str:
        kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
        return KIND + str(names[0] if kind is None else kind)

    return Discriminator(tag, custom_error_type="kind", custom_error_message=f"kind: {' or '.join(names)}")


def shorthand(key: str) -> Callable[[Any], Any]:
    """A validator that reads a plain word as `{key: word}`: `data=sample` means `data: {path: sample}`."""
    return lambda value: {key: value} if isinstance(value, (str, Path)) else value
