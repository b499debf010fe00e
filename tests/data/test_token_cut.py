"""Cut tokenizers: texts whose tokens all stay keep them, and every other text is still written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from frugalclip.core.errors import ModelError
from frugalclip.data.token_cut import TokenCut, kept_ids
from frugalclip.data.tokens import Tokenizer, clip_tokenizer, file_tokenizer, train_tokenizer

TEXTS = [
    f"{size} {colour} {thing} {place}"
    for size in ("a small", "the large", "one tiny")
    for colour in ("red", "green", "yellowish")
    for thing in ("cats", "ships", "flowers!", "caf\u00e9")
    for place in ("in the garden", "under water", "of norway")
]
OTHERS = [
    "a zeppelin over berlin, 1937",
    "\u8d64\u3044\u65d7 \U0001f600",
    "<mask> & <pad>",
    "",
    "  \t ",
    "x" * 90,
]


def _file(backend: tokenizers.Tokenizer, trainer: trainers.Trainer, place: Path) -> Tokenizer:
    backend.train_from_iterator([*TEXTS, *OTHERS], trainer)
    backend.save(str(place / "tokenizer.json"))
    return file_tokenizer(place / "tokenizer.json")


def _captions(place: Path) -> Tokenizer:
    return train_tokenizer(TEXTS + OTHERS, vocabulary=800)


def _clip(place: Path) -> Tokenizer:
    return clip_tokenizer()


def _word_piece(place: Path) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = (
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
    )
    backend.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    found = _file(backend, trainer, place)
    template = processors.BertProcessing(("[SEP]", found.end), ("[CLS]", found.start))
    found.backend.post_processor = processors.Sequence([template])
    return found


def _unigram(place: Path) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    specials = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=specials, unk_token="<unk>", show_progress=False
    )
    return _file(backend, trainer, place)


def _byte_fallback(place: Path) -> Tokenizer:
    """As in Gemma: characters that are no token are written as bytes."""
    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "\u2581")
    spaces = decoders.Replace("\u2581", " ")
    backend.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse()])
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=specials, show_progress=False)
    return _file(backend, trainer, place)


KINDS: dict[str, Callable[[Path], Tokenizer]] = {
    "captions": _captions,
    "clip": _clip,
    "word piece": _word_piece,
    "unigram": _unigram,
    "byte fallback": _byte_fallback,
}


@pytest.fixture(scope="module", params=KINDS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return KINDS[request.param](tmp_path_factory.mktemp("tokenizer"))


def tokens(tokenizer: Tokenizer, text: str) -> list[str | None]:
    return [tokenizer.backend.id_to_token(i) for i in tokenizer.encode([text]).ids[0].tolist()]


def cut_to(whole: Tokenizer, texts: list[str]) -> Tokenizer:
    return TokenCut(whole).cut(whole.table(texts).ids.tolist())


def test_texts_whose_tokens_stay_keep_them(whole: Tokenizer):
    kept = TEXTS[::5]
    smaller = cut_to(whole, kept)
    assert smaller.vocabulary < whole.vocabulary
    there = set(smaller.backend.get_vocab())
    alike = [text for text in TEXTS if set(tokens(whole, text)) <= there]
    assert set(kept) <= set(alike)
    assert all(tokens(smaller, text) == tokens(whole, text) for text in alike)


def test_special_tokens_keep_their_meaning_and_ids_have_no_gaps(whole: Tokenizer):
    smaller = cut_to(whole, TEXTS[:3])
    for name in ("start", "end", "pad", "mask"):
        old, new = getattr(whole, name), getattr(smaller, name)
        assert smaller.backend.id_to_token(new) == whole.backend.id_to_token(old)
    assert sorted(smaller.backend.get_vocab().values()) == list(range(smaller.vocabulary))


def read_back(tokenizer: Tokenizer, text: str) -> str:
    return tokenizer.decode(tokenizer.encode([text], context=400).ids[0])


def test_every_other_text_is_written_as_before_or_in_smaller_pieces(whole: Tokenizer):
    smaller = cut_to(whole, TEXTS[:3])
    for text in [*TEXTS, *OTHERS]:
        assert read_back(smaller, text) == read_back(whole, text)


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_written_by_clips_cut_tokenizer(text: str):
    assert read_back(_CUT_CLIP, text) == read_back(_CLIP, text)


_CLIP = clip_tokenizer()
_CUT_CLIP = cut_to(_CLIP, TEXTS)


def test_it_is_saved_and_read_like_any_other(tmp_path: Path):
    _CUT_CLIP.save(tmp_path)
    again = Tokenizer.read(tmp_path)
    assert again.fingerprint() == _CUT_CLIP.fingerprint()
    assert again.encode(OTHERS).ids.tolist() == _CUT_CLIP.encode(OTHERS).ids.tolist()
    assert again.size == again.vocabulary - 1  # the mask stands behind CLIP's own


def test_a_cut_of_a_cut_is_a_cut(whole: Tokenizer):
    first = cut_to(whole, TEXTS)
    second, at_once = cut_to(first, TEXTS[:7]), cut_to(whole, TEXTS[:7])
    assert second.fingerprint() == at_once.fingerprint()


def test_a_cut_tokenizer_is_known_to_be_one(whole: Tokenizer):
    smaller = cut_to(whole, TEXTS[:7])
    places = kept_ids(smaller, whole)
    assert places is not None
    for text in TEXTS[:7]:
        ids = smaller.encode([text]).ids[0]
        assert places[ids].tolist() == whole.encode([text]).ids[0].tolist()
    assert kept_ids(whole, smaller) is None
    other = train_tokenizer(["something else entirely", "something"] * 3, vocabulary=640)
    assert kept_ids(other, whole) is None


def test_a_tokenizer_of_whole_words_is_refused(tmp_path: Path):
    backend = tokenizers.Tokenizer(models.WordLevel({"red": 0, "[UNK]": 1}, unk_token="[UNK]"))
    backend.save(str(tmp_path / "words.json"))
    with pytest.raises(ModelError, match=r"of the kind WordLevel cannot be cut"):
        TokenCut(file_tokenizer(tmp_path / "words.json"))


def test_what_stands_around_a_text_is_numbered_anew(tmp_path: Path):
    smaller = cut_to(_word_piece(tmp_path), TEXTS[:3])
    around = json.loads(smaller.backend.to_str())["post_processor"]["processors"][0]
    assert around["sep"] == ["[SEP]", smaller.end] and around["cls"] == ["[CLS]", smaller.start]
