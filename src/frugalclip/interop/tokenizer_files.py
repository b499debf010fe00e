"""Our tokenizers as files of Hugging Face: `tokenizer.json` and `tokenizer_config.json`.

Our backends get words only, and cleaning and special tokens are added around them. In these files a
normaliser cleans, and a post-processor adds the special tokens. Mended encodings (ftfy) and unescaped HTML
have no counterpart in a normaliser.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, normalizers, processors

from frugalclip.core.errors import ModelError
from frugalclip.core.records import write_atomically, write_json
from frugalclip.data.tokens import Tokenizer
from frugalclip.interop.tokenizers import Cleaning, PublishedTokenizer

MENDING = "Texts are not mended there (wrong encodings, HTML such as &amp;), as they are here."
SPECIAL = "A text that contains the name of a special token, such as <mask>, gets that token there."
_SPACES = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
_BARE = normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), "")  # Python's string.punctuation
_CLEANING: dict[Cleaning, list[Any]] = {
    "none": [],
    "whitespace": _SPACES,
    "lower": [*_SPACES, normalizers.Lowercase()],
    "canonicalize": [normalizers.Replace("_", " "), _BARE, *_SPACES, normalizers.Lowercase()],
    "siglip": [normalizers.Lowercase(), _BARE, *_SPACES],
}


@dataclass(frozen=True)
class WrittenTokenizer:
    """A tokenizer of ours, ready to be written."""

    tokenizer: Tokenizer  # the same, with the padding of the files
    backend: tokenizers.Tokenizer  # cleans and adds special tokens

    def write(self, folder: Path) -> None:
        """Write both files."""
        settings, name = self.tokenizer.settings, self.backend.id_to_token
        write_atomically(folder / "tokenizer.json", self.backend.to_str(pretty=True))
        content = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.tokenizer.context,
            "bos_token": name(settings.start),
            "eos_token": name(settings.end),
            "pad_token": name(settings.pad),
            "mask_token": name(settings.mask),
            "padding_side": "right",
            "truncation_side": "right",
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
        }
        write_json(folder / "tokenizer_config.json", {k: v for k, v in content.items() if v is not None})


def written_tokenizer(tokenizer: Tokenizer) -> WrittenTokenizer:
    """A tokenizer of ours with its cleaning and its special tokens inside the backend.

    Raises:
        ModelError: for one that gives no ids, or cleans texts as only a prompt does.
    """
    if not tokenizer.gives_ids:
        raise ModelError(
            "texts are encoded by a part that reads strings, and other libraries' models read token ids; "
            "export the image tower alone with --to onnx."
        )
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    settings, cleaning = tokenizer.settings, cleaning_of(tokenizer)
    prefix, suffix = _around(tokenizer)
    if cleaning not in _CLEANING:
        raise ModelError(
            f"texts are cleaned by '{cleaning}' before they are split, for which tokenizer.json has no "
            "counterpart; export the model with --to onnx."
        )
    if steps := _CLEANING[cleaning]:
        first = [backend.normalizer] if backend.normalizer is not None else []
        backend.normalizer = normalizers.Sequence([*steps, *first])
    pad = settings.end if settings.kind == "clip" else settings.pad  # CLIP's padding is the word '!'
    special = [backend.id_to_token(i) for i in dict.fromkeys((*prefix, *suffix, pad, settings.mask))]
    backend.add_special_tokens([AddedToken(one, normalized=False, special=True) for one in special])
    backend.post_processor = _template(backend, prefix, suffix)
    same = Tokenizer(
        tokenizers.Tokenizer.from_str(backend.to_str()), settings.model_copy(update={"pad": pad})
    )
    return WrittenTokenizer(same, backend)


def cleaning_of(tokenizer: Tokenizer) -> Cleaning:
    """How a text is cleaned before the backend splits it."""
    if isinstance(tokenizer, PublishedTokenizer):
        return tokenizer.rules.cleaning
    return "lower" if tokenizer.settings.clean else "none"


def _around(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(tokenizer, PublishedTokenizer):
        return tokenizer.rules.prefix, tokenizer.rules.suffix
    return (tokenizer.settings.start,), (tokenizer.settings.end,)


def _template(backend: tokenizers.Tokenizer, prefix: tuple[int, ...], suffix: tuple[int, ...]) -> Any:
    """What adds the ids around a text."""
    names = {i: backend.id_to_token(i) for i in (*prefix, *suffix)}
    single = [*(names[i] for i in prefix), "$A", *(names[i] for i in suffix)]
    pairs = [(name, i) for i, name in names.items()]
    return processors.TemplateProcessing(single=single, pair=[*single, "$B"], special_tokens=pairs)
