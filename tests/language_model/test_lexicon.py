"""Words among a tokenizer's entries."""

import json
from pathlib import Path

import pytest
import tokenizers
import torch

from frugalclip.core.errors import ModelError
from frugalclip.language_model import Lexicon
from frugalclip.language_model.lexicon import NONE, word_of


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (" dog", "dog"),
        ("Dog", "dog"),
        ("DOG\n", "dog"),
        ("É" + "cole", "école"),
        ("E\u0301cole", "école"),  # the mark apart from its letter
        ("हिन्दी", "हिन्दी"),
        ("a", ""),
        (" 1984", ""),
        ("2nd", ""),
        ("...", ""),
        ("don't", ""),
        ("\ufffd\ufffd", ""),  # part of a character
        ("", ""),
    ],
)
def test_what_a_word_is(text: str, word: str):
    assert word_of(text) == word


def made_up(entries: list[str]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({entry: i for i, entry in enumerate(entries)}, unk_token=entries[0])
    )
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(["<end>"])
    return backend


ENTRIES = ["dog", "Ġdog", "ĠDog", "cat", "<0x0A>", "!!", "7", "Ġx", "ing"]


def test_spellings_merge_and_what_is_no_word_is_left_out():
    lexicon = Lexicon.of(made_up(ENTRIES), vocabulary=12)  # ten entries and two rows that no token has
    assert lexicon.words == ("cat", "dog", "ing")
    assert lexicon.of_token.tolist() == [1, 1, 1, 0, NONE, NONE, NONE, NONE, 2, NONE, NONE, NONE]


def test_merging_takes_the_largest_spelling_as_loops_would():
    lexicon = Lexicon.of(made_up(ENTRIES), vocabulary=12)
    scores = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0), requires_grad=True)
    merged = lexicon.merge(scores)
    for word in range(len(lexicon)):
        tokens = [i for i, own in enumerate(lexicon.of_token.tolist()) if own == word]
        assert torch.equal(merged[..., word], scores[..., tokens].amax(-1))
    merged.sum().backward()
    assert scores.grad.sum() == 2 * 5 * len(lexicon)
    assert not scores.grad[..., (lexicon.of_token == NONE)].any()


def test_a_lexicon_is_the_same_after_writing_and_a_changed_file_is_refused(
    tmp_path: Path, backend: tokenizers.Tokenizer
):
    lexicon = Lexicon.of(backend)
    assert {"dog", "beach"} <= set(lexicon.words)
    file = tmp_path / "lexicon.json"
    lexicon.save(file)
    again = Lexicon.read(file)
    assert (again.words, again.fingerprint()) == (lexicon.words, lexicon.fingerprint())
    assert torch.equal(again.of_token, lexicon.of_token)
    content = json.loads(file.read_text())
    content["words"][0] = "other"
    file.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="was changed"):
        Lexicon.read(file)
    file.write_text("[]")
    with pytest.raises(ModelError, match="expected a JSON object; build it again"):
        Lexicon.read(file)
    with pytest.raises(ModelError, match="no lexicon at"):
        Lexicon.read(tmp_path / "absent.json")
