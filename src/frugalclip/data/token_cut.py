"""Cut a tokenizer to some of its tokens; every text can still be written.

A text of which all tokens stay has the same tokens afterwards. Of every token that stays, so do the tokens
that byte-pair merges make it from, and single characters or bytes, which spell all other words. Byte-pair
encoding, WordPiece and Unigram are cut; in each the choice between tokens only has fewer candidates left.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tokenizers

from frugalclip.core.errors import ModelError
from frugalclip.data.tokens import Tokenizer

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # how byte fallback writes one


class TokenCut:
    """Which tokens of a tokenizer go together, and the tokenizer that is left of some.

    Args:
        tokenizer: the whole one.

    Raises:
        ModelError: for a tokenizer that cannot be cut.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._content: dict[str, Any] = json.loads(tokenizer.backend.to_str())
        self._ids = tokenizer.backend.get_vocab()
        self._words = {number: word for word, number in self._ids.items()}
        kind = self._content["model"]["type"]
        if kind not in _MODELS:
            raise ModelError(
                f"a tokenizer of the kind {kind} cannot be cut, since it has no tokens that spell other "
                f"words; expected {', '.join(_MODELS)}. Leave change.vocabulary.keep out."
            )
        self._model = _MODELS[kind](self._content["model"])

    def always(self) -> set[int]:
        """Ids that stay in every cut: special tokens, and those that spell what no other token does."""
        words = {*self._model.atoms(), *_template_tokens(self._content.get("post_processor"))}
        found = {self._ids[word] for word in words if word in self._ids}
        return self.with_sources(found | self.tokenizer.special_ids)

    def with_sources(self, ids: Iterable[int]) -> set[int]:
        """Ids with those of the tokens that they are merged from."""
        found = self._model.with_sources({self._words[one] for one in ids if one in self._words})
        return {self._ids[word] for word in found}

    def cut(self, ids: Iterable[int]) -> Tokenizer:
        """The tokenizer of which only these ids are left, and what must stay with them.

        Ids keep their order and are numbered anew.
        """
        kept = self.with_sources(ids) | self.always()
        numbers = {old: new for new, old in enumerate(sorted(kept))}
        ids_by_word = {word: numbers[old] for word, old in self._ids.items() if old in kept}
        content = {
            **self._content,
            "model": self._model.cut(ids_by_word),
            "added_tokens": [
                one | {"id": ids_by_word[one["content"]]}
                for one in self._content["added_tokens"]
                if one["content"] in ids_by_word
            ],
            "post_processor": _renumbered(self._content.get("post_processor"), ids_by_word),
        }
        backend = tokenizers.Tokenizer.from_str(json.dumps(content))
        if backend.get_vocab() != ids_by_word:
            raise ModelError(
                "this tokenizer cannot be cut: its file numbers added tokens in another way than they are "
                "read; leave change.vocabulary.keep out."
            )
        return self.tokenizer.renumbered(backend, numbers)


def kept_ids(smaller: Tokenizer, whole: Tokenizer) -> np.ndarray | None:
    """Where the tokens of a cut tokenizer stand in the whole one.

    Returns:
        (vocab,) int64 ids of the whole one by ids of the smaller one; None where it is no cut of it.
    """
    words, ids = smaller.backend.get_vocab(), whole.backend.get_vocab()
    if not words.keys() <= ids.keys() or sorted(words.values()) != list(range(len(words))):
        return None
    found = np.array([ids[word] for word in sorted(words, key=words.__getitem__)], dtype=np.int64)
    try:
        cut = TokenCut(whole).cut(found.tolist())
    except ModelError:
        return None
    return found if cut.fingerprint() == smaller.fingerprint() else None


class _TokenModel(ABC):
    """The model section of a `tokenizers` JSON. Abstract; every subclass is final."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content
        self.affixes = [
            content.get("continuing_subword_prefix") or "",
            content.get("end_of_word_suffix") or "",
        ]

    def words(self) -> list[str]:
        """Every token of the model, without those that were added to it."""
        return list(self.content["vocab"])

    @abstractmethod
    def cut(self, ids: Mapping[str, int]) -> dict[str, Any]:
        """The section with the tokens that stay, by their new ids."""

    def with_sources(self, words: set[str]) -> set[str]:
        """Tokens with those that they are made from: by default none."""
        return words

    def atoms(self) -> set[str]:
        """Tokens of one character or byte, and the one for what is unknown."""
        every = self.words()
        spelling = (
            [word for word in every if _BYTE.fullmatch(word)] if self.content.get("byte_fallback") else []
        )
        unknown = self.content.get("unk_token")
        return {*(spelling or filter(self._is_character, every)), *([] if unknown is None else [unknown])}

    def _is_character(self, word: str) -> bool:
        prefix, suffix = self.affixes
        return len(word.removeprefix(prefix).removesuffix(suffix)) == 1


class _BytePairs(_TokenModel):
    """Byte-pair encoding: merges whose result stays, stay."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        pairs = [one.split(" ") if isinstance(one, str) else one for one in content["merges"]]
        prefix = self.affixes[0]
        self.merges = [(first, second, first + second.removeprefix(prefix)) for first, second in pairs]
        self.sources: dict[str, set[str]] = {}  # of every token that merges make
        for first, second, result in self.merges:
            self.sources.setdefault(result, set()).update((first, second))

    def with_sources(self, words: set[str]) -> set[str]:
        found, new = set(words), set(words)
        while new:
            new = set().union(*(self.sources.get(word, set()) for word in new)) - found
            found |= new
        return found

    def cut(self, ids: Mapping[str, int]) -> dict[str, Any]:
        merges = [[one[0], one[1]] for one in self.merges if all(word in ids for word in one)]
        return {**self.content, "vocab": _sorted(ids, self.content["vocab"]), "merges": merges}


class _WordPiece(_TokenModel):
    """WordPiece: the longest token that fits, from the left."""

    def cut(self, ids: Mapping[str, int]) -> dict[str, Any]:
        return {**self.content, "vocab": _sorted(ids, self.content["vocab"])}


class _Unigram(_TokenModel):
    """Unigram: the most probable tokens. The least probable one stays: what is unknown scores below it."""

    def words(self) -> list[str]:
        return [word for word, _ in self.content["vocab"]]

    def atoms(self) -> set[str]:
        scores = self.content["vocab"]
        unknown = self.content.get("unk_id")
        least = min(scores, key=lambda one: one[1])[0]
        return super().atoms() | {least} | (set() if unknown is None else {scores[unknown][0]})

    def cut(self, ids: Mapping[str, int]) -> dict[str, Any]:
        left = [[word, score] for word, score in self.content["vocab"] if word in ids]
        unknown = self.content.get("unk_id")
        place = (
            None if unknown is None else [word for word, _ in left].index(self.content["vocab"][unknown][0])
        )
        return {**self.content, "vocab": left, "unk_id": place}


_MODELS: dict[str, type[_TokenModel]] = {"BPE": _BytePairs, "WordPiece": _WordPiece, "Unigram": _Unigram}


def _sorted(ids: Mapping[str, int], vocabulary: Mapping[str, int]) -> dict[str, int]:
    """New ids of the model's own tokens, without those that were added."""
    return {word: ids[word] for word in sorted(vocabulary, key=vocabulary.__getitem__) if word in ids}


def _template_tokens(content: Any) -> set[str]:
    """Special tokens that a post-processor puts around a text."""
    if isinstance(content, Mapping):
        own = {one[0] for key in ("sep", "cls") if isinstance(one := content.get(key), list)}
        tokens = content.get("special_tokens")
        named = set(tokens) if isinstance(tokens, Mapping) else set()
        return own.union(named, *map(_template_tokens, content.get("processors") or ()))
    return set()


def _renumbered(content: Any, ids: Mapping[str, int]) -> Any:
    """A post-processor with the new ids of its special tokens."""
    if not isinstance(content, Mapping):
        return content
    changed = dict(content)
    for key in ("sep", "cls"):
        if isinstance(one := content.get(key), list):
            changed[key] = [one[0], ids[one[0]]]
    if isinstance(tokens := content.get("special_tokens"), Mapping):
        changed["special_tokens"] = {
            name: {**one, "ids": [ids[word] for word in one["tokens"]]} for name, one in tokens.items()
        }
    if (inner := content.get("processors")) is not None:
        changed["processors"] = [_renumbered(one, ids) for one in inner]
    return changed
