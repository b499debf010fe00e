"""Users' text in messages and commands."""

import shlex

import pytest

from frugalclip.core.users_text import command_line, sentence, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\x00b\x07\x7f\x9b", r"a\x00b\x07\x7f\x9b"),
        ("invoice\u202egpj.exe", r"invoice\u202egpj.exe"),
        ("\u2066a\u2069\u200f", r"\u2066a\u2069\u200f"),
        ("a\ud800", r"a\ud800"),
        (
            "two\nlines\tand é 猫 \U0001f468\u200d\U0001f469",
            "two\nlines\tand é 猫 \U0001f468\u200d\U0001f469",
        ),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str):
    assert visible(text) == shown


def test_a_message_is_one_line_of_bearable_length():
    assert sentence("a\nb\r\nc") == "a b  c"
    long = sentence("begins " + "x" * 100_000 + " ends")
    assert len(long) < 1600 and long.startswith("begins xxx") and long.endswith("xxx ends") and " … " in long


@pytest.mark.parametrize("word", ["my photos", "a #1", "it's", "a;b", "$HOME", "[x]", "~x", "", "a\nb", "é"])
def test_a_command_is_read_back_as_its_words(word: str):
    assert shlex.split(command_line("train", "clip", f"data={word}", word), comments=True) == [
        "frugalclip",
        "train",
        "clip",
        f"data={word}",
        word,
    ]
