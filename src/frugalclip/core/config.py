"""Typed settings, YAML, merging and overrides.

A configuration is plain mappings until it is validated into `Settings`. Merging and overrides work on
mappings, so an override means what the same line in a recipe means. The type of a field converts a value,
never its spelling.
"""

import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Tag, ValidationError

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
        validate_default=True,
        protected_namespaces=(),
    )


SettingsT = TypeVar("SettingsT", bound=Settings)
KIND = "kind:"  # begins the mark of one of several settings that share a name


class _Yaml(yaml.SafeLoader):
    """YAML 1.2's core rules: `1e-5` is a number, `no` and `on` are words, a repeated key is an error."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own table, narrowed)
        first: [
            (tag, pattern)
            for tag, pattern in pairs
            if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
        ]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # pyright: ignore[reportUnknownMemberType]
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+[eE][-+]?[0-9]+"
        r"|\.(?:inf|Inf|INF|nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def parse_yaml(text: str, *, where: str) -> Any:
    """Parse YAML with numbers as YAML 1.2 has them.

    Raises:
        RecipeError: naming `where`, the line and the fault.
    """
    try:
        return yaml.load(text, Loader=_Yaml)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise RecipeError(
            f"{where}{line} is not YAML: {getattr(error, 'problem', error)}; check indentation and colons."
        ) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top level is a mapping."""
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), where=str(path))
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8."
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise RecipeError(
            f"{path} holds a {type(content).__name__}, expected a mapping such as "
            "'objectives: {contrastive: {}}'."
        )
    return content


def dump_yaml(content: Any) -> str:
    """YAML in the order given, readable by `parse_yaml`."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merge by name at every depth, anything else replaces, and None removes the name."""
    result: dict[str, Any] = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value)
        elif isinstance(value, Mapping):
            result[key] = merge({}, value)
        else:
            result[key] = value
    return result


def parse_overrides(
    pairs: Sequence[str], *, expand: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> dict[str, Any]:
    """`a.b=1 c=[x, y]` as nested mappings, ready to merge.

    Args:
        pairs: as they stand on a command line.
        expand: writes shorthands out in the mapping of one pair, so that `data=PATH data.where=W` add up.

    Raises:
        RecipeError: when a pair has no `=` or names a setting inside a value given whole.
    """
    result: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        parts = name.strip().split(".")
        if not equals or not all(parts):
            raise RecipeError(
                f"'{pair}' is not an override; write key=value, such as objectives.contrastive.weight=1."
            )
        value = parse_yaml(text, where=f"override {name}") if text.strip() else ""
        for part in reversed(parts[1:]):
            value = {part: value}
        value = expand({parts[0]: value})[parts[0]]
        previous = result.get(parts[0])
        if isinstance(previous, dict) and isinstance(value, dict):
            value = _merge_keeping_none(previous, value)
        result[parts[0]] = value
    return result


def _merge_keeping_none(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merge_keeping_none(result[key], value) if both else value
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
        message = f"{name} is not a setting; {known_names(location[-1], known)}"
    elif first["type"] == "missing":
        message = f"{name} is missing; set it in the recipe or add {name}=VALUE."
    else:
        expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        expected = expected if first["type"] == "value_error" else f"expected {expected}"
        message = (
            f"{name} is {_short(first['input'])}; {expected.rstrip('.')}."
            if name
            else f"{expected.rstrip('.')}."
        )
    more = len(faults) - 1
    return message + (f" ({more} more fault{'s' if more > 1 else ''} after this one.)" if more else "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _settings_at(settings: type[BaseModel], location: Sequence[str]) -> type[BaseModel]:
    """The settings class reached by following field names.

    Steps through optional fields, unions, lists and mappings.
    """
    current: Any = settings
    for part in location:
        options = [o for o in _members(current) if isinstance(o, type) and issubclass(o, BaseModel)]
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
        elif containers := [m for m in _members(current) if typing.get_origin(m) in (dict, list, tuple)]:
            current = typing.get_args(containers[0])[-1]
    options = [o for o in _members(current) if isinstance(o, type) and issubclass(o, BaseModel)]
    return options[0] if options else settings


def _members(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [member for argument in typing.get_args(annotation) for member in _members(argument)]
    return [annotation]


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
