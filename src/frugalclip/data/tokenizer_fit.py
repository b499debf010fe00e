"""Whether a tokenizer belongs to a model: each id has a row of the embedding, and the rows have tokens.

An embedding may have more rows than there are tokens, since libraries round it up: up to 1,023 more, or a
twentieth of the rows if that is more, and never twice as many. A tokenizer of special tokens alone is what
transformers writes into a folder that has none.
"""

import re
from pathlib import Path

import tokenizers

from frugalclip.core.errors import ModelError

_PADDING = 1023  # rows: embeddings are rounded up to multiples of 64 to 1,024
_SHARE = 0.05
_SENTINEL = re.compile(r"<extra_id_\d+>")  # of T5's pre-training: no text leads to one


def check_tokenizer(
    backend: tokenizers.Tokenizer, rows: int, *, file: Path, appended: tuple[str, ...] = ()
) -> None:
    """Refuse a tokenizer of another model.

    Args:
        backend: the tokenizer.
        rows: of the model's token embedding.
        file: where the tokenizer is, for messages.
        appended: tokens that were put behind its own.

    Raises:
        ModelError: with both sizes, and what to do.
    """
    tokens = {
        token: identity
        for token, identity in backend.get_vocab().items()
        if not (_SENTINEL.fullmatch(token) or (token in appended and identity >= rows))
    }
    largest = max(tokens.values(), default=-1)
    if largest >= rows:
        names = [token for token, identity in tokens.items() if identity >= rows]
        first = min(names, key=tokens.__getitem__)
        raise ModelError(
            f"{file} has tokens up to id {largest:,}, and the model's embedding has {rows:,} rows: none for "
            f"{len(names):,} of them, such as '{first}'. Put the model's own tokenizer there, or enlarge the "
            "embedding where the tokens were added (transformers: model.text_model.resize_token_embeddings)."
        )
    room = max(_PADDING, round(_SHARE * rows))
    if len(tokens) < rows - room or 2 * len(tokens) < rows:
        raise ModelError(
            f"{file} has {len(tokens):,} tokens, and the model's embedding has {rows:,} rows, so it is the "
            f"tokenizer of another model, or an empty one. {how_to_get(file)}"
        )


def check_words(backend: tokenizers.Tokenizer, file: Path, *, error: type[Exception]) -> None:
    """Refuse a tokenizer without words: all texts would be the same to it.

    Raises:
        ModelError, or the given class: with what to do.
    """
    special = {token.content for token in backend.get_added_tokens_decoder().values()}
    if not backend.get_vocab(with_added_tokens=False).keys() - special:
        raise error(
            f"{file} has {len(special)} special tokens and no words, so all texts would be the same. "
            f"{how_to_get(file)}"
        )


def how_to_get(file: Path) -> str:
    """How to get the `tokenizer.json` of a model's folder."""
    folder = file.parent
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return (
            "Write it from vocab.json and merges.txt, where transformers is installed: "
            f'{_remove(file)}python -c "from transformers import AutoTokenizer as T; '
            f"T.from_pretrained('{folder}').save_pretrained('{folder}')\"."
        )
    return (
        "Get it from the model's page: "
        f"hf download ORG/NAME tokenizer.json tokenizer_config.json --local-dir '{folder}'."
    )


def _remove(file: Path) -> str:
    return f"rm '{file}' && " if file.is_file() else ""
