"""Published tokenizers: what stands around the words, cutting, cleaning as open_clip has it, saving."""

from pathlib import Path

import open_clip.tokenizer
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from frugalclip.core.errors import DataError, ModelError
from frugalclip.core.types import Strings
from frugalclip.data.tokens import clip_tokenizer, train_tokenizer
from frugalclip.interop.tokenizers import (
    PassThroughTokenizer,
    PublishedTokenizer,
    cleaned,
    published_tokenizer,
    read_tokenizer,
)

WORDS = ["<unk>", "</s>", "a", "red", "square", "blue", "circle", "<s>"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return words_in(tmp_path, template="$A </s>")


def words_in(folder: Path, *, template: str | None) -> Path:
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        backend.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("</s>", 1), ("<s>", 7)]
        )
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"pad_token": {"content": "</s>"}}')
    return folder


def made(folder: Path, context: int = 4) -> PublishedTokenizer:
    return published_tokenizer(folder, context=context, rows=8, cleaning="canonicalize")


def test_words_stand_between_what_the_published_file_adds(folder: Path):
    found = made(folder).encode(["a Red, square", "", "a red square blue circle"])
    assert found.ids.tolist() == [[2, 3, 4, 1], [1, 1, 1, 1], [2, 3, 4, 1]] and found.lengths.tolist() == [
        4,
        1,
        4,
    ]
    both = made(words_in(folder, template="<s> $A </s>"), context=5)
    assert both.encode(["a red square blue"]).ids.tolist() == [[7, 2, 3, 4, 1]]
    assert both.truncated(["a red square blue", "a red square"]) == 1
    assert both.decode([7, 2, 3, 1, 1]) == "a red"
    with pytest.raises(DataError, match="leaves no room beside 2 special tokens; set context=3"):
        both.encode(["a"], context=2)


def test_it_is_saved_and_read_with_its_rules(folder: Path, tmp_path: Path):
    tokenizer = made(folder)
    (tmp_path / "out").mkdir()
    tokenizer.save(tmp_path / "out")
    again = read_tokenizer(tmp_path / "out")
    assert (
        isinstance(again, PublishedTokenizer)
        and again.fingerprint() == tokenizer.fingerprint()
        and again.rules == tokenizer.rules
    )
    assert again.encode(["a red"]).ids.tolist() == tokenizer.encode(["a red"]).ids.tolist()
    own = train_tokenizer(["a red square"], vocabulary=600)
    own.save(tmp_path / "out")
    assert read_tokenizer(tmp_path / "out").fingerprint() == own.fingerprint()
    with pytest.raises(ModelError, match="has no tokenizer_config"):
        read_tokenizer(tmp_path / "nothing")


def test_a_mask_is_added_behind_the_vocabulary_and_padding_must_be_known(folder: Path):
    tokenizer = made(folder)
    assert tokenizer.rules.mask == 8 and tokenizer.vocabulary == 9
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match="does not say which token is padding"):
        made(folder)
    assert published_tokenizer(folder, context=4, rows=8, cleaning=None, pad=0).rules.pad == 0


def test_a_file_that_does_not_belong_to_the_model_is_refused(folder: Path):
    with pytest.raises(
        ModelError, match="tokens up to id 7, and the model's embedding has 5 rows: none for 3"
    ):
        published_tokenizer(folder, context=4, rows=5, cleaning=None)
    with pytest.raises(ModelError, match="adds no token at the end of a text"):
        made(words_in(folder, template=None))
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="is not a tokenizers JSON file"):
        made(folder)


@pytest.mark.parametrize("kind", ["whitespace", "lower", "canonicalize"])
def test_cleaning_is_open_clips(kind: str):
    clean = open_clip.tokenizer.get_clean_fn(kind)
    for text in ("A  Photo_of a cat!", " &amp;amp; Größe\n(x) ", "don't", "", "schÃ¶n", "_ _"):
        assert cleaned(text, kind) == clean(text)


def test_siglips_own_cleaning_drops_underscores():
    assert cleaned(" A  red_Square! ", "siglip") == "a redsquare" and cleaned(" A ", "none") == " A "


def test_clips_tokenizer_stays_what_it_is(tmp_path: Path):
    clip_tokenizer(20).save(tmp_path)
    assert read_tokenizer(tmp_path).fingerprint() == clip_tokenizer(20).fingerprint()


def test_texts_are_handed_on_as_they_are(tmp_path: Path):
    verbatim = PassThroughTokenizer()
    assert verbatim.encode(["A b", " ü\n"]) == Strings(("A b", " ü\n"))
    assert verbatim.truncated(["x" * 10_000]) == 0
    verbatim.save(tmp_path)
    again = read_tokenizer(tmp_path)
    assert isinstance(again, PassThroughTokenizer) and again.fingerprint() == verbatim.fingerprint()
