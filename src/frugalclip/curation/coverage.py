"""Words and languages of captions before and after a curation, and words that too few rows are left for.

A word counts once a row. Words have their dictionary form, as in `frugalclip audit`. The published search
(arXiv 2404.04125) relates how often a concept occurs to how well a model knows it, so that a word which a
plan makes rare is worth a look.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from frugalclip.auditing.concepts import captions_with_rows
from frugalclip.auditing.words import WordForms, content
from frugalclip.core.errors import MissingExtra
from frugalclip.data.manifest import Manifest
from frugalclip.data.statistics import detected_languages, sampled_captions

LEAST = 5  # rows, below which a word is rare
_DETECTED = 2_000  # captions whose language is detected


@final
@dataclass(frozen=True)
class WordCoverage:
    """Words of the captions of all rows, and of those that stay."""

    words: int  # before
    common: int  # that LEAST rows have before
    lost: int  # that no row has after
    fallen: Mapping[str, tuple[int, int]]  # common before and rare after -> rows before and after
    about: str  # how dictionary forms were found


def word_coverage(before: Manifest, after: Manifest) -> WordCoverage:
    """Compare the words of two data sets.

    Args:
        before: rows with the captions that they came with.
        after: rows that stay, with captions that stages have written.
    """
    forms = WordForms()
    old, new = _rows_of_words(before, forms), _rows_of_words(after, forms)
    fallen = {word: (count, new[word]) for word, count in old.items() if count >= LEAST > new[word]}
    return WordCoverage(
        words=len(old),
        common=sum(count >= LEAST for count in old.values()),
        lost=sum(not new[word] for word in old),
        fallen=dict(sorted(fallen.items(), key=lambda item: (-item[1][0], item[1][1], item[0]))),
        about=forms.about,
    )


def _rows_of_words(manifest: Manifest, forms: WordForms) -> Counter[str]:
    """Word -> rows with it in any caption."""
    counts: Counter[str] = Counter()
    current, words = -1, set[str]()
    for row, text in captions_with_rows(manifest):
        if row != current:
            counts.update(words)
            current, words = row, set()
        words.update(content(forms(text)))
    counts.update(words)
    return counts


def language_counts(before: Manifest, after: Manifest) -> dict[str, tuple[int, int]]:
    """Language -> captions before and after, the most frequent first.

    Languages are those that the data names, then those that a stage detected (field `detected_language`),
    then those of a sample of the captions by their dictionaries, which needs `simplemma`; empty without it.
    """
    old, new = _languages(before), _languages(after)
    order = sorted({*old, *new}, key=lambda name: (-old.get(name, 0), name))
    return {name: (old.get(name, 0), new.get(name, 0)) for name in order}


def _languages(manifest: Manifest) -> dict[str, int]:
    if manifest.languages:
        rows = manifest.field("captions_by_language")
        return dict(Counter(name for pairs in rows for name, texts in pairs or () if texts))
    if "detected_language" in manifest.field_names:
        return dict(Counter(name for name in manifest.field("detected_language") if name))
    try:
        return detected_languages(sampled_captions(manifest.captions(), _DETECTED))
    except MissingExtra:
        return {}
