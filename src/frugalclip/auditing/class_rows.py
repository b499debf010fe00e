"""Which rows of the training data show each class, what is written about them, and what belongs together."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from frugalclip.auditing.words import WordForms, content
from frugalclip.core.errors import DataError
from frugalclip.data.manifest import Manifest
from frugalclip.data.words import normalise
from frugalclip.evaluation.classes import row_names
from frugalclip.evaluation.groups import find_groups

STYLES = ("style", "domain", "source")  # fields that are looked for


@dataclass(frozen=True)
class ClassRows:
    """The rows of each class in the training data, and their texts."""

    names: list[list[str]]  # (classes,) names of each, the one it goes by first
    labels: np.ndarray  # (rows, classes) bool
    mentions: np.ndarray  # (rows, classes) bool, whether a caption of the row holds all words of a name
    keyworded: np.ndarray  # (rows, classes) bool, whether a keyword does
    captions: list[list[str]]  # (rows,) of each row
    keywords: list[list[str]]  # (rows,) of each row; empty where the data has none
    groups: np.ndarray  # (rows,) int64 equal for rows that a fold must not separate
    domains: np.ndarray | None  # (rows,) int64 drawing style or source of each
    source: str  # how rows were found to show a class, in words


@dataclass(frozen=True)
class NameSearch:
    """Finds names in texts: all words of a name, in any order, in dictionary forms."""

    names: Sequence[Sequence[str]]

    @cached_property
    def _wanted(self) -> tuple[WordForms, list[list[frozenset[str]]], frozenset[str]]:
        forms = WordForms()
        wanted = [[frozenset(content(forms(name))) for name in own] for own in self.names]
        return forms, wanted, frozenset(word for own in wanted for name in own for word in name)

    def rows(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        """(rows, classes) bool, from the texts of each row."""
        return np.array([self(own) for own in texts], dtype=bool).reshape(len(texts), len(self.names))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(classes,) bool, whether one of the texts holds the name of a class."""
        forms, wanted, known = self._wanted
        words = [found for text in texts if (found := known.intersection(forms(text)))]
        return np.array([any(name <= one for one in words for name in own) for own in wanted], dtype=bool)


def class_rows(
    manifest: Manifest,
    names: Sequence[Sequence[str]],
    *,
    label_field: str | None = None,
    style_field: str | None = None,
) -> ClassRows:
    """Find the rows of classes.

    Args:
        manifest: the training data.
        names: (classes,) names of each class.
        label_field: field with the class or classes of a row; default `label` where there is one, else a
            row shows the classes that its captions or keywords name.
        style_field: field with the drawing style or source of a row; default `style`, `domain` or `source`.

    Raises:
        DataError: when a field is unknown, or no row shows a class.
    """
    captions = [[text for text in own or () if text.strip()] for own in manifest.captions()]
    keywords, search = _keywords(manifest), NameSearch(names)
    mentions, keyworded = (search.rows(texts) for texts in (captions, keywords))
    if label_field is None and "label" in manifest.field_names:
        label_field = "label"
    labels, source = mentions | keyworded, "captions and keywords that name them"
    if label_field is not None:
        labels, source = _labelled(manifest, names, label_field), f"field {label_field}"
    if not labels.any():
        raise DataError(
            f"no row of {manifest.name} shows one of the {len(names)} classes by its {source}; check the "
            "spelling, or name the field with classes by --label-field."
        )
    if style_field is None:
        style_field = next((name for name in STYLES if name in manifest.field_names), None)
    return ClassRows(
        names=[list(own) for own in names],
        labels=labels,
        mentions=mentions,
        keyworded=keyworded,
        captions=captions,
        keywords=keywords,
        groups=find_groups(manifest).codes,
        domains=None if style_field is None else manifest.codes(style_field),
        source=source,
    )


def _keywords(manifest: Manifest) -> list[list[str]]:
    if "keywords" not in manifest.field_names:
        return [[] for _ in range(len(manifest))]
    listed = (value if isinstance(value, list) else [value] for value in manifest.field("keywords"))
    return [[str(word) for word in own if word] for own in listed]


def _labelled(manifest: Manifest, names: Sequence[Sequence[str]], field: str) -> np.ndarray:
    place = {normalise(name): column for column, own in enumerate(names) for name in own}
    labels = np.zeros((len(manifest), len(names)), dtype=bool)
    found, _ = row_names(manifest, label_field=field)
    for row, own in enumerate(found):
        for name in own:
            if (column := place.get(normalise(name))) is not None:
                labels[row, column] = True
    return labels
