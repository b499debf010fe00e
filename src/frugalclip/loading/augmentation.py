"""Text augmentation: words of a caption are exchanged, left out, or replaced by synonyms.

Source: EDA, Wei & Zou 2019, arXiv 1901.11196, section 2, as in DeCLIP's second text view (arXiv 2110.05208,
section 3.2): one random operation a caption. Synonyms come from the user's word list, since the usual source
must be downloaded; without a list, words are exchanged or left out. The change is a function of (seed, view,
row, epoch) alone. A caption of one word stays as it is.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from frugalclip.core.config import Settings
from frugalclip.core.errors import DataError
from frugalclip.core.paths import user_path
from frugalclip.core.random import uniform

Operation = Literal["swap", "delete", "synonym"]
_WORDS = 64  # words of a caption that may change; later ones stay
_OPERATION, _FIRST = 0, 1  # which draw decides what


class AugmentConfig(Settings):
    """The keys of `texts.<name>.augment` in a recipe."""

    operations: tuple[Operation, ...] = Field(
        ("swap", "delete"), min_length=1, description="one is drawn for each caption; DeCLIP: all three"
    )
    share: float = Field(
        0.1, gt=0, le=1, description="words that change, as a share of the caption, at least one; EDA: 0.1"
    )
    synonyms: str | None = Field(
        None, description="a text file with a line of words of one meaning each, separated by commas"
    )

    @model_validator(mode="after")
    def _has_words(self) -> "AugmentConfig":
        if "synonym" in self.operations and self.synonyms is None:
            raise ValueError(
                "synonym needs a word list; set synonyms: FILE, or leave synonym out of operations"
            )
        return self


class TextAugmentation:
    """Changes captions by a configuration."""

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config
        self._check_list()

    def __call__(self, texts: Sequence[str], counters: np.ndarray, *, seed: int, stream: str) -> list[str]:
        """Change every caption by one operation.

        Args:
            texts: captions.
            counters: (batch, 2) row and epoch of each.
            seed: of the run.
            stream: name of the random stream.

        Returns:
            As many captions, none of them empty where the original was not.
        """
        draws = uniform(seed, stream, counters, _FIRST + 2 * _WORDS)
        operations = self.config.operations
        return [
            self._changed(
                text,
                operations[int(row[_OPERATION] * len(operations))],
                row[_FIRST : _FIRST + _WORDS],
                row[_FIRST + _WORDS :],
            )
            for text, row in zip(texts, draws, strict=True)
        ]

    def _changed(self, text: str, operation: Operation, first: np.ndarray, second: np.ndarray) -> str:
        words = text.split()
        if len(words) < 2 and operation != "synonym":
            return text
        number = max(1, int(self.config.share * len(words)))
        return " ".join(
            {"swap": self._swapped, "delete": self._thinned, "synonym": self._replaced}[operation](
                words, number, first, second
            )
        )

    def _swapped(self, words: list[str], number: int, first: np.ndarray, second: np.ndarray) -> list[str]:
        for one, other in zip(first[:number], second[:number], strict=True):
            i = int(one * len(words))
            j = (i + 1 + int(other * (len(words) - 1))) % len(words)  # another place
            words[i], words[j] = words[j], words[i]
        return words

    def _thinned(self, words: list[str], number: int, first: np.ndarray, second: np.ndarray) -> list[str]:
        kept = [word for i, word in enumerate(words) if i >= _WORDS or first[i] >= self.config.share]
        return kept or [words[int(second[0] * len(words))]]

    def _replaced(self, words: list[str], number: int, first: np.ndarray, second: np.ndarray) -> list[str]:
        known = [i for i, word in enumerate(words[:_WORDS]) if word.lower() in self._synonyms]
        for i in sorted(known, key=lambda i: first[i])[:number]:
            others = self._synonyms[words[i].lower()]
            words[i] = others[int(second[i] * len(others))]
        return words

    @cached_property
    def _synonyms(self) -> dict[str, list[str]]:
        """Word -> words of the same meaning, itself left out."""
        found: dict[str, list[str]] = {}
        if self.config.synonyms is None:
            return found
        for line in user_path(self.config.synonyms).read_text(encoding="utf-8").splitlines():
            words = [word.strip().lower() for word in line.split(",") if word.strip()]
            for word in words:
                found.setdefault(word, []).extend(other for other in words if other != word)
        return {word: sorted(set(others)) for word, others in found.items() if others}

    def _check_list(self) -> None:
        if self.config.synonyms is None:
            return
        try:
            found = self._synonyms
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"the word list {self.config.synonyms} cannot be read ({error}); expected UTF-8 text, "
                "words separated by commas."
            ) from error
        if not found:
            raise DataError(
                f"the word list {self.config.synonyms} names no two words of one meaning; "
                "expected lines such as 'boat, ship, vessel'."
            )
