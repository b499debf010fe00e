"""Which rows of a data set mention each concept: names, the words they are searched by, and the search.

A concept is in a row where one of the row's texts holds all its words, in any order (`all_words`, the
published rule), or as they stand in its name (`phrase`). Names and texts go through one normaliser.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from frugalclip.auditing.postings import Postings, PostingsWriter
from frugalclip.auditing.words import WordForms, content
from frugalclip.core.errors import DataError
from frugalclip.core.progress import counter
from frugalclip.data.manifest import Manifest
from frugalclip.data.words import normalise

Match = Literal["all_words", "phrase"]
_BLOCK = 10_000  # rows whose captions are Python objects at once


@dataclass(frozen=True)
class Concept:
    """A name, and other names of the same thing."""

    names: list[str]

    @property
    def name(self) -> str:
        """What the concept is called in results."""
        return self.names[0]


def concepts_of(lines: Sequence[Sequence[str]]) -> list[Concept]:
    """Concepts from lists of names; a name in two spellings is one concept.

    Args:
        lines: the names of each concept, the one it goes by first.
    """
    return [Concept(list(names)) for names in {normalise(line[0]): line for line in lines if line}.values()]


def field_concepts(manifest: Manifest, field: str) -> list[Concept]:
    """The values of a field as concepts, sorted.

    Raises:
        DataError: when there is no such field, or it is empty.
    """
    values = manifest.field(field)
    every = (item for value in values for item in (value if isinstance(value, list) else [value]))
    names = sorted({" ".join(str(value).replace("_", " ").split()) for value in every if value is not None})
    found = concepts_of([[name] for name in names if name])
    if not found:
        raise DataError(f"the field '{field}' of {manifest.name} is empty; name another one with --field.")
    return found


def captions_with_rows(manifest: Manifest) -> Iterator[tuple[int, str]]:
    """Every caption with its row, a block of rows at a time."""
    count = counter("captions read, rows", len(manifest))
    for start in range(0, len(manifest), _BLOCK):
        block = manifest.table["captions"].slice(start, _BLOCK).to_pylist()
        for row, texts in enumerate(block, start=start):
            for text in texts or ():
                yield row, text
        count(len(block))


def caption_postings(manifest: Manifest, forms: WordForms, folder: Path) -> Postings:
    """The postings of a data set's captions, written into an empty folder."""
    writer = PostingsWriter(folder)
    writer.add((row, forms(text)) for row, text in captions_with_rows(manifest))
    return writer.finish()


@dataclass(frozen=True)
class TextSearch:
    """Searches captions for concepts."""

    postings: Postings
    forms: WordForms
    match: Match = "all_words"

    def rows(self, concept: Concept) -> np.ndarray:
        """(rows,) int32 rows with a caption that holds one of the names, ascending."""
        found = [self._rows_of(name) for name in concept.names]
        return found[0] if len(found) == 1 else np.unique(np.concatenate(found))

    def _rows_of(self, name: str) -> np.ndarray:
        words = self.forms(name)
        if self.match == "phrase":
            return self.postings.rows_with_phrase(words)
        return self.postings.rows_with(content(words))

    def absent_words(self, concept: Concept) -> list[str]:
        """Words of its name that no caption holds, which make its count 0."""
        words = content(self.forms(concept.name))
        return [word for word in words if word not in self.postings.numbers]


@dataclass(frozen=True)
class ConceptRows:
    """Rows of each concept in texts and in images."""

    concepts: list[Concept]
    text: list[np.ndarray]  # (rows,) int32 ascending, for each concept
    image: list[np.ndarray] | None  # likewise; None where no image was searched
    samples: int

    def both(self) -> list[np.ndarray] | None:
        """(rows,) rows with the concept in the text and in the image, for each concept."""
        if self.image is None:
            return None
        return [np.intersect1d(a, b, assume_unique=True) for a, b in zip(self.text, self.image, strict=True)]

    def per_row(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """(samples,) int32 concepts of each row."""
        counts = np.zeros(self.samples, dtype=np.int32)
        for own in rows:
            counts[own] += 1
        return counts
