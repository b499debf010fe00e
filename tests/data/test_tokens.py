import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import regex
import tokenizers
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, ModelError, RecipeError
from frugalclip.data.byte_pairs import clean_text
from frugalclip.data.tokens import (
    Tokenizer,
    TokenizerConfig,
    build_tokenizer,
    clip_tokenizer,
    encoded,
    file_tokenizer,
    train_tokenizer,
)

CAPTIONS = [
    "a red flag",
    "a red balloon",
    "flag: Norway",
    "smiling face",
    "smiling cat",
    "लाल झंडा",
    "赤い旗",
    "a blue flag",
    "red red flag",
] * 3
PEER = SimpleTokenizer()
CLIP = clip_tokenizer()


def _is_classed_alike(text: str) -> bool:
    """The regex engines know different Unicode versions; letters newer than the older one's are left out."""
    splitter = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"\p{L}|\p{N}"), "removed", invert=True)
    return all(
        bool(splitter.pre_tokenize_str(c)) == bool(regex.match(r"[\p{L}\p{N}]", c))
        for c in set(text)
        if not c.isascii()
    )


def test_clip_ids_for_texts_that_the_peer_gets_right():
    # written down by hand from the published vocabulary, so that the test does not lean on the peer alone
    assert CLIP.encode(["a photo of a dog"]).ids.tolist() == [[49406, 320, 1125, 539, 320, 1929, 49407]]
    assert (CLIP.start, CLIP.end, CLIP.pad, CLIP.mask, CLIP.vocabulary) == (49406, 49407, 0, 49408, 49409)


@given(st.text(max_size=60) | st.text(alphabet="aAſ'sß<>_&;#x0 1٣é東😀\u200d\ufe0f\t\x85\x1c", max_size=30))
@example("&amp;lt;b&amp;gt; it\u2019s ﬁne — schÃ¶n")
@example("a<end_of_text>b <START_OF_TEXT> !<end_of_text> <ſtart_of_text> '<end_of_text>'")
@example("'ſ 'S we're I'LL o'clock 'same")
@example("&#xD800; \ud800 x\x00\x07\u2028y")
@example("a\u0345\u0345b !\u0345")
@example("İstanbul ﬆ ẞ Ǆ")
@settings(max_examples=250, deadline=None)
def test_clip_ids_equal_the_peers_for_any_text(text):
    assume(_is_classed_alike(clean_text(text)))
    ours = CLIP.encode([text], pad_to=77)
    assert ours.ids[0].tolist() == PEER([text])[0].tolist()
    assert ours.lengths[0] == 77 or ours.ids[0, ours.lengths[0] :].eq(0).all()


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
@settings(max_examples=100, deadline=None)
def test_cleaning_plain_text_early_changes_nothing(text):
    assert clean_text(text) == PEER.clean_fn(text)


def test_a_long_text_keeps_the_end_token_and_a_batch_is_padded_to_its_longest():
    batch = CLIP.encode(["word " * 200, "word", ""])
    assert batch.ids.shape == (3, 77)
    assert batch.lengths.tolist() == [77, 3, 2]
    assert [row[n - 1].item() for row, n in zip(batch.ids, batch.lengths, strict=True)] == [CLIP.end] * 3
    assert CLIP.encode(["word"]).ids.shape == (1, 3)
    assert CLIP.encode(["word " * 20], context=8).ids.shape == (1, 8)
    assert CLIP.truncated(["word " * 200, "word " * 75, "word " * 76]) == 2


def test_a_trained_vocabulary_knows_everything_and_keeps_frequent_words_whole():
    tokenizer = train_tokenizer(CAPTIONS, vocabulary=700)
    assert tokenizer.vocabulary <= 700
    assert tokenizer.mask == tokenizer.vocabulary - 1  # appended last
    assert tokenizer.encode(["red", "flag", "लाल"]).lengths.tolist() == [3, 3, 3]
    for text in ("red flag", "zebra 🦓 ∞", "लाल 旗 \u00e9", "<mask> <pad> <end_of_text>"):
        ids = tokenizer.encode([text], context=200)
        assert tokenizer.decode(ids.ids[0]).replace(" ", "") == text.replace(" ", "")
        inside = ids.ids[0, 1 : ids.lengths[0] - 1].tolist()
        assert not {tokenizer.start, tokenizer.end, tokenizer.pad, tokenizer.mask} & set(inside)


@given(st.text(max_size=40))
@settings(max_examples=80, deadline=None)
def test_bytes_go_round_in_a_trained_vocabulary(text):
    tokenizer = _SMALL
    ids = tokenizer.encode([text], context=1000).ids[0]
    assert (
        tokenizer.decode(ids).split()
        == tokenizer.decode(tokenizer.encode([tokenizer.decode(ids)], context=1000).ids[0]).split()
    )
    assert "".join(tokenizer.decode(ids).split()) == "".join(clean_text(text).split())


_SMALL = train_tokenizer(CAPTIONS, vocabulary=600)


def test_training_depends_on_counts_only():
    script = (
        "import sys, json; from frugalclip.data.tokens import train_tokenizer;"
        "print(train_tokenizer(json.load(sys.stdin), vocabulary=640).fingerprint())"
    )
    orders = [CAPTIONS, sorted(CAPTIONS), CAPTIONS[::-1]]
    expected = {train_tokenizer(captions, vocabulary=640).fingerprint() for captions in orders}
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(CAPTIONS),
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert expected == {other.stdout.strip()}
    assert train_tokenizer([*CAPTIONS, "green"] * 2, vocabulary=640).fingerprint() not in expected


@pytest.mark.parametrize("tokenizer", [CLIP, _SMALL], ids=["clip", "captions"])
def test_saved_and_read_back_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = Tokenizer.read(tmp_path)
    assert again.fingerprint() == tokenizer.fingerprint()
    assert again.settings == tokenizer.settings
    texts = ["It's a photo &amp; more", "<end_of_text>", "", "東京 😀"]
    assert again.encode(texts).ids.tolist() == tokenizer.encode(texts).ids.tolist()


def test_a_foreign_file_gets_the_special_tokens_it_lacks(tmp_path):
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(
            {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "dog": 4}, unk_token="[UNK]"
        )
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.enable_truncation(2)
    backend.save(str(tmp_path / "t.json"))
    tokenizer = build_tokenizer(TokenizerConfig(kind="file", path=str(tmp_path / "t.json"), context=5), [])
    assert (tokenizer.start, tokenizer.end, tokenizer.pad, tokenizer.mask, tokenizer.vocabulary) == (
        1,
        2,
        3,
        5,
        6,
    )
    assert tokenizer.encode(["dog dog", "cat \ud800"]).ids.tolist() == [[1, 4, 4, 2], [1, 0, 0, 2]]
    assert tokenizer.encode(["dog " * 9]).ids.tolist() == [[1, 4, 4, 4, 2]]


def test_a_table_gives_what_encode_gives():
    texts = ["red flag", "", "a blue flag is red"]
    table = _SMALL.table(texts)
    batch = table.tokens(np.array([2, 0, 2]), pad=_SMALL.pad)
    expected = _SMALL.encode([texts[2], texts[0], texts[2]])
    assert batch.ids.tolist() == expected.ids.tolist()
    assert batch.lengths.tolist() == expected.lengths.tolist()
    assert len(_SMALL.table([])) == 0


def test_wrong_settings_say_what_to_set(tmp_path: Path):
    with pytest.raises(DataError, match="vocabulary=1024"):
        train_tokenizer(CAPTIONS, vocabulary=500)
    with pytest.raises(DataError, match="no caption holds any text"):
        train_tokenizer(["", " "])
    with pytest.raises(DataError, match=r"tokenizer\.path=FILE\.json"):
        build_tokenizer(TokenizerConfig(kind="file"), [])
    with pytest.raises(DataError, match="does not exist"):
        file_tokenizer(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DataError, match="is not a tokenizers JSON"):
        file_tokenizer(tmp_path / "bad.json")
    with pytest.raises(ModelError, match=r"no tokenizer_config\.json"):
        Tokenizer.read(tmp_path)
    with pytest.raises(
        RecipeError, match=r"tokenizer\.vocabluary is not a setting; did you mean 'vocabulary'"
    ):
        validated(TokenizerConfig, {"vocabluary": 9}, where="tokenizer")
    with pytest.raises(DataError, match=r"encode\(\[text\]\)"):
        CLIP.encode("a dog")
    with pytest.raises(DataError, match="context=3"):
        CLIP.encode(["a dog"], context=2)


def test_a_word_that_a_tokenizer_has_no_token_for_is_a_sentence():
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="[UNK]"))
    assert encoded(backend, ["a"])[0].ids == [0]
    with pytest.raises(ModelError, match=r"its folder cannot be read \(WordLevel error.*unknown token"):
        encoded(backend, ["b"], name="its folder")
