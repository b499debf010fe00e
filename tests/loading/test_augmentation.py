"""Captions changed a little: how much, by what, and that nothing but the row decides."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.loading.augmentation import AugmentConfig, TextAugmentation

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"]


def augmentation(**settings: Any) -> TextAugmentation:
    return TextAugmentation(validated(AugmentConfig, settings, where="texts.augmented.augment"))


def changed(
    one: TextAugmentation,
    texts: list[str],
    *,
    first: int = 0,
    epoch: int = 0,
    seed: int = 5,
    stream: str = "text/augmented",
) -> list[str]:
    counters = np.stack([np.arange(len(texts)) + first, np.full(len(texts), epoch)], axis=1)
    return one(texts, counters, seed=seed, stream=stream)


@pytest.fixture
def synonyms(tmp_path: Path) -> str:
    (tmp_path / "words.txt").write_text(
        "boat, Ship ,vessel\n\nred,crimson\nalone\nship, liner\n", encoding="utf-8"
    )
    return str(tmp_path / "words.txt")


@pytest.mark.parametrize(("share", "exchanges"), [(0.01, 1), (0.1, 2), (0.3, 6)])
def test_exchanging_keeps_every_word_and_moves_as_many_as_wanted(share: float, exchanges: int):
    moved = [
        sum(a != b for a, b in zip(WORDS, text.split(), strict=True))
        for text in changed(augmentation(operations=["swap"], share=share), [" ".join(WORDS)] * 300)
    ]
    assert all(
        sorted(text.split()) == WORDS
        for text in changed(augmentation(operations=["swap"], share=share), [" ".join(WORDS)] * 300)
    )
    assert max(moved) <= 2 * exchanges and (min(moved) == 2 if exchanges == 1 else max(moved) > 2)


def test_two_words_are_exchanged_for_certain():
    assert set(changed(augmentation(operations=["swap"]), ["red boat"] * 50)) == {"boat red"}


def test_every_pair_of_places_is_exchanged_alike():
    found = changed(augmentation(operations=["swap"], share=0.01), ["a b c d"] * 3000)
    counts = {text: found.count(text) for text in set(found)}
    assert len(counts) == 6 and all(abs(count / 3000 - 1 / 6) < 0.03 for count in counts.values())


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_words_are_left_out_at_the_share_and_the_rest_keeps_its_order(share: float):
    found = [
        text.split()
        for text in changed(augmentation(operations=["delete"], share=share), [" ".join(WORDS)] * 1000)
    ]
    assert all(words == sorted(words) and set(words) <= set(WORDS) for words in found)
    assert 1 - sum(map(len, found)) / 20_000 == pytest.approx(share, abs=0.02)


def test_a_caption_is_never_emptied():
    found = changed(augmentation(operations=["delete"], share=1), ["a b c"] * 300)
    assert set(found) == {"a", "b", "c"}


@pytest.mark.parametrize("operations", [["swap"], ["delete"], ["swap", "delete"]])
def test_one_word_or_none_stays(operations: list[str]):
    assert (
        changed(augmentation(operations=operations, share=1), ["boat", "", "x"] * 20)
        == ["boat", "", "x"] * 20
    )


def test_synonyms_replace_words_of_the_list_and_no_others(synonyms: str):
    one = augmentation(operations=["synonym"], synonyms=synonyms, share=0.01)
    assert set(changed(one, ["a Boat there"] * 200)) == {"a ship there", "a vessel there"}
    assert set(changed(one, ["ship"] * 200)) == {"boat", "vessel", "liner"}, "also where it is the only word"
    assert set(changed(one, ["nothing known alone"] * 20)) == {"nothing known alone"}
    assert set(changed(one, ["red boat"] * 200)) == {"crimson boat", "red ship", "red vessel"}
    assert all(
        "red" not in text and "boat" not in text
        for text in changed(one.__class__(one.config.model_copy(update={"share": 1})), ["red boat"] * 20)
    )


def test_one_operation_a_caption_all_of_them_alike(synonyms: str):
    found = changed(
        augmentation(operations=["swap", "delete", "synonym"], synonyms=synonyms, share=0.01),
        ["boat x"] * 3000,
    )
    counts = {text: found.count(text) / 3000 for text in set(found)}
    assert counts["x boat"] == pytest.approx(1 / 3, abs=0.03)
    assert counts["ship x"] + counts["vessel x"] == pytest.approx(1 / 3, abs=0.03)
    assert not set(counts) - {"x boat", "ship x", "vessel x", "boat x", "x", "boat"}


def test_what_happens_follows_from_row_epoch_stream_and_seed_alone():
    one, texts = augmentation(share=0.3), [" ".join(WORDS)] * 60
    whole = changed(one, texts)
    assert changed(one, texts[:7], first=20) == whole[20:27] and changed(one, texts) == whole
    others = [
        changed(one, texts, epoch=1),
        changed(one, texts, stream="text/other"),
        changed(one, texts, seed=6),
    ]
    assert all(other != whole for other in others) and len({tuple(other) for other in others}) == 3


@pytest.mark.parametrize("operation", ["swap", "delete", "synonym"])
def test_a_caption_of_any_length_comes_through(operation: str, synonyms: str):
    words = ["boat"] * 500
    (found,) = changed(augmentation(operations=[operation], share=1, synonyms=synonyms), [" ".join(words)])
    assert len(found.split()) == (436 if operation == "delete" else 500)
    assert operation != "synonym" or found.split()[64:] == words[64:], "later words stay"


def test_mistakes_say_what_to_set(tmp_path: Path):
    with pytest.raises(
        RecipeError, match="synonym needs a word list; set synonyms: FILE, or leave synonym out of operations"
    ):
        augmentation(operations=["synonym"])
    with pytest.raises(
        DataError,
        match=r"the word list .*missing\.txt cannot be read .*expected UTF-8 text, words separated by commas",
    ):
        augmentation(operations=["synonym"], synonyms=str(tmp_path / "missing.txt"))
    (tmp_path / "single.txt").write_text("boat\nship\n")
    with pytest.raises(
        DataError, match="names no two words of one meaning; expected lines such as 'boat, ship, vessel'"
    ):
        augmentation(operations=["synonym"], synonyms=str(tmp_path / "single.txt"))
    (tmp_path / "latin.txt").write_bytes("café, caf\xe9".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read"):
        augmentation(operations=["swap"], synonyms=str(tmp_path / "latin.txt"))
