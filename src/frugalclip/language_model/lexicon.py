"""The words among a tokenizer's entries: the axes of a lexical vector.

A vocabulary holds pieces of words, bytes, marks and the same word in several spellings (` dog`, `Dog`).
A lexicon keeps the entries that are words and merges spellings, so that a vector is read and indexed by word.
The rules are our own; LexVLA, arXiv 2407.17827, works on the raw vocabulary and names pieces of words as its
limit. Pieces that look like words (`ing`) stay: nothing tells them apart.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import tokenizers
import torch
from torch import Tensor

from frugalclip.core.errors import ModelError
from frugalclip.core.guard import reading
from frugalclip.core.records import write_json
from frugalclip.core.stored import read_object

FORMAT = 1
_BUILD = "build it again from the tokenizer"
NONE = -1  # the word of an entry that is no word
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_LEAST_LETTERS = 2


class Lexicon:
    """Words, and which entries of the vocabulary are spellings of each.

    Args:
        words: each once, in the order of their ids.
        of_token: the word's id of every entry of the vocabulary, or -1.
    """

    def __init__(self, words: Sequence[str], of_token: Sequence[int]) -> None:
        self.words = tuple(words)
        self.of_token = torch.tensor(of_token, dtype=torch.int64)  # (vocab,)
        self._kept = (self.of_token >= 0).nonzero().squeeze(1)  # (kept,) token ids

    @staticmethod
    def of(backend: tokenizers.Tokenizer, *, vocabulary: int | None = None) -> "Lexicon":
        """The lexicon of a tokenizer, which is the same however often it is built.

        Args:
            backend: the tokenizer.
            vocabulary: rows of the model's embedding, which may be more than the tokenizer has entries; the
                rest are no words.
        """
        entries = backend.get_vocab(with_added_tokens=True)
        special = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
        rows = max([vocabulary or 0, *(i + 1 for i in entries.values())])
        spelled = [""] * rows
        for entry, i in entries.items():
            if i not in special and not _BYTE.fullmatch(entry):
                spelled[i] = word_of(backend.decode([i], skip_special_tokens=False))
        words = sorted({word for word in spelled if word})
        ids = {word: i for i, word in enumerate(words)}
        return Lexicon(words, [ids.get(word, NONE) for word in spelled])

    def __len__(self) -> int:
        return len(self.words)

    def merge(self, scores: Tensor) -> Tensor:
        """Scores of words: the largest among those of their spellings; gradients go there.

        Args:
            scores: (..., vocab) of the vocabulary.

        Returns:
            (..., words) in the order of `words`.
        """
        index = self.of_token[self._kept].to(scores.device).expand(*scores.shape[:-1], -1)  # (..., kept)
        empty = scores.new_full((*scores.shape[:-1], len(self)), -torch.inf)
        return empty.scatter_reduce(
            -1, index, scores[..., self._kept.to(scores.device)], "amax", include_self=False
        )

    def content(self) -> dict[str, object]:
        """The lexicon as JSON."""
        return {"format": FORMAT, "words": list(self.words), "of_token": self.of_token.tolist()}

    def fingerprint(self) -> str:
        """16 hex digits over words and spellings; an index of another lexicon speaks of other axes."""
        return hashlib.blake2b(
            json.dumps(self.content(), ensure_ascii=True).encode(), digest_size=8
        ).hexdigest()

    def save(self, path: Path | str) -> None:
        """Write JSON with `format`, `words`, `of_token` and `fingerprint`."""
        write_json(Path(path), {**self.content(), "fingerprint": self.fingerprint()})

    @staticmethod
    def read(path: Path | str) -> "Lexicon":
        """Read what `save` wrote.

        Raises:
            ModelError: for a missing file, another format, or content that was changed.
        """
        if not Path(path).is_file():
            raise ModelError(f"there is no lexicon at {path}; write one with Lexicon.save.")
        content = read_object(Path(path), advice=_BUILD)
        if content.get("format") != FORMAT:
            raise ModelError(f"{path} is no lexicon of format {FORMAT}; {_BUILD}.")
        with reading(path, advice=_BUILD, error=ModelError):
            lexicon = Lexicon(content["words"], content["of_token"])
        if lexicon.fingerprint() != content.get("fingerprint"):
            raise ModelError(f"{path} was changed since it was written; {_BUILD}.")
        return lexicon


def word_of(text: str) -> str:
    """The word that an entry spells: lower case without white space around it, or nothing.

    Args:
        text: what the entry decodes to. A word has two letters at least, and nothing but letters and the
            marks on them.
    """
    word = unicodedata.normalize("NFC", text.strip()).lower()
    kinds = [unicodedata.category(character)[0] for character in word]
    return word if kinds.count("L") >= _LEAST_LETTERS and set(kinds) <= {"L", "M"} else ""
