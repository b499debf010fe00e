"""`key=value` pairs of a command line as nested mappings.

The type of a setting decides how its words are read. A setting that is text (a path, a condition, a model, a
name, one of several words) takes the words as they stand: `data=photos #1`, `data.where=name=part #2`, `007`.
Everything else is a value of YAML: a number, `true`, `null`, `[a list]`, `{a: mapping}`, `"text in quotes"`.
Nothing behind the `=` unsets what may be unset.
"""

import json
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from frugalclip.core.annotations import key_of, members
from frugalclip.core.errors import RecipeError
from frugalclip.core.yaml_text import ScalarError, parse_yaml, read_scalar

Names = tuple[str, ...]
_ENTRY = re.compile(r"\{\s*[\w\"'-]+\s*:\s*\S")  # `{key: value`, and not a folder called `{a,b}`


@dataclass(frozen=True)
class Schema:
    """What is known of the settings before they are validated.

    Args:
        settings: the outermost configuration.
        shorthands: sections that a plain word stands for -> the key that it sets.
        own: gives the configuration at a place that only the content decides, such as an objective's.
    """

    settings: type[BaseModel]
    shorthands: Mapping[Names, str] = field(default_factory=dict)
    own: Callable[[Names, Mapping[str, Any]], type[BaseModel] | None] = lambda place, content: None

    def kinds(self, place: Names, content: Mapping[str, Any]) -> list[Any]:
        """The types that a dotted name may have; empty if it is not known.

        Args:
            place: the parts of the name.
            content: the settings as far as they are known, which tell kinds.
        """
        found: list[Any] = [self.settings]
        for depth, name in enumerate(place, 1):
            own = self.own(place[:depth], content)
            found = [own] if own else [kind for one in found for kind in _inner(one, name)]
        return found


def _inner(kind: Any, name: str) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        named = [field for key, field in kind.model_fields.items() if name == key_of(key, field)]
        return [one for each in named for one in members(each.annotation)]
    return members(typing.get_args(kind)[-1]) if typing.get_origin(kind) is dict else []


def parse_overrides(
    pairs: Sequence[str], *, schema: Schema, content: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`a.b=1 c=[x, y]` as nested mappings, ready to merge.

    Args:
        pairs: as they stand on a command line.
        schema: types of the settings.
        content: of the recipe that is overridden, which tells kinds.

    Raises:
        RecipeError: when a pair has no `=`, or its value does not parse.
    """
    known = dict(content or {})
    for pair in pairs:  # a kind that is set behind what it decides counts too
        place, text = _split(pair)
        if place[-1] in ("kind", "from"):
            known = _joined(known, _nested(place, text))
    result: dict[str, Any] = {}
    for pair in pairs:
        place, text = _split(pair)
        result = _joined(result, _nested(place, _value(place, text, schema=schema, content=known)))
    return result


def _split(pair: str) -> tuple[Names, str]:
    name, equals, text = pair.partition("=")
    place = tuple(name.strip().split("."))
    if not equals or not all(place):
        raise RecipeError(
            f"'{pair}' is not an override; write key=value, such as objectives.contrastive.weight=1."
        )
    return place, text


def _value(place: Names, text: str, *, schema: Schema, content: Mapping[str, Any]) -> Any:
    kinds, key = schema.kinds(place, content), schema.shorthands.get(place)
    if key is not None and not _ENTRY.match(text.strip()):
        inner = schema.kinds((*place, key), content)
        return {key: read_value(text, inner, where=".".join(place))} if text.strip() else None
    return read_value(text, kinds, where=".".join(place))


def read_value(text: str, kinds: Sequence[Any], *, where: str) -> Any:
    """The value of a setting from its words.

    Args:
        text: as it stands behind the `=`.
        kinds: types that the setting may have; none: not known.
        where: dotted name of the setting, for messages.

    Raises:
        RecipeError: for a list, mapping or quoted text that does not parse, or a number without meaning.
    """
    words = text.strip()
    is_text = all(map(_is_text, kinds)) and bool(kinds)
    if not words:
        is_optional = not is_text and not any(one in (int, float, bool) for one in kinds)
        return None if type(None) in kinds or is_optional else ""
    if is_text:
        return text
    is_words = bool(kinds) and all(_is_text(one) or _is_list_of_text(one) for one in kinds)
    if words[0] == "[" or (words[0] in "{\"'" and not is_words):
        return parse_yaml(words, where=f"override {where}")
    if is_words:
        return text
    try:
        return read_scalar(words)
    except ScalarError as error:
        raise RecipeError(f"override {where}: {error}.") from None


def _is_text(kind: Any) -> bool:
    """Whether a type holds text, or nothing."""
    if typing.get_origin(kind) is typing.Literal:
        return all(isinstance(one, str) for one in typing.get_args(kind))
    return kind in (str, Path, type(None))


def _is_list_of_text(kind: Any) -> bool:
    inner = [one for one in typing.get_args(kind) if one is not Ellipsis]
    is_list = typing.get_origin(kind) in (list, tuple)
    return is_list and all(_is_text(one) for each in inner for one in members(each))


def _nested(place: Names, value: Any) -> dict[str, Any]:
    for part in reversed(place):
        value = {part: value}
    return value


def _joined(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings joined by name at every depth, with each None kept, which removes a name later."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _joined(result[key], value) if both else value
    return result


def as_pairs(settings: Mapping[str, Any]) -> list[str]:
    """Keyword arguments of Python as `key=value` pairs.

    Args:
        settings: `optimizer__lr=1e-3` stands for `optimizer.lr`; a mapping sets its names and leaves others.
    """
    return list(_pairs((name.replace("__", "."), value) for name, value in settings.items()))


def _pairs(settings: Iterable[tuple[str, Any]]) -> Iterable[str]:
    for name, value in settings:
        if isinstance(value, Mapping) and value:
            yield from _pairs((f"{name}.{key}", inner) for key, inner in value.items())
        elif value is None:
            yield f"{name}="
        elif isinstance(value, (str, Path)):
            yield f"{name}={value}"
        else:
            yield f"{name}={json.dumps(value, ensure_ascii=False, default=str)}"
