"""A tokenizer goes with a model where every id has a row and the rows have their tokens."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from frugalclip.core.errors import DataError, ModelError
from frugalclip.data.tokenizer_fit import check_tokenizer, how_to_get
from frugalclip.data.tokens import clip_tokenizer, file_tokenizer, train_tokenizer

FILE = Path("model/tokenizer.json")


def of_words(count: int, *added: str) -> Tokenizer:
    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(count)}, unk_token="w0"))
    backend.add_tokens(list(added))
    return backend


@pytest.mark.parametrize(
    ("tokens", "rows"),
    [(8, 8), (8, 12), (500, 512), (4000, 4096), (4000, 5023), (97_500, 102_400), (49_408, 49_408)],
)
def test_rows_may_be_rounded_up(tokens: int, rows: int):
    check_tokenizer(of_words(tokens), rows, file=FILE)


@pytest.mark.parametrize(
    ("tokens", "rows"), [(4, 49_408), (4, 9), (400, 900), (4000, 5024), (0, 5), (97_000, 102_400)]
)
def test_too_many_rows_are_those_of_another_tokenizer(tokens: int, rows: int):
    with pytest.raises(ModelError, match=f"{tokens:,} tokens, and the model's embedding has {rows:,} rows"):
        check_tokenizer(of_words(tokens), rows, file=FILE)


def test_ids_without_a_row_are_refused_unless_nothing_leads_to_them():
    with pytest.raises(ModelError, match=r"up to id 9, .* 8 rows: none for 2 of them, such as 'one'"):
        check_tokenizer(of_words(8, "one", "two"), 8, file=FILE)
    check_tokenizer(of_words(8, "<extra_id_0>", "<extra_id_99>"), 8, file=FILE)
    check_tokenizer(of_words(8, "<mask>"), 8, file=FILE, appended=("<mask>",))


def test_the_way_to_a_tokenizer_depends_on_what_is_there(tmp_path: Path):
    file = tmp_path / "tokenizer.json"
    assert "hf download ORG/NAME tokenizer.json" in how_to_get(file)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_text("")
    assert "rm " not in how_to_get(file) and "AutoTokenizer" in how_to_get(file)
    file.write_text("{}")
    assert f"rm '{file}' && python" in how_to_get(file)


def test_a_file_of_special_tokens_alone_is_no_tokenizer(tmp_path: Path):
    backend = Tokenizer(models.BPE())
    backend.add_special_tokens(["<s>", "</s>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="2 special tokens and no words, so all texts would be the same"):
        file_tokenizer(tmp_path / "tokenizer.json")


def test_the_size_of_a_vocabulary_is_without_the_mask_behind_it():
    assert clip_tokenizer().size == 49_408
    own = train_tokenizer(["a red square"], vocabulary=600)
    assert own.size == own.vocabulary
