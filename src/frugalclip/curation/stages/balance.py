"""Balance over a vocabulary: rows with common entries are thinned, rows with a rare one stay.

Source: MetaCLIP, see `curation.vocabulary`. The limit is a count of matches (paper: 20,000 for 400 million
pairs); with the same share of matches in the tail it carries over to data of any size.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
from pydantic import Field, model_validator

from frugalclip.core.errors import DataError
from frugalclip.core.paths import user_path
from frugalclip.core.random import uniform
from frugalclip.curation.base import CurationStage, CurationStageConfig, StageRows, Verdict
from frugalclip.curation.vocabulary import (
    PhraseMatcher,
    drawn_rows,
    entry_counts,
    entry_probabilities,
    keep_probabilities,
    limit_of_share,
    tail_share,
)
from frugalclip.data.manifest import Manifest, value_code
from frugalclip.data.words import content_words, lemmatizer


class Config(CurationStageConfig):
    vocabulary: str = Field(
        "words",
        description="words: those of the captions by their lemma; field:NAME: the values of a field, such as "
        "class names; else a file with an entry a line",
    )
    language: str = Field("en", description="of the captions, for lemmas of vocabulary: words")
    least: int = Field(2, ge=1, description="rows that a word of the captions needs to be an entry")
    case: Literal["fold", "keep"] = Field("fold", description="MetaCLIP keeps the case")
    tail_share: float | None = Field(
        None, gt=0, lt=1, description="share of matches that belong to rare entries; 0.15 is usual"
    )
    limit: float | None = Field(None, gt=0, description="matches of an entry that are kept on average")
    unmatched: Literal["drop", "keep"] = Field("drop", description="rows without any entry; MetaCLIP: drop")

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.tail_share is None) == (self.limit is None):
            raise ValueError("tail_share and limit are both given or both missing; give one")
        return self


@final
class Balance(CurationStage):
    Config = Config
    compares_rows = True
    value = "probability with which the row stays"
    reasons: ClassVar = {
        "no-entry": "none of its captions holds an entry of the vocabulary",
        "not-drawn": "its entries are common, and no draw of them kept it",
    }

    def describe(self) -> Mapping[str, Any]:
        if path := self._file():
            return {"vocabulary_content": hashlib.blake2b(_read(path), digest_size=8).hexdigest()}
        return {}

    def decide(self, rows: StageRows) -> Verdict:
        verdict, config = Verdict(len(rows)), self.config
        entries, index = self._matches(rows.manifest)
        counts = entry_counts(index, len(entries)) / rows.share
        limit = config.limit if config.limit is not None else limit_of_share(counts, config.tail_share)
        probabilities = entry_probabilities(counts, limit)
        expected = keep_probabilities(index, probabilities, len(rows))
        keys = np.array([value_code(entry) for entry in entries], dtype=np.uint64)
        pairs = np.stack([rows.codes[index[:, 1]], keys[index[:, 0]]], axis=1)
        draws = uniform(rows.seed, "curate/balance", pairs, 1)[:, 0]
        is_drawn = np.zeros(len(rows), dtype=bool)
        is_drawn[drawn_rows(index, probabilities, draws)] = True
        has_entry = np.zeros(len(rows), dtype=bool)
        has_entry[index[:, 1]] = True
        verdict.values[:] = np.where(has_entry, expected, np.nan)
        if config.unmatched == "drop":
            verdict.drop(~has_entry, "no-entry")
        verdict.drop(has_entry & ~is_drawn, "not-drawn")
        verdict.notes = [
            f"{len(entries):,} entries, limit {limit:,.4g} matches, "
            f"tail share {tail_share(counts, limit):.3f}",
            f"expected to keep {expected.sum():,.0f} of the {int(has_entry.sum()):,} rows with an entry",
        ]
        return verdict

    def _file(self) -> Path | None:
        name = self.config.vocabulary
        return None if name == "words" or name.startswith("field:") else self.folder / user_path(name)

    def _matches(self, manifest: Manifest) -> tuple[list[str], np.ndarray]:
        """Entries of the vocabulary, and the (matches, 2) index of those in each row's captions."""
        config, captions = self.config, manifest.captions()
        if config.vocabulary == "words":
            lemma, _ = lemmatizer(config.language)
            words = [content_words(texts, lemma) for texts in captions]
            counts = Counter(word for row in words for word in row)
            entries = sorted(word for word, count in counts.items() if count >= config.least)
            numbers = {word: number for number, word in enumerate(entries)}
            found = [(numbers[w], row) for row, ws in enumerate(words) for w in sorted(ws) if w in numbers]
            return entries, np.array(found, dtype=np.int64).reshape(-1, 2)
        if path := self._file():
            lines = _read(path).decode("utf-8", "replace").splitlines()
            entries = sorted({line.strip() for line in lines} - {""})
        else:
            values = manifest.field(config.vocabulary.removeprefix("field:"))
            every = (item for value in values for item in (value if isinstance(value, list) else [value]))
            entries = sorted({str(value) for value in every if value is not None})
        return entries, PhraseMatcher(entries, fold_case=config.case == "fold").index(captions)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}), expected a vocabulary with an entry a line; correct "
            "the plan's vocabulary."
        ) from None
