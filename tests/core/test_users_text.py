"""Users' text in messages and commands."""

import re
import shlex
from pathlib import Path

import pytest

import frugalclip
from frugalclip.core.users_text import command_line, sentence, started_by, visible

SOURCE = Path(frugalclip.__file__).parent


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\x00b\x07\x7f\x9b", r"a\x00b\x07\x7f\x9b"),
        ("invoice\u202egpj.exe", r"invoice\u202egpj.exe"),
        ("\u2066a\u2069\u200f", r"\u2066a\u2069\u200f"),
        ("a\ud800", r"a\ud800"),
        ("photo\u200e\u200f\u061c", r"photo\u200e\u200f\u061c"),
        ("קוד C++\u200e כאן", "קוד C++\u200e כאן"),
        ("كتاب\u061c (2)\u200f", "كتاب\u061c (2)\u200f"),
        ("كتاب \u202egpj\u2067.exe", r"كتاب \u202egpj\u2067.exe"),
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


def test_the_command_of_this_process_can_be_pasted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["/a b/frugalclip/__main__.py", "train", "data=my photos"])
    assert started_by() == "frugalclip train 'data=my photos'"
    monkeypatch.setattr("sys.argv", ["/usr/bin/pytest", "-x"])
    assert started_by() == "pytest -x"


def test_only_one_module_quotes_for_the_shell():
    others = {path.name for path in SOURCE.rglob("*.py") if re.search(r"\bshlex\b", path.read_text("utf-8"))}
    assert others == {"users_text.py"}


@pytest.mark.parametrize("word", ["my photos", "a #1", "it's", "a;b", "$HOME", "[x]", "~x", "", "a\nb", "é"])
def test_a_command_is_read_back_as_its_words(word: str):
    assert shlex.split(command_line("train", "clip", f"data={word}", word), comments=True) == [
        "frugalclip",
        "train",
        "clip",
        f"data={word}",
        word,
    ]
