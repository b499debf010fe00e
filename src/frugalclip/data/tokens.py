"""Texts to token ids: CLIP's vocabulary, one trained on the user's captions, or any `tokenizers` file.

Source: CLIP's byte-pair encoding as in open_clip (arXiv 2103.00020); its merges file and notice are in
`vocabulary/`. Captions that are too long keep the end token as their last id. SLIP's copy cuts it off, and
then reads its text feature at the start token. The Rust backend gets words only; start, end, padding and
truncation are added here, so that all vocabularies behave alike.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Literal

import numpy as np
import tokenizers
import torch
from pydantic import Field

from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import DataError, ModelError
from frugalclip.core.guard import reading
from frugalclip.core.paths import user_path
from frugalclip.core.records import read_json, write_atomically, write_json
from frugalclip.core.types import Tokens
from frugalclip.data.byte_pairs import (
    CAPTION_WORDS,
    CLIP_WORDS,
    byte_level_backend,
    clean_text,
    clip_merges,
    count_words,
    train_merges,
    word_splitter,
)
from frugalclip.data.tokenizer_fit import check_words

START, END, PAD, MASK = "<start_of_text>", "<end_of_text>", "<pad>", "<mask>"
# texts handed to the backend at once: its encodings are large, and one chunk keeps every thread busy
_CHUNK = 4096


class TokenizerSettings(Settings):
    """What a tokenizer does around its backend; stored beside `tokenizer.json`."""

    kind: Literal["captions", "clip", "file"]
    context: int = Field(ge=3, description="longest sequence in tokens, start and end included")
    start: int
    end: int
    pad: int
    mask: int
    clean: bool = Field(
        description="repair encodings, unescape HTML, collapse whitespace, lower case, as CLIP does"
    )


class TokenizerConfig(Settings):
    """The `tokenizer` section of a recipe."""

    kind: Literal["captions", "clip", "file"] = Field(
        "captions", description="captions: trained on your captions; clip; file: a tokenizers JSON"
    )
    path: str | None = Field(None, description="the JSON file, for kind: file")
    vocabulary: int = Field(4096, ge=600, description="largest number of tokens, for kind: captions")
    context: int | None = Field(
        None, ge=3, description="longest sequence in tokens; 32 for captions, otherwise 77"
    )


def _without_lone_surrogates(text: str) -> str:
    """Text that the backend accepts; half a surrogate pair, as broken JSON leaves it, would stop the run."""
    return text.encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class TokenTable:
    """Many texts' token ids, end to end."""

    ids: np.ndarray  # (tokens,) int32
    offsets: np.ndarray  # (texts + 1,) int64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def tokens(self, texts: np.ndarray, *, pad: int, length: int | None = None) -> Tokens:
        """Some texts as a padded batch.

        Args:
            texts: (batch,) positions in the table.
            pad: id to fill with.
            length: columns of the result; by default the longest of these texts.
        """
        starts = self.offsets[texts]
        lengths = self.offsets[np.asarray(texts) + 1] - starts
        columns = np.arange(max(length or 0, int(lengths.max(initial=0))))
        is_text = columns < lengths[:, None]  # (batch, length)
        places = np.where(is_text, starts[:, None] + columns, 0)
        ids = np.where(is_text, self.ids[places] if len(self.ids) else pad, pad)
        return Tokens(torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(lengths.astype(np.int64)))


class Tokenizer:
    """A vocabulary with its cleaning, special ids and context. Build one with the functions below.

    Args:
        backend: splits cleaned text into ids; adds no special tokens itself.
        settings: special ids, context, cleaning.
    """

    gives_ids = True  # False: texts go on as they are

    def __init__(self, backend: tokenizers.Tokenizer, settings: TokenizerSettings) -> None:
        self.backend = backend
        self.settings = settings
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # a caption that contains '<mask>' means those letters
        self.vocabulary = 1 + max(
            backend.get_vocab().values()
        )  # rows of a token embedding; files may leave gaps in their ids

    @property
    def size(self) -> int:
        """Tokens of the vocabulary; a mask that was put behind a published one is not one of them."""
        mask = self.backend.token_to_id(MASK)
        return self.vocabulary - (self.settings.kind != "captions" and mask == self.vocabulary - 1)

    start = property(lambda self: self.settings.start)
    end = property(lambda self: self.settings.end)
    pad = property(lambda self: self.settings.pad)
    mask = property(lambda self: self.settings.mask)
    context = property(lambda self: self.settings.context)

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that stand for no word of a text."""
        return frozenset({self.start, self.end, self.pad, self.mask})

    def renumbered(self, backend: tokenizers.Tokenizer, numbers: Mapping[int, int]) -> "Tokenizer":
        """The same rules over another backend.

        Args:
            backend: whose tokens have other ids.
            numbers: new ids by old ones.
        """
        names = ("start", "end", "pad", "mask")
        own = {name: numbers[getattr(self.settings, name)] for name in names}
        return Tokenizer(backend, self.settings.model_copy(update=own))

    def encode(
        self, texts: Sequence[str], *, context: int | None = None, pad_to: int | None = None
    ) -> Tokens:
        """Token ids with start and end.

        Args:
            texts: any strings; an empty one gives start and end.
            context: longest sequence; by default the tokenizer's own. Longer texts keep the end token as
                their last id.
            pad_to: columns of the result; by default the longest text of this call.

        Returns:
            ids (batch, length) int64 padded on the right, lengths (batch,) int64.
        """
        if isinstance(texts, str):
            raise DataError("encode() takes a list of texts, found one string; write encode([text]).")
        table = self.table(texts, context=context)
        return table.tokens(np.arange(len(table)), pad=self.pad, length=pad_to)

    def table(self, texts: Iterable[str], *, context: int | None = None) -> TokenTable:
        """The same ids without padding, for texts that are read many times."""
        limit = (context or self.context) - 2
        if limit < 1:
            raise DataError(
                f"context={context} leaves no room between the start and the end token; "
                "set context=3 or more."
            )
        parts: list[int] = []
        lengths: list[int] = [0]
        for words in self._words(texts):
            words = words[:limit]
            parts.append(self.start)
            parts.extend(words)
            parts.append(self.end)
            lengths.append(len(words) + 2)
        return TokenTable(np.array(parts, dtype=np.int32), np.cumsum(lengths, dtype=np.int64))

    def truncated(self, texts: Iterable[str], *, context: int | None = None) -> int:
        """How many of the texts do not fit the context."""
        limit = (context or self.context) - 2
        return sum(len(words) > limit for words in self._words(texts))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of a sequence of ids, up to the end token; special tokens are left out."""
        text = list(takewhile(lambda i: i != self.end, map(int, ids)))
        special = {self.start, self.mask} | (
            {self.pad} if self.settings.kind != "clip" else set()
        )  # CLIP pads with id 0, which is '!'
        return self.backend.decode([i for i in text if i not in special], skip_special_tokens=False).strip()

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` (the `tokenizers` format) and `tokenizer_config.json` (ours)."""
        write_atomically(Path(folder) / "tokenizer.json", self.backend.to_str())
        write_json(Path(folder) / "tokenizer_config.json", self.settings.model_dump(mode="json"))

    @staticmethod
    def read(folder: Path) -> "Tokenizer":
        """Read what `save` wrote.

        Raises:
            ModelError: naming the file that is missing or damaged.
        """
        config = Path(folder) / "tokenizer_config.json"
        if not config.is_file():
            raise ModelError(
                f"{folder} has no tokenizer_config.json; give a folder that 'frugalclip train' wrote."
            )
        settings = validated(TokenizerSettings, read_json(config), where=str(config), error=ModelError)
        return Tokenizer(_read_backend(Path(folder) / "tokenizer.json", error=ModelError), settings)

    def fingerprint(self) -> str:
        """16 hex digits over vocabulary, rules and settings."""
        content = self.backend.to_str() + self.settings.model_dump_json()
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    def _words(self, texts: Iterable[str]) -> Iterator[list[int]]:
        remaining = iter(texts)
        while chunk := list(islice(remaining, _CHUNK)):
            prepare = clean_text if self.settings.clean else _without_lone_surrogates
            chunk = [prepare(text) for text in chunk]
            encodings = encoded(self.backend, chunk)
            for text, encoding in zip(chunk, encodings, strict=True):
                has_special = self.settings.kind == "clip" and (START in text or END in text)
                yield self._with_specials(text) if has_special else encoding.ids

    def _with_specials(self, text: str) -> list[int]:
        """Ids with CLIP's own special strings as special tokens, where the word pattern finds them."""
        splitter = word_splitter(CLIP_WORDS)
        ids: list[int] = []
        for word, _ in splitter.pre_tokenize_str(text):
            ids += {START: [self.start], END: [self.end]}.get(word) or encoded(self.backend, [word])[0].ids
        return ids


def encoded(
    backend: tokenizers.Tokenizer, texts: list[str], *, name: object = "the tokenizer"
) -> list[tokenizers.Encoding]:
    """Ids of texts without special tokens.

    Args:
        backend: the tokenizer.
        texts: prepared.
        name: of the tokenizer, for messages.

    Raises:
        ModelError: for a word that the tokenizer has neither tokens nor an unknown token for.
    """
    with reading(name, advice="it needs an unknown token, or its own file again", error=ModelError):
        return backend.encode_batch_fast(texts, add_special_tokens=False)


def clip_tokenizer(context: int = 77) -> Tokenizer:
    """CLIP's vocabulary: ids equal open_clip's for every text; the mask token comes after CLIP's 49,408.

    Source: OpenAI CLIP, open_clip `tokenizer.py` (ids are checked against it).
    """
    backend = byte_level_backend(clip_merges(), CLIP_WORDS, specials=(START, END, MASK))
    ids = backend.get_vocab()
    settings = TokenizerSettings(
        kind="clip", context=context, start=ids[START], end=ids[END], pad=0, mask=ids[MASK], clean=True
    )
    return Tokenizer(backend, settings)


def train_tokenizer(captions: Iterable[str], *, vocabulary: int = 4096, context: int = 32) -> Tokenizer:
    """A byte-level vocabulary trained on captions of any language; nothing is unknown to it.

    The result depends on the captions and how often each occurs, not on their order, the machine or the
    number of threads.

    Args:
        captions: the texts that training will read.
        vocabulary: largest number of tokens, special ones included; fewer when no pair of tokens is left that
            occurs twice.
        context: longest sequence in tokens.

    Raises:
        DataError: when there is no caption, or `vocabulary` cannot hold the 512 byte tokens and the special
            ones.
    """
    specials = (START, END, PAD, MASK)
    room = vocabulary - 512 - len(specials)
    if room < 1:
        raise DataError(
            f"a vocabulary of {vocabulary} cannot hold the 512 byte tokens; set vocabulary=1024 or more."
        )
    words = count_words(captions)
    if not words:
        raise DataError(
            "no caption holds any text, so there is nothing to train a vocabulary on; "
            "check the caption column or language."
        )
    backend = byte_level_backend(train_merges(words, limit=room), CAPTION_WORDS, specials=specials)
    ids = backend.get_vocab()
    settings = TokenizerSettings(
        kind="captions",
        context=context,
        start=ids[START],
        end=ids[END],
        pad=ids[PAD],
        mask=ids[MASK],
        clean=True,
    )
    return Tokenizer(backend, settings)


_KNOWN_SPECIALS = {  # names by which published tokenizer files call them
    "start": (
        START,
        "<|startoftext|>",
        "<|im_start|>",
        "<s>",
        "<bos>",
        "[CLS]",
        "<|begin_of_text|>",
        "<|endoftext|>",
    ),
    "end": (END, "<|endoftext|>", "<|im_end|>", "</s>", "<eos>", "[SEP]", "<|end_of_text|>"),
    "pad": (PAD, "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>"),
    "mask": (MASK, "[MASK]", "<|mask|>"),
}


def file_tokenizer(path: Path | str, *, context: int = 77) -> Tokenizer:
    """Any Hugging Face `tokenizers` JSON, with its own normaliser. Special tokens that it lacks are appended.

    Raises:
        DataError: when the file is missing or is not such a JSON.
    """
    backend = _read_backend(user_path(path), error=DataError)
    found: dict[str, int] = {}
    for name, default in zip(("start", "end", "pad", "mask"), (START, END, PAD, MASK), strict=True):
        known = next((word for word in _KNOWN_SPECIALS[name] if backend.token_to_id(word) is not None), None)
        if known is None:
            backend.add_special_tokens([default])
        identity = backend.token_to_id(known or default)
        assert identity is not None
        found[name] = identity
    return Tokenizer(backend, TokenizerSettings(kind="file", context=context, clean=False, **found))


def build_tokenizer(config: TokenizerConfig, captions: Iterable[str]) -> Tokenizer:
    """The tokenizer of a recipe.

    Args:
        config: the `tokenizer` section.
        captions: read only for `kind: captions`.

    Raises:
        DataError: when the file or the captions cannot be used.
    """
    if config.kind == "clip":
        return clip_tokenizer(config.context or 77)
    if config.kind == "file":
        if config.path is None:
            raise DataError(
                "tokenizer.kind is file but tokenizer.path is not given; add tokenizer.path=FILE.json."
            )
        return file_tokenizer(config.path, context=config.context or 77)
    return train_tokenizer(captions, vocabulary=config.vocabulary, context=config.context or 32)


def _read_backend(path: Path, *, error: type[Exception]) -> tokenizers.Tokenizer:
    if not path.is_file():
        raise error(f"{path} does not exist, expected a tokenizers JSON file; check the path.")
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as fault:  # the backend raises bare Exception
        raise error(
            f"{path} is not a tokenizers JSON file ({fault}); save one with tokenizer.save()."
        ) from fault
    check_words(backend, path, error=error)
    return backend
