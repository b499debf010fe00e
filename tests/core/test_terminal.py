"""Users' text in a terminal."""

import io

import pytest
from rich.table import Table

from frugalclip.core.terminal import Terminal, styled

PLAIN = ["fox [/]", "cat [male]", "[bold]x[/bold]", ":car:", "C:\\[x]\\", "\\[", "{0}"]
CASES = [(text, text) for text in PLAIN] + [("a\x1b[2Jb", r"a\x1b[2Jb"), ("\u202eevil", r"\u202eevil")]


def printed(*things: object) -> str:
    file = io.StringIO()
    console = Terminal(file=file, width=100, force_terminal=True)
    for thing in things:
        console.print(thing)
    return file.getvalue()


@pytest.mark.parametrize(("text", "shown"), CASES)
def test_text_and_cells_are_shown_as_they_are(text: str, shown: str):
    table = Table(text, title=text)
    table.add_row(text)
    assert shown in printed(text) and printed(table).count(shown) == 3


@pytest.mark.parametrize(("text", "shown"), CASES)
def test_our_style_stays_around_users_values(text: str, shown: str):
    out = printed(styled("[bold]{name}[/]: {size}", name=text, size=7))
    assert shown in out and out.startswith("\x1b[1m") and out.rstrip().endswith(": 7")
