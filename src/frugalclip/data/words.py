"""Words of captions and names: one spelling of a name, the words of a text, and their dictionary forms."""

import re
import unicodedata
from collections.abc import Callable, Iterable

from frugalclip.core.errors import MissingExtra, require

FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "and",
        "or",
        "with",
        "without",
        "in",
        "on",
        "at",
        "to",
        "for",
        "from",
        "by",
        "no",
        "not",
        "as",
        "is",
    ]
)
_LETTERS = re.compile(r"[^\W\d_]{2,}")


def normalise(text: str) -> str:
    """The text without differences of case, spacing and underscores; equal results are one name."""
    return " ".join(text.replace("_", " ").split()).casefold()


def split_words(text: str) -> list[str]:
    """Runs of letters, digits and underscores; a text in a script without spaces is one word."""
    return re.findall(r"\w+", text)


def content_words(texts: Iterable[str], lemma: Callable[[str], str]) -> frozenset[str]:
    """Lemmas of the words of two letters or more in some texts, without (English) function words.

    Args:
        texts: captions and names.
        lemma: from `lemmatizer`.
    """
    spelled = (unicodedata.normalize("NFC", text).casefold() for text in texts)
    return frozenset(lemma(word) for text in spelled for word in _LETTERS.findall(text)) - FUNCTION_WORDS


def lemmatizer(language: str) -> tuple[Callable[[str], str], str]:
    """A function from a casefolded word to its dictionary form, and how words are compared, in words.

    Args:
        language: a code such as `en`. Without simplemma, or in a language it does not know, words stay as
            written.
    """
    try:
        simplemma = require("simplemma", extra="curate", purpose="comparing words by their lemma")
        simplemma.lemmatize("word", language)
    except (MissingExtra, ValueError) as error:
        return str, f"as written: {error}".rstrip(".")

    def lemma(word: str) -> str:
        if len(word) == 1:
            return word  # a letter is a name; simplemma takes m for am
        form = simplemma.lemmatize(word, language).casefold()
        is_strange = form == word and language == "en" and not simplemma.is_known(word, language)
        return _singular(word) if is_strange else form

    return lemma, f"by lemma ({language}, simplemma)"


def _singular(word: str) -> str:
    """An English word that is in no dictionary, without the ending of a plural."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    return word[:-2] if word.endswith(("ches", "shes", "ses", "xes", "zes")) else word[:-1]
