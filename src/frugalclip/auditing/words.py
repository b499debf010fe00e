"""One spelling of words for captions and for concept names: what is indexed is what is searched for.

Six defects of the published search (arXiv 2404.04125, `text_search_*.py`) are absent by construction. Case is
folded on both sides. Digits stay. Adjectives and verbs are indexed like nouns. A word that occurs nowhere
makes its concept rare, and is not left out of the search. A caption counts once. Both sides have one
dictionary. Homonyms (crane, kite) are not told apart.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import final

from frugalclip.data.words import FUNCTION_WORDS, lemmatizer

GAP = ""  # stands between two parts of a text that no phrase crosses
_TOKEN = re.compile(r"[^\W_]+|[.,;:!?()\[\]|\n]")
_ENGLISH = (  # plurals that the dictionary lacks, or takes for verbs
    ("people", "person"),
    ("sses", "ss"),
    *((f"{stem}ves", f"{stem}f") for stem in ("lea", "loa", "hal", "shel", "scar")),
)
_POSSESSIVE = re.compile(r"['’]s\b")


@final
class WordForms:
    """Splits texts into words, each in its dictionary form; equal words are looked up once.

    Args:
        language: a code such as `en`; words of a language that simplemma does not know stay as written.
        lemma: from a casefolded word to its dictionary form; by default simplemma's.
    """

    def __init__(self, language: str = "en", *, lemma: Callable[[str], str] | None = None) -> None:
        self._lemma, self.about = (lemma, "by a given function") if lemma else lemmatizer(language)
        self._endings = _ENGLISH if language == "en" and lemma is None else ()
        self._known: dict[str, str] = {}

    def __call__(self, text: str) -> list[str]:
        """Words of a text in order; `GAP` for punctuation that ends a phrase."""
        return [self._form(token) for token in tokens(text)]

    def _form(self, token: str) -> str:
        form = self._known.get(token)
        if form is None:
            # only words of letters have a dictionary form: 747s and A300B4 stay as they are
            form = self._dictionary_form(token) if token.isalpha() else _without_marks(token)
            self._known[token] = form
        return form

    def _dictionary_form(self, token: str) -> str:
        for plural, singular in self._endings:
            if token.endswith(plural):
                return token.removesuffix(plural) + singular
        return self._lemma(token)


def tokens(text: str) -> list[str]:
    """Casefolded runs of letters and digits, and punctuation marks."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if "'" in text or "’" in text:
        text = _POSSESSIVE.sub("", text)
    return _TOKEN.findall(text.casefold())


def _without_marks(token: str) -> str:
    return token if token[0].isalnum() else GAP


def content(words: Sequence[str]) -> list[str]:
    """The words that carry meaning, each once; all of them where none does."""
    every = list(dict.fromkeys(word for word in words if word != GAP))
    return [word for word in every if word not in FUNCTION_WORDS] or every
