"""Captions in several languages, in the forms that data sets use, as `{code: [caption, ...]}`.

Codes have the two letters of ISO 639-1, with a region or script as in `pt-BR` or `zh-Hans`. Three letters
(ISO 639-3) are accepted as keys.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

RECORDS = ("raw", "caption", "text", "sentence", "value")  # keys of a record such as {"raw": "a dog"}
NO_LANGUAGES = frozenset(
    {
        "raw",
        "url",
        "txt",
        "src",
        "tag",
        "len",
        "num",
        "new",
        "old",
        "alt",
        "key",
        "set",
        "uid",
        "ids",
        "max",
        "min",
        "sum",
        "idx",
        "map",
    }
)
# the first that is there
STEMS = (
    "caption",
    "text",
    "sentence",
    "description",
    "alttext",
    "alt",
    "title",
    "prompt",
    "comment",
    "name",
    "label",
)
_NAME = re.compile(
    r"(?i:(caption|text|sentence|description|alt_?text|alt|title|prompt|comment|name|label)s?)"
    r"[ _.-]([a-z]{2,3}(?:[-_][A-Za-z]{2,4})?)"
)
_CODE = re.compile(r"[a-z]{2,3}([-_]\w+)*")
_TWO_LETTERS = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el
en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu
ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na
nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn
so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
ISO_639_1 = frozenset(_TWO_LETTERS.split())


def is_code(text: str) -> bool:
    """Whether a word is the code of a language, such as `en` or `pt-BR`."""
    return bool(re.fullmatch(r"[A-Za-z]{2}([-_]\w{2,4})*", text)) and text[:2].lower() in ISO_639_1


def stem_and_code(name: str) -> tuple[str, str] | None:
    """`("caption", "de")` of a name such as `captions_de`; None for names of other things."""
    found = _NAME.fullmatch(name)
    return (found[1].lower().replace("_", ""), found[2]) if found else None


def languages_beside(record: Mapping[str, Any]) -> tuple[dict[str, list[str]], set[str]]:
    """Captions by language of one JSON object, and the keys that they were taken from.

    They stand in a mapping (`captions`, `captions_by_language`), or in keys such as `caption_de`.
    """
    for key in ("captions_by_language", "captions", "caption", "translations", "translation"):
        if found := languages_in(record.get(key)):
            return found, {key}
    stems: dict[str, dict[str, str]] = {}
    for key in record:
        if (
            (named := stem_and_code(key))
            and re.split("[-_]", named[1])[0] in ISO_639_1 - {"id"}
            and texts_in(record[key])
        ):
            stems.setdefault(named[0], {})[named[1]] = key
    keys = next((stems[stem] for stem in STEMS if stem in stems), {})
    return {code: texts_in(record[key]) for code, key in keys.items()}, set(keys.values())


def texts_in(value: Any) -> list[str]:
    """Captions in text, a list, or records such as `{"raw": "a dog"}`; trimmed, without empty ones."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value.strip()] if value.strip() else []
    if isinstance(value, Mapping):
        inner = next((value[key] for key in RECORDS if value.get(key)), None)
        return texts_in(inner)
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [text for item in value for text in texts_in(item)]
    return []


def languages_in(value: Any) -> dict[str, list[str]]:
    """Captions by language, in any of the ways they are written down.

    Args:
        value: `{"en": "dog", "de": ["Hund", "Köter"]}`, the pairs that Arrow makes of a map, `{"language":
            ["en", "de"], "translation": [...]}` as Hugging Face's translations, or records such as
            `[{"language": "en", "text": "dog"}]`.

    Returns:
        `{language: captions}`, without empty ones; empty for anything else.
    """
    if isinstance(value, list) and value:
        if all(
            isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], str) for item in value
        ):
            value = dict(value)
        elif all(isinstance(item, Mapping) for item in value):
            return _joined(
                (str(item.get("language") or item.get("lang") or ""), _without_code(item)) for item in value
            )
    if not isinstance(value, Mapping):
        return {}
    if isinstance(value.get("language"), list) and isinstance(value.get("translation"), list):
        return _joined(zip(value["language"], value["translation"], strict=False))
    if isinstance(value.get("language"), str):
        return _joined([(value["language"], _without_code(value))])
    if any(key in value for key in RECORDS) or NO_LANGUAGES & value.keys():
        return {}
    return _joined(value.items())


def _without_code(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("language", "lang")}


def _joined(pairs: Iterable[tuple[Any, Any]]) -> dict[str, list[str]]:
    """Texts of pairs of a language and its captions, where the language is a code."""
    found: dict[str, list[str]] = {}
    for code, texts in pairs:
        if isinstance(code, str) and _CODE.fullmatch(code) and (kept := texts_in(texts)):
            found.setdefault(code, []).extend(kept)
    return found


def training_captions(by_language: Mapping[str, Sequence[str]]) -> list[str]:
    """The captions for training, of many languages: English, else the first language by code."""
    if not by_language:
        return []
    return list(by_language["en"] if "en" in by_language else by_language[min(by_language)])
