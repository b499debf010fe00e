"""Byte-pair encoding: CLIP's merges, merges trained on captions, and the backend that applies them."""

import functools
import gzip
import html
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import ftfy
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

_WORD_END = "</w>"
# CLIP's pattern is case-blind, which for text in lower case matters for two characters only: the long s, and
# U+0345, a mark whose capital is a letter, so that nothing matches it. Saying so avoids the multi-letter
# foldings (ß = ss) of the backend's own case-blind mode. Letters assigned after Unicode 15 count as symbols
# here.
CLIP_WORDS = (
    r"<[sſ]tart_of_text>|<end_of_text>|'[sſ]|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"
)
# Marks and joiners belong to the word (CLIP's pattern cuts every Indic word at its vowel signs), and 's only
# counts at the end of a word.
CAPTION_WORDS = r"'(?:s|t|re|ve|m|ll|d)(?!\p{L})|\p{L}[\p{L}\p{M}\x{200C}\x{200D}]*|\p{N}|[^\s\p{L}\p{N}]+"
_LONGEST_TOKEN = 48  # bytes; scripts without spaces would otherwise get whole captions as tokens


def clean_text(text: str) -> str:
    """CLIP's cleaning: ftfy, HTML unescaped twice, whitespace collapsed, lower case."""
    if not (
        text.isascii() and text.isprintable() and "&" not in text
    ):  # otherwise there is nothing to mend, and mending is slow
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


@functools.lru_cache(maxsize=1)
def clip_merges() -> list[tuple[str, str]]:
    """The merges of CLIP's vocabulary, in order."""
    file = resources.files("frugalclip.data") / "vocabulary" / "clip_merges.txt.gz"
    lines = gzip.decompress(file.read_bytes()).decode("utf-8").splitlines()
    pairs = (line.split(" ") for line in lines)
    return [(first, second) for first, second in pairs]


def _byte_symbols() -> list[str]:
    """The 256 printable characters for bytes, in CLIP's order: bytes that are printable, then the others."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def byte_level_backend(
    merges: list[tuple[str, str]], words: str, *, specials: Sequence[str]
) -> tokenizers.Tokenizer:
    """Byte-level BPE: bytes, bytes that end a word (with `</w>`), merges in order, special tokens.

    Special tokens are vocabulary entries that no merge can reach, so no caption can produce them.
    """
    symbols = _byte_symbols()
    entries = [
        *symbols,
        *(symbol + _WORD_END for symbol in symbols),
        *(first + second for first, second in merges),
        *specials,
    ]
    vocabulary = {entry: i for i, entry in enumerate(dict.fromkeys(entries))}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix=_WORD_END))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [word_splitter(words), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace(_WORD_END, " ")])
    return backend


def word_splitter(words: str) -> Any:
    """What splits a text into the words that a pattern matches."""
    return pre_tokenizers.Split(Regex(words), behavior="removed", invert=True)


def count_words(captions: Iterable[str]) -> Counter[str]:
    """Words of the captions as byte symbols, with their counts."""
    splitter = pre_tokenizers.Sequence(
        [word_splitter(CAPTION_WORDS), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    words: Counter[str] = Counter()
    for caption, count in Counter(map(clean_text, captions)).items():
        for word, _ in splitter.pre_tokenize_str(caption):
            words[word] += count
    return words


def train_merges(words: Counter[str], *, limit: int) -> list[tuple[str, str]]:
    """Byte pair merges in the order learned.

    The trainer numbers symbols with an end-of-word suffix in the order of a hash map, which breaks ties
    differently in every process. A word's last byte is therefore given a symbol of its own here (`chr(0x4E00
    + byte)`), and the suffix is put back afterwards.
    """
    symbols = _byte_symbols()
    last = {symbol: chr(0x4E00 + i) for i, symbol in enumerate(symbols)}
    back = {mark: symbol + _WORD_END for symbol, mark in last.items()}
    trainer = trainers.BpeTrainer(
        vocab_size=512 + limit,
        min_frequency=2,  # a pair seen once teaches nothing
        show_progress=False,
        initial_alphabet=[*symbols, *back],
        max_token_length=_LONGEST_TOKEN,
    )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.train_from_iterator(
        (" ".join([word[:-1] + last[word[-1]]] * count) for word, count in sorted(words.items())), trainer
    )
    pairs = json.loads(backend.to_str())["model"]["merges"]

    def restore(symbols: str) -> str:
        return "".join(back.get(symbol, symbol) for symbol in symbols)

    return [(restore(first), restore(second)) for first, second in pairs]
