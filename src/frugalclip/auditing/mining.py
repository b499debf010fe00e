"""Concepts mined from captions: nouns and pairs of words that stand together.

Nouns are found without a tagger: a word is one where it mostly ends a run of content words, as in `a red
disc on a table`, and is no participle. Experimental: nobody has counted how many mined words are no nouns.
Pairs are neighbouring words, the second one a noun, that occur together far more often than by chance
(normalised pointwise mutual information, Bouma 2009).
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from frugalclip.auditing.concepts import Concept
from frugalclip.auditing.words import GAP, WordForms, tokens
from frugalclip.data.words import FUNCTION_WORDS

LEAST = 10  # rows of a concept; the paper keeps nouns of at least so many images
_NOUN = 0.5  # share of a word's occurrences that end a run of content words
_TOGETHER = 0.4  # normalised mutual information of a pair
_OTHER_WORDS = """
    i you he she it we they me him her us them my your his its our their this that these those who which
    what there here are was were be been being am has have had do does did can could will would shall
    should may might must very so too also just only than then while when where how if but because about
    into over under near through between behind above below off out up down against during after before
    next front some any all each every many much more most few other another one two three four five six
    seven eight nine ten several both such own same new
    """
_NOT_NOUNS = FUNCTION_WORDS | frozenset(_OTHER_WORDS.split())
_PARTICIPLES = ("ing", "ed")
_FEW_LETTERS = 3


class ConceptMiner:
    """Counts words and pairs of words, and names those that are concepts.

    Args:
        forms: splits captions into words, as the search does.
    """

    def __init__(self, forms: WordForms) -> None:
        self.forms = forms
        self._rows: Counter[str] = Counter()  # rows that hold a word
        self._seen: Counter[str] = Counter()
        self._ends: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()  # rows that hold a pair
        self._samples = 0

    def add(self, texts: Iterable[str]) -> None:
        """Count the captions of one row."""
        words: set[str] = set()
        pairs: set[tuple[str, str]] = set()
        for text in texts:
            for run in self._runs(text):
                words.update(run)
                self._seen.update(run)
                self._ends[run[-1]] += 1
                if len(run) > 1:
                    pairs.add((run[-2], run[-1]))
        self._rows.update(words)
        self._pairs.update(pairs)
        self._samples += 1

    def _runs(self, text: str) -> Iterable[list[str]]:
        """Runs of content words of a text; a participle ends none."""
        run: list[str] = []
        for token, word in zip(tokens(text), self.forms(text), strict=True):
            if word == GAP or word in _NOT_NOUNS or (token != word and token.endswith(_PARTICIPLES)):
                if run:
                    yield run
                run = []
            else:
                run.append(word)
        if run:
            yield run

    def concepts(self, *, least: int = LEAST, most: int | None = None) -> list[Concept]:
        """Nouns and pairs of at least `least` rows, the most frequent first.

        Args:
            least: rows that hold one.
            most: how many; None gives all.
        """
        found = [
            (count, word) for word, count in self._rows.items() if count >= least and self._is_noun(word)
        ]
        found += [
            (count, f"{first} {second}")
            for (first, second), count in self._pairs.items()
            if count >= least and self._is_noun(second) and self._together(first, second, count) >= _TOGETHER
        ]
        found.sort(key=lambda one: (-one[0], one[1]))
        return [Concept([name]) for _, name in found[:most]]

    def _is_noun(self, word: str) -> bool:
        is_word = word.isalpha() and len(word) >= _FEW_LETTERS
        return is_word and self._ends[word] > _NOUN * self._seen[word]

    def _together(self, first: str, second: str, count: int) -> float:
        share = count / self._samples
        apart = self._rows[first] * self._rows[second] / self._samples**2
        return math.log(share / apart) / -math.log(share) if share < 1 else 1.0


def mined_concepts(
    rows: Iterable[Sequence[str]], forms: WordForms, *, least: int = LEAST, most: int | None = None
) -> list[Concept]:
    """Concepts of the captions of some rows, see `ConceptMiner`."""
    miner = ConceptMiner(forms)
    for texts in rows:
        miner.add(texts)
    return miner.concepts(least=least, most=most)
