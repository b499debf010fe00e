"""YAML as recipes use it: the core rules of YAML 1.2, bounded in size and depth, with text for keys.

`010` is ten, `no` and `on` are words, a key is the text that stands there. What would not be a setting
anyway (tags such as `!!timestamp`, numbers that are not finite, a key given twice) is refused with its line.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from frugalclip.core.errors import RecipeError

MAX_DEPTH = 50  # levels of nesting; the deepest recipe has six
MAX_NODES = 50_000  # values and keys, those behind an alias counted each time it is used
MAX_BYTES = 4 * 2**20
MAX_DIGITS = 300
_TAG = "tag:yaml.org,2002:"
_SCALARS = {  # kind -> (how it is written, what it begins with), in the order in which they are tried
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
        r"|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
_PATTERNS = {kind: re.compile(f"(?:{pattern})\\Z") for kind, (pattern, _) in _SCALARS.items()}


class SpelledInt(int):
    """A whole number that remembers how it was written, for settings that turn out to be text."""

    text: str

    def __str__(self) -> str:
        return self.text


class SpelledFloat(float):
    """A number that remembers how it was written, for settings that turn out to be text."""

    text: str

    def __str__(self) -> str:
        return self.text


class ScalarError(ValueError):
    """A number that no setting can hold."""


def read_scalar(text: str) -> Any:
    """A number, true, false or None, if the words are one in YAML 1.2; else the words.

    Raises:
        ScalarError: for a number that is not finite or has too many digits.
    """
    kind = next((kind for kind, pattern in _PATTERNS.items() if pattern.match(text)), "str")
    return _read(kind, text)


def _read(kind: str, text: str) -> Any:
    if kind in ("int", "float") and len(text) > MAX_DIGITS:
        raise ScalarError(
            f"a number has {len(text):,} digits; write {MAX_DIGITS} at most, or put text in quotes"
        )
    if not _PATTERNS.get(kind, re.compile("")).match(text):
        raise ScalarError(f"'{text[:60]}' is tagged !!{kind}, which it is not")
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return _spelled(SpelledInt(text, 0 if text[:2] in ("0o", "0x") else 10), text)
        case "float":
            return _finite(text)
        case _:
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                raise ScalarError("text holds half a character (a lone surrogate)")
            return text


def _finite(text: str) -> float:
    value = SpelledFloat(re.sub(r"\.(?=[in])", "", text, flags=re.IGNORECASE))
    if value - value != 0:  # infinite, or no number
        raise ScalarError(f"{text[:60]} is not a finite number, and every setting is one; put text in quotes")
    return _spelled(value, text)


def _spelled(value: Any, text: str) -> Any:
    """The plain number where it would be written the same way."""
    plain = int(value) if isinstance(value, int) else float(value)
    if str(plain) == text:
        return plain
    value.text = text  # pyright: ignore[reportAttributeAccessIssue]
    return value


class _Yaml(yaml.SafeLoader):
    """The loader; PyYAML's own reads YAML 1.1."""

    yaml_implicit_resolvers: Any = {}  # noqa: RUF012  (PyYAML's own table, filled below)
    yaml_constructors: Any = {}  # noqa: RUF012

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._nodes = 0
        self._sizes: dict[str, int] = {}  # anchor -> nodes below it, once it is complete

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        anchor, before = str(getattr(event, "anchor", None) or ""), self._nodes
        is_alias = self.check_event(yaml.AliasEvent)
        if is_alias and anchor in self.anchors and anchor not in self._sizes:
            raise _fault(f"*{anchor} stands inside of itself", event)
        self._depth += 1
        self._nodes += self._sizes.get(anchor, 1) if is_alias else 1
        if self._depth > MAX_DEPTH:
            raise _fault(f"values are nested more than {MAX_DEPTH} levels deep", event)
        if self._nodes > MAX_NODES:
            raise _fault(f"there are more than {MAX_NODES:,} values", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if anchor and not is_alias:
            self._sizes[anchor] = self._nodes - before
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        result: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _fault("a key is a list or a mapping, expected a name", key_node)
            if key_node.value in result:
                raise _fault(f"the key '{key_node.value[:60]}' is given twice", key_node)
            result[key_node.value] = self.construct_object(value_node, deep=True)
        return result

    def scalar(self, node: Any) -> Any:
        try:
            return _read(node.tag.removeprefix(_TAG), self.construct_scalar(node))
        except ScalarError as error:
            raise _fault(str(error), node) from None

    def refused(self, node: Any) -> Any:
        tag = node.tag.replace(_TAG, "!!")[:60]
        raise _fault(f"the tag {tag} is not understood; leave it out, or put the value in quotes", node)


class _Refused(yaml.MarkedYAMLError):
    """YAML, but not of settings."""


def _fault(problem: str, at: Any) -> _Refused:
    return _Refused(problem=problem, problem_mark=at.start_mark)


for _kind, (_, _first) in _SCALARS.items():
    for _letter in _first:
        _entry = (_TAG + _kind, _PATTERNS[_kind])
        _Yaml.yaml_implicit_resolvers.setdefault(_letter.strip("\0"), []).append(_entry)
_Yaml.yaml_constructors = {
    **{_TAG + kind: _Yaml.scalar for kind in (*_SCALARS, "str")},
    _TAG + "map": _Yaml.construct_mapping,
    _TAG + "seq": lambda loader, node: loader.construct_sequence(node, deep=True),
    None: _Yaml.refused,
}


def parse_yaml(text: str, *, where: str) -> Any:
    """Parse YAML with the core rules of YAML 1.2; every key is text.

    Raises:
        RecipeError: naming `where`, the line and the fault.
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(
            f"{where} has {len(text):,} characters, expected settings in at most {MAX_BYTES:,}; is it the "
            "file you meant?"
        )
    try:
        return yaml.load(text, Loader=_Yaml)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        if isinstance(error, _Refused):
            raise RecipeError(f"{where}{line}: {problem}.") from None
        raise RecipeError(
            f"{where}{line} is not YAML: {problem}; check indentation, colons and quotes."
        ) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top level is a mapping."""
    if path.stat().st_size > MAX_BYTES:
        raise RecipeError(
            f"{path} has {path.stat().st_size:,} bytes, expected settings in at most {MAX_BYTES:,}; is it "
            "the file you meant?"
        )
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


class _Dumper(yaml.SafeDumper):
    """Writes text that YAML 1.2 reads back as text: `010` and `1e5` get quotes, which YAML 1.1 spares."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _written(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_other = any(pattern.match(text) for pattern in _PATTERNS.values())
    return dumper.represent_scalar(_TAG + "str", text, style="'" if is_other else None)


_Dumper.add_representer(str, _written)
_Dumper.add_representer(SpelledInt, lambda dumper, value: dumper.represent_int(int(value)))
_Dumper.add_representer(SpelledFloat, lambda dumper, value: dumper.represent_float(float(value)))


def dump_yaml(content: Any) -> str:
    """YAML in the order given, readable by `parse_yaml`."""
    return yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
    )


def dump_flow(content: Any) -> str:
    """YAML on one line, as it stands behind the `=` of a setting."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=10**6).strip()
