"""Tokenizers of published models: a `tokenizers` file, the cleaning, and the special tokens around a text.

Source: the fast tokenizers of Hugging Face; the ids are the same for every text without the name of a special
token in it. Cleaning follows open_clip's `tokenizer.py` (canonicalize: big_vision) and transformers' SigLIP.
A text that is too long is cut before its closing special tokens.
"""

import hashlib
import html
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ftfy
import numpy as np
import tokenizers
from pydantic import Field

from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import DataError, ModelError
from frugalclip.core.records import read_json, write_atomically, write_json
from frugalclip.core.types import Strings
from frugalclip.data.tokenizer_fit import check_tokenizer, how_to_get
from frugalclip.data.tokens import MASK, Tokenizer, TokenizerSettings, TokenTable
from frugalclip.language_model.prompts import clean_caption

Cleaning = Literal["none", "whitespace", "lower", "canonicalize", "siglip", "prompt"]
_MASKS = (MASK, "[MASK]", "<|mask|>")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class PublishedSettings(Settings):
    """Settings around the backend of a published tokenizer, stored beside `tokenizer.json`."""

    kind: Literal["published"] = "published"
    context: int = Field(ge=2, description="longest sequence in tokens, special ones included")
    prefix: tuple[int, ...] = Field(description="ids before the words")
    suffix: tuple[int, ...] = Field(min_length=1, description="ids after the words; the last is the end")
    pad: int
    mask: int
    cleaning: Cleaning = Field("none", description="cleaning of a text before the backend splits it")


def cleaned(text: str, cleaning: Cleaning) -> str:
    """A text as the published model was trained on it."""
    if cleaning == "none":
        return text
    if cleaning == "prompt":
        return clean_caption(text)
    if cleaning == "siglip":  # transformers' own, which mends nothing and drops underscores
        return re.sub(r"\s+", " ", text.lower().translate(_PUNCTUATION)).strip()
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    if cleaning == "canonicalize":
        text = text.replace("_", " ").translate(_PUNCTUATION)
    text = " ".join(text.split())
    return text if cleaning == "whitespace" else text.lower()


class PublishedTokenizer(Tokenizer):
    """A tokenizer that gives the ids of its library.

    Args:
        backend: splits texts into ids.
        rules: special tokens around the words, and the cleaning.
    """

    def __init__(self, backend: tokenizers.Tokenizer, rules: PublishedSettings) -> None:
        start = rules.prefix[0] if rules.prefix else rules.pad
        around: dict[str, Any] = {
            "start": start,
            "end": rules.suffix[-1],
            "pad": rules.pad,
            "mask": rules.mask,
        }
        super().__init__(
            backend, TokenizerSettings(kind="file", context=max(rules.context, 3), clean=False, **around)
        )
        self.rules = rules

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset({*self.rules.prefix, *self.rules.suffix, self.rules.pad, self.rules.mask})

    def renumbered(self, backend: tokenizers.Tokenizer, numbers: Mapping[int, int]) -> "PublishedTokenizer":
        rules = self.rules
        changed = {
            "prefix": tuple(numbers[one] for one in rules.prefix),
            "suffix": tuple(numbers[one] for one in rules.suffix),
            "pad": numbers[rules.pad],
            "mask": numbers[rules.mask],
        }
        return PublishedTokenizer(backend, rules.model_copy(update=changed))

    def table(self, texts: Iterable[str], *, context: int | None = None) -> TokenTable:
        limit = self._limit(context)
        parts: list[int] = []
        lengths: list[int] = [0]
        for words in self._words(texts):
            ids = [*self.rules.prefix, *words[:limit], *self.rules.suffix]
            parts.extend(ids)
            lengths.append(len(ids))
        return TokenTable(np.array(parts, dtype=np.int32), np.cumsum(lengths, dtype=np.int64))

    def truncated(self, texts: Iterable[str], *, context: int | None = None) -> int:
        limit = self._limit(context)
        return sum(len(words) > limit for words in self._words(texts))

    def save(self, folder: Path) -> None:
        write_atomically(Path(folder) / "tokenizer.json", self.backend.to_str())
        write_json(Path(folder) / "tokenizer_config.json", self.rules.model_dump(mode="json"))

    def fingerprint(self) -> str:
        content = self.backend.to_str() + self.rules.model_dump_json()
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    def _words(self, texts: Iterable[str]) -> Iterator[list[int]]:
        return super()._words(cleaned(text, self.rules.cleaning) for text in texts)

    def _limit(self, context: int | None) -> int:
        around = len(self.rules.prefix) + len(self.rules.suffix)
        limit = (context or self.rules.context) - around
        if limit < 1:
            raise DataError(
                f"context={context} leaves no room beside {around} special tokens; set context={around + 1} "
                "or more."
            )
        return limit


class PassThroughTokenizer(Tokenizer):
    """Passes texts on as they are, to a backbone with a tokenizer of its own, such as a language model."""

    gives_ids = False

    def __init__(self) -> None:
        self.settings = TokenizerSettings(kind="file", context=3, start=0, end=0, pad=0, mask=0, clean=False)
        self.vocabulary = 1

    def encode(self, texts: Sequence[str], *, context: int | None = None, pad_to: int | None = None) -> Any:
        """The texts themselves, as `Strings`."""
        return Strings(tuple(texts))

    def truncated(self, texts: Iterable[str], *, context: int | None = None) -> int:
        """Zero: the backbone counts what it cuts."""
        return 0

    def fingerprint(self) -> str:
        """Of nothing but its kind."""
        return "verbatim"

    def save(self, folder: Path) -> None:
        """Write the kind."""
        write_json(Path(folder) / "tokenizer_config.json", {"kind": "verbatim"})


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint of ours, of whichever kind.

    Raises:
        ModelError: naming the file that is missing or damaged.
    """
    config = folder / "tokenizer_config.json"
    content = read_json(config) if config.is_file() else None
    if isinstance(content, Mapping) and content.get("kind") == "verbatim":
        return PassThroughTokenizer()
    if not isinstance(content, Mapping) or content.get("kind") != "published":
        return Tokenizer.read(folder)
    return PublishedTokenizer(
        backend_of(folder / "tokenizer.json"),
        validated(PublishedSettings, content, where=str(config), error=ModelError),
    )


class SpecialTokens(NamedTuple):
    """Ids around the words of a text."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]


def published_tokenizer(
    folder: Path, *, context: int, rows: int, cleaning: Cleaning | None, pad: int | None = None
) -> PublishedTokenizer:
    """The tokenizer that a model was published with.

    Args:
        folder: holds `tokenizer.json`, and `tokenizer_config.json` where the pad token is named.
        context: longest sequence in tokens.
        rows: of the model's token embedding.
        cleaning: before the backend; None takes what the tokenizer's class does.
        pad: id of padding where the files do not say.

    Raises:
        ModelError: when a file is missing, or is not the tokenizer of this model.
    """
    config = _config(folder)
    backend = backend_of(folder / "tokenizer.json")
    given_pad = (backend.padding or {}).get("pad_id")
    backend.no_truncation()
    backend.no_padding()
    check_tokenizer(backend, rows, file=folder / "tokenizer.json")
    around = _around(backend, folder)
    named = backend.token_to_id(str(_word(config.get("pad_token")))) if config.get("pad_token") else None
    padding = next((one for one in (named, given_pad, pad) if one is not None), None)
    if padding is None:
        raise ModelError(
            f"{folder} does not say which token is padding; add pad_token to its tokenizer_config.json."
        )
    if padding >= rows:
        raise ModelError(
            f"{folder} pads texts with the id {padding:,}, and the model's embedding has {rows:,} rows; "
            "correct pad_token in its tokenizer_config.json."
        )
    if cleaning is None:
        cleaning = (
            "siglip" if str(config.get("tokenizer_class", "")).startswith("SiglipTokenizer") else "none"
        )
    mask = _mask(backend, config)
    settings = PublishedSettings(
        context=context, prefix=around.prefix, suffix=around.suffix, pad=padding, mask=mask, cleaning=cleaning
    )
    return PublishedTokenizer(backend, settings)


def backend_of(file: Path) -> tokenizers.Tokenizer:
    """A `tokenizers` JSON.

    Raises:
        ModelError: with the command that writes one where only other formats are there.
    """
    if not file.is_file():
        raise ModelError(f"{file} is not there, and texts cannot be read without it. {how_to_get(file)}")
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the backend raises bare Exception
        raise ModelError(f"{file} is not a tokenizers JSON file ({error}); copy it again.") from error


def _around(backend: tokenizers.Tokenizer, folder: Path) -> SpecialTokens:
    """Ids before and after the words, found by letting the backend add them to one."""
    plain, whole = (
        backend.encode("a", add_special_tokens=False).ids,
        backend.encode("a", add_special_tokens=True).ids,
    )
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain and start + len(plain) < len(whole):
            return SpecialTokens(tuple(whole[:start]), tuple(whole[start + len(plain) :]))
    raise ModelError(
        f"{folder}/tokenizer.json adds no token at the end of a text, and text towers need one; "
        "put the model's own there."
    )


def _mask(backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> int:
    names = [str(_word(config["mask_token"]))] if config.get("mask_token") else []
    for name in (*names, *_MASKS):
        if (found := backend.token_to_id(name)) is not None:
            return found
    backend.add_special_tokens([MASK])
    added = backend.token_to_id(MASK)
    assert added is not None
    return added


def _word(token: Any) -> Any:
    return (
        token.get("content") if isinstance(token, Mapping) else token
    )  # older files write a token with its flags


def _config(folder: Path) -> Mapping[str, Any]:
    file = folder / "tokenizer_config.json"
    content = read_json(file) if file.is_file() else {}
    return content if isinstance(content, Mapping) else {}
