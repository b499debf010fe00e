"""Where each word of a data set's captions stands: lists on disk, built in one pass with flat memory.

A text's words get consecutive positions, with a gap behind each text. The positions of a word, ascending, are
its postings. Words are searched for by position alone, so one index answers for words in any order and for
phrases. A folder holds `positions.npy`, `ends.npy` (of each word's postings), `starts.npy` (of each text),
`rows.npy` (of each text) and `words.txt`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Self, final

import numpy as np
import numpy.lib.format

from frugalclip.auditing.words import GAP

BLOCK = 50_000  # texts that are in memory at once
_FILES = ("positions", "ends", "starts", "rows")


@dataclass(frozen=True)
class _Block:
    """Positions of the words of some texts, sorted by word."""

    words: np.ndarray  # (tokens,) int32
    positions: np.ndarray  # (tokens,) uint32


@final
class PostingsWriter:
    """Collects the words of texts, block by block, in a folder.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers: dict[str, int] = {}
        self._blocks, self._next = 0, 0
        self._starts: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []

    def add(self, texts: Iterable[tuple[int, Sequence[str]]]) -> None:
        """Add texts.

        Args:
            texts: the row that each belongs to, rows ascending, and its words.
        """
        left = iter(texts)
        while block := list(islice(left, BLOCK)):
            self._add_block(block)

    def _add_block(self, texts: Sequence[tuple[int, Sequence[str]]]) -> None:
        numbers = self.numbers
        tokens = [
            -1 if word == GAP else numbers.setdefault(word, len(numbers))
            for _, words in texts
            for word in words
        ]
        lengths = np.array([len(words) for _, words in texts], dtype=np.int64)
        texts_before = np.repeat(np.arange(len(texts)), lengths)
        words = np.array(tokens, dtype=np.int32)
        positions = self._next + np.arange(len(words)) + texts_before  # a gap of one behind each text
        starts = self._next + np.cumsum(lengths + 1) - (lengths + 1)
        self._next += int((lengths + 1).sum())
        order = np.argsort(words, kind="stable")
        order = order[np.searchsorted(words[order], 0) :]
        block = _Block(words[order], positions[order].astype(np.uint32))
        np.save(self.folder / f"block-{self._blocks}-words.npy", block.words)
        np.save(self.folder / f"block-{self._blocks}-positions.npy", block.positions)
        self._blocks += 1
        self._starts.append(starts.astype(np.uint32))
        self._rows.append(np.array([row for row, _ in texts], dtype=np.int32))

    def finish(self) -> "Postings":
        """Write what was added as postings."""
        counts = np.zeros(len(self.numbers), dtype=np.int64)
        for block in self._read():
            counts += np.bincount(block.words, minlength=len(counts))
        ends = np.cumsum(counts)
        target = numpy.lib.format.open_memmap(
            self.folder / "positions.npy", "w+", np.dtype(np.uint32), (int(counts.sum()),)
        )
        filled = ends - counts
        for block in self._read():
            own = np.bincount(block.words, minlength=len(counts))
            inside = np.arange(len(block.words)) - np.repeat(np.cumsum(own) - own, own)
            target[filled[block.words] + inside] = block.positions
            filled += own
        target.flush()
        nothing = [np.zeros(0, np.uint32)]
        np.save(self.folder / "ends.npy", ends)
        np.save(self.folder / "starts.npy", np.concatenate([*nothing, *self._starts, [self._next]]))
        np.save(self.folder / "rows.npy", np.concatenate([np.zeros(0, np.int32), *self._rows]))
        (self.folder / "words.txt").write_text("\n".join(self.numbers), encoding="utf-8")
        for file in self.folder.glob("block-*.npy"):
            file.unlink()
        return Postings(self.folder)

    def _read(self) -> Iterator[_Block]:
        for number in range(self._blocks):
            words, positions = (
                np.load(self.folder / f"block-{number}-{name}.npy") for name in ("words", "positions")
            )
            yield _Block(words, positions)


@final
class Postings:
    """The words of a data set's texts, read from a folder; only what is searched for comes into memory.

    Args:
        folder: that `PostingsWriter` filled.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._positions, self._ends, self._starts, self._rows = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in _FILES
        )

    @classmethod
    def of(cls, texts: Iterable[tuple[int, Sequence[str]]], folder: Path) -> Self:
        """Write the postings of texts, see `PostingsWriter.add`, into an empty folder."""
        writer = PostingsWriter(folder)
        writer.add(texts)
        writer.finish()
        return cls(folder)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Word -> its number."""
        text = (self.folder / "words.txt").read_text(encoding="utf-8")
        return {word: number for number, word in enumerate(text.split("\n"))} if text else {}

    @property
    def texts(self) -> int:
        """How many texts there are."""
        return len(self._rows)

    def positions(self, word: str) -> np.ndarray:
        """(occurrences,) int64 positions of a word, ascending."""
        number = self.numbers.get(word)
        if number is None:
            return np.zeros(0, dtype=np.int64)
        start = int(self._ends[number - 1]) if number else 0
        return self._positions[start : int(self._ends[number])].astype(np.int64)

    def occurrences(self) -> np.ndarray:
        """(words,) int64 how often each word occurs."""
        return np.diff(self._ends, prepend=0)

    def rows_with(self, words: Sequence[str]) -> np.ndarray:
        """(rows,) int32 rows with a text that holds all of the words, ascending; none for no words."""
        found = sorted((self.positions(word) for word in words), key=len)
        if not found or not len(found[0]):
            return np.zeros(0, dtype=np.int32)
        texts = np.unique(self._texts_at(found[0]))
        for positions in found[1:]:  # the rarest word decides how much is compared
            first = np.searchsorted(positions, self._starts[texts])
            last = np.searchsorted(positions, self._starts[texts + 1])
            texts = texts[last > first]
        return np.unique(self._rows[texts])

    def rows_with_phrase(self, words: Sequence[str]) -> np.ndarray:
        """(rows,) int32 rows with a text that holds the words one behind the other, ascending.

        Args:
            words: in their order; a `GAP` among them stands for punctuation, which the text has there too.
        """
        placed = [(self.positions(word), place) for place, word in enumerate(words) if word != GAP]
        found = sorted(placed, key=lambda one: len(one[0]))
        if not found or not len(found[0][0]):
            return np.zeros(0, dtype=np.int32)
        starts = found[0][0] - found[0][1]
        for positions, place in found[1:]:
            if not len(positions):
                return np.zeros(0, dtype=np.int32)
            nearest = np.minimum(np.searchsorted(positions, starts + place), len(positions) - 1)
            starts = starts[positions[nearest] == starts + place]
        return np.unique(self._rows[self._texts_at(starts)])

    def _texts_at(self, positions: np.ndarray) -> np.ndarray:
        """(positions,) the text that each position is in."""
        return np.searchsorted(self._starts, positions, side="right") - 1
