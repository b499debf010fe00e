"""What the value of a caption column means: text, several texts, languages, the answers of a conversation.

Any other structure, such as boxes or numbers, is no caption, and never becomes one as raw JSON.
"""

import ast
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from frugalclip.sources.languages import languages_in, texts_in

_ROLES, _CONTENTS = ("from", "role", "speaker"), ("value", "content", "text")
_QUESTIONS = ("user", "human")
_ANSWERS = ("gpt", "assistant", "model", "bot", "chatgpt", "answer")
_PYTHON = re.compile(r"""[\[({]\s*(?:[\[({]\s*)*['"]""")  # a list or mapping as Python writes it
_LONGEST_PYTHON = 50_000  # characters


@dataclass(frozen=True)
class CaptionValue:
    """Captions of one cell."""

    texts: list[str] = field(default_factory=list)
    by_language: dict[str, list[str]] = field(default_factory=dict)
    is_structured: bool = False  # a structure without captions in it


def caption_value(value: Any, *, is_label: bool = False) -> CaptionValue:
    """Captions in the value of a cell.

    Args:
        value: text (also JSON), a list, a record, captions by language, or a conversation.
        is_label: whether it is the name of a class, whose underscores are spaces.
    """
    value = parsed(value)
    if is_conversation(value):
        return CaptionValue(answers_in(value)[:1])
    if not isinstance(value, str) and (languages := languages_in(value)):
        return CaptionValue(by_language=languages)
    texts = texts_in(value)
    if is_label:
        texts = [text.replace("_", " ") for text in texts]
    return CaptionValue(texts, is_structured=not texts and not _is_empty(value))


def _is_empty(value: Any) -> bool:
    """Whether a value is a text, or holds nothing but empty ones."""
    items = value if isinstance(value, list) else [value]
    return all(item is None or isinstance(item, str) or item in ([], {}) for item in items)


def parsed(value: Any) -> Any:
    """The value of JSON, or of a Python list or mapping, in a text; any other value as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text[:1] not in "{[" or text[-1:] not in "}]" or not text:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _python(text)


def _python(text: str) -> Any:
    if len(text) > _LONGEST_PYTHON or not _PYTHON.match(text):
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes such as \d, which stay what they are
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def is_structured(text: str) -> bool:
    """Whether a text is a structure without captions in it, such as boxes as JSON."""
    return caption_value(text).is_structured


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of turns, each with a role and a content, or with question and answer."""
    return isinstance(value, list) and bool(value) and all(map(_is_turn, value))


def _is_turn(turn: Any) -> bool:
    if not isinstance(turn, Mapping):
        return False
    if any(key in turn for key in _QUESTIONS) and any(key in turn for key in _ANSWERS):
        return True
    return isinstance(_first(turn, _ROLES), str) and any(key in turn for key in _CONTENTS)


def answers_in(conversation: list[Mapping[str, Any]]) -> list[str]:
    """Texts of the turns that the model is to give, in order."""
    found = [_answer(turn) for turn in conversation]
    return [text for text in found if text]


def _answer(turn: Mapping[str, Any]) -> str:
    """Text of a turn that the model is to give; empty for any other turn."""
    is_answer = str(_first(turn, _ROLES)).lower() in _ANSWERS
    return " ".join(texts_in(_first(turn, _CONTENTS if is_answer else _ANSWERS)))


def _first(turn: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((turn[key] for key in keys if turn.get(key) is not None), None)
