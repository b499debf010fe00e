"""Captions that name a collection: told by the words in which the names of their rows differ."""

import pytest

from frugalclip.auditing.shared_captions import shared_captions

THINGS = ["mouse", "trophy", "folder", "penguin", "printer", "lamp", "guitar", "window"]


def test_a_caption_over_names_that_differ_is_found_with_its_rows():
    names = [f"icons/lemon/{thing}" for thing in THINGS] + ["icons/other/cat", "icons/lemon/dog"]
    found = shared_captions(["Lemon theme"] * 8 + ["a cat", "a dog"], names)
    assert [one.caption for one in found] == ["Lemon theme"]
    assert found[0].rows.tolist() == list(range(8))
    assert found[0].words == ("mouse", "trophy", "folder")
    assert "8 rows share its caption" in found[0].reason and "mouse, trophy, folder" in found[0].reason


@pytest.mark.parametrize(
    "names",
    [
        [f"dog/{number:04}" for number in range(40)],  # numbers
        [f"dog/{number:04x}ff" for number in range(40)],  # codes
        [f"dog/dog-{number}" for number in range(40)],  # the same word
        [f"jigsaw-{('red', 'green', 'blue', 'white')[number % 4]}-{number}" for number in range(40)],  # few
    ],
    ids=["numbers", "codes", "one word", "few words"],
)
def test_names_that_do_not_differ_in_many_words_say_nothing(names: list[str]):
    assert shared_captions(["a dog"] * 40, names) == []


def test_copies_of_a_file_count_once():
    names = [f"{folder}/{thing}-{copy}" for thing in THINGS for folder in ("a", "b") for copy in range(3)]
    assert len(shared_captions(["Signs"] * len(names), names)) == 1
    two = [f"{thing}-{copy}" for thing in THINGS[:2] for copy in range(24)]
    assert shared_captions(["Signs"] * 48, two) == []


def test_few_rows_and_rows_without_a_caption_are_left_alone():
    assert shared_captions(["Signs"] * 4, THINGS[:4]) == []
    assert len(shared_captions(["Signs"] * 5, THINGS[:5])) == 1
    assert shared_captions(["Signs"] * 7, THINGS[:7], least_rows=8) == []
    assert shared_captions([""] * 8, THINGS) == []


def test_the_order_of_rows_changes_nothing_and_more_rows_come_first():
    captions = ["Signs"] * 6 + ["Symbols"] * 8
    names = [f"s/{thing}" for thing in THINGS[:6]] + [f"t/{thing}" for thing in THINGS]
    found = shared_captions(captions, names)
    assert [one.caption for one in found] == ["Symbols", "Signs"]
    back = shared_captions(captions[::-1], names[::-1])
    assert [one.caption for one in back] == ["Symbols", "Signs"]
    assert sorted(13 - back[0].rows) == found[0].rows.tolist()
