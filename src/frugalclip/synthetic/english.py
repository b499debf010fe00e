"""Enough English to name a picture's objects: articles, plurals, counts and lists.

A name such as `man with white cane` or `glasses` becomes a noun phrase that can be counted, sized and
coloured. What is no noun, such as `no smoking`, is called a symbol, and what cannot be counted gets a measure
word: a slice of bacon, two pairs of glasses.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from frugalclip.core.yaml_text import read_yaml

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORDS = read_yaml(Path(__file__).with_name("words.yaml"))
_IRREGULAR: dict[str, str] = _WORDS["irregular"]
_MEASURES: dict[str, str] = _WORDS["measures"]
_UNCHANGED, _NOT_MEN, _SINGULAR_S = (
    frozenset(_WORDS[name]) for name in ("unchanged", "not_men", "singular_s")
)
_PAIRS, _GROUPS, _BUNCHES = (frozenset(_WORDS[name]) for name in ("pairs", "groups", "bunches"))
_PROPER, _SIGNS = (frozenset(_WORDS[name]) for name in ("proper", "signs"))
_MARKERS, _LAST, _PEOPLE = (frozenset(_WORDS[name]) for name in ("markers", "last", "people"))
COLOUR_WORDS, SIDE_WORDS = (frozenset(_WORDS[name]) for name in ("colours", "sides"))


@dataclass(frozen=True)
class Noun:
    """A name that can be counted: `one`, `many`, and a `rest` that follows a measure word."""

    one: str  # cat · pair
    many: str  # cats · pairs
    rest: str = ""  # of what: glasses, or nothing

    def phrase(self, count: int = 1, *, before: str = "", colour: str = "") -> str:
        """The noun without article, such as `small red cats` or `small pairs of red glasses`."""
        head = self.one if count == 1 else self.many
        words = (before, head, "of", colour, self.rest) if self.rest else (before, colour, head)
        return " ".join(word for word in words if word)


def noun(name: str) -> Noun:
    """The noun that a name stands for.

    Args:
        name: as `clean_name` gives it.
    """
    name = _rephrased(name)
    lower = name.lower()
    if lower in _PROPER:
        return Noun("picture", "pictures", f"{'the ' if lower[:6] in ('statue', 'milky ') else ''}{name}")
    if lower in _MEASURES:
        return Noun(_MEASURES[lower], plural(_MEASURES[lower]), name)
    if lower in _SIGNS or _is_a_sign(lower):
        return Noun(f"{name} symbol", f"{name} symbols")
    words = name.split()
    end = _head_end(words)
    head, tail = words[end - 1], " ".join(words[end:])
    if "and" in words[:end]:
        return Noun(name, f"sets of {name}")
    if is_plural(head):
        kinds = (("group", _GROUPS), ("pair", _PAIRS), ("bunch", _BUNCHES))
        measure = next((kind for kind, members in kinds if head.lower() in members), "set")
        return Noun(measure, plural(measure), name)
    # women pilots
    first = [plural(words[0])] if end > 1 and words[0] in ("man", "woman") else words[: min(1, end - 1)]
    many = " ".join([*first, *words[1 : end - 1], plural(head), *([tail] if tail else [])])
    return Noun(name, many)


def clean_name(text: str) -> str | None:
    """A caption as a name, without article, full stop and remarks in brackets; None where it is no name.

    A name has one to eight words and is made of letters; sentences, file names and numbers are none.
    """
    text = " ".join(re.sub(r"\([^)]*\)", " ", text).replace("’", "'").split())
    text = re.sub(r"^(?:an?|the)\s+(?!button)", "", text.rstrip(" .,;!"), flags=re.IGNORECASE)
    words = text.split()
    letters = sum(character.isalpha() for character in text)
    is_prose = re.search(r"(?<!Mr)(?<!Mrs)(?<!Dr)(?<!St)[.!?] [A-Z]", text)
    if (
        is_prose
        or not 1 <= len(words) <= 8
        or letters < 0.6 * len(text.replace(" ", ""))
        or re.search(r"[#_@<>|/\\=;]", text)
    ):
        return None
    return text


def _rephrased(name: str) -> str:
    """Names made of a word and a remark, as prose: `man: bald` is a bald man."""
    if found := re.fullmatch(r"(\w+): bald", name):
        return f"bald {found[1]}"
    if found := re.fullmatch(r"(\w+): (beard)", name):
        return f"{found[1]} with a {found[2]}"
    if found := re.fullmatch(r"(\w+): (.+ hair)", name):
        return f"{found[1]} with {found[2]}"
    if found := re.fullmatch(r"(family|kiss|couple with heart): (.+)", name):
        members = listed([f"{article(one)} {one}" for one in found[2].split(", ")])
        return f"{found[1]} {'between' if found[1] == 'kiss' else 'of'} {members}"
    if re.fullmatch(r"[\w-]+ o'clock|[\w]+-thirty", name):
        return f"clock showing {name}"
    return name.replace(":", "")


def _is_a_sign(name: str) -> bool:
    words = name.split()
    if words[0] in ("no", "input", "keycap") or "gesturing" in words:
        return "gesturing" not in words
    return words[0] in ("locked", "unlocked") or words[-1] == "tone"


def _head_end(words: Sequence[str]) -> int:
    """How many words there are up to the noun itself."""
    if words[-1].lower() in _LAST:
        return len(words)
    for place, word in enumerate(words):
        if place and (
            word.lower() in _MARKERS or (word.endswith("ing") and words[place - 1].lower() in _PEOPLE)
        ):
            return place
    return len(words)


def is_plural(word: str) -> bool:
    """Whether a noun names several things, as far as its form tells."""
    word = word.lower()
    if word in _GROUPS or word in _PAIRS or word in _BUNCHES or word in _IRREGULAR.values():
        return word not in ("oxen",)
    return (
        len(word) > 3
        and word.endswith("s")
        and not word.endswith(("ss", "us", "is", "'s"))
        and word not in _SINGULAR_S
    )


def plural(word: str) -> str:
    """The plural of a noun."""
    lower = word.lower()
    if lower in _UNCHANGED:
        return word
    if lower in _IRREGULAR:
        return _IRREGULAR[lower]
    if lower.endswith("man") and lower not in _NOT_MEN and len(lower) > 3:
        return f"{word[:-2]}en"
    if "-" in lower and lower.split("-")[-1] in _IRREGULAR:
        return f"{word[: word.rindex('-') + 1]}{_IRREGULAR[lower.split('-')[-1]]}"
    if re.search(r"(?:s|x|z|ch|sh)$", lower):
        return f"{word}es"
    if re.search(r"[^aeiou]y$", lower):
        return f"{word[:-1]}ies"
    return f"{word}s"


def article(phrase: str) -> str:
    """`a` or `an`, by the sound that a phrase begins with."""
    return _article_before(phrase.split(maxsplit=1)[0])


@lru_cache(maxsize=4096)
def _article_before(word: str) -> str:
    first = word.strip("\"'“”").split("-")[0]
    lower = first.lower()
    if re.match(r"(?:8|11$|18$|80|sos$)", lower):
        return "an"
    if len(first) == 1 or (
        first.isupper() and not re.search(r"[AEIOU]", first)
    ):  # read letter by letter, as X-ray or SMS
        return "an" if lower[0] in "aefhilmnorsx" else "a"
    if re.match(r"(?:hour|honest|heir|honou?r)", lower):
        return "an"
    if re.match(r"(?:uni(?![nmd])|use|usu|uti|u\.|eu|ewe|ukulele|one|once|ou?ija|ufo)", lower):
        return "a"
    return "an" if lower[:1] in tuple("aeiouéáó") else "a"


def counted(noun: Noun, count: int = 1, *, before: str = "", colour: str = "") -> str:
    """`a small red cat`, `two red cats`."""
    phrase = noun.phrase(count, before=before, colour=colour)
    return f"{article(phrase)} {phrase}" if count == 1 else f"{NUMBERS[count]} {phrase}"


def listed(items: Sequence[str], *, joint: str = "and") -> str:
    """`a cat`, `a cat and a dog`, `a cat, a dog and a hen`."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {joint} {items[-1]}"


def sentence(text: str) -> str:
    """A clause with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."
