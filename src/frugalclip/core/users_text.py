"""Text of users in messages and commands: nothing in it is obeyed, and commands can be pasted.

A caption, a class, a path or a recipe's name may hold escape codes, line breaks, or marks that turn the
direction of the text beside them. They are written out. In text with letters that are read from right to left
the three marks stay that say only where a sign between two words belongs: Arabic and Hebrew need them. Those
that turn whatever follows (embeddings, overrides, isolates) are written out there too.
"""

import re
import shlex
import sys
from pathlib import Path

_LONGEST = 1500  # characters of a sentence
_OBEYED = re.compile(  # control characters, what turns the direction of text, halves of characters
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]"
)
_MARKS = re.compile("[\u061c\u200e\u200f]")  # weak marks of direction: they act as one letter would
_RIGHT_TO_LEFT = re.compile(  # letters of Hebrew, Arabic and their kin
    "[\u0590-\u061b\u061d-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
)


def visible(text: str) -> str:
    r"""Text whose control characters and marks of direction are written out: `\x1b`, `\u202e`.

    Line breaks and tabs stay, and so do weak marks of direction in text that is read from right to left.
    """
    text = _OBEYED.sub(_written_out, text)
    return text if _RIGHT_TO_LEFT.search(text) else _MARKS.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def sentence(text: str) -> str:
    """A message on one line, with its middle left out where it echoes a very long value."""
    line = visible(" ".join(text.split(" ")).replace("\r", " ").replace("\n", " "))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 500]} … {line[-490:]}"


def shell_line(*words: object) -> str:
    """Words as one would type them in a shell: those with blanks, `#` or quotes are quoted."""
    return shlex.join(map(str, words))


def command_line(*words: object) -> str:
    """A command of ours as one would type it in a shell."""
    return shell_line("frugalclip", *words)


def started_by() -> str:
    """The command that started this process, as a user wrote it, without the folder of the program."""
    name = Path(sys.argv[0]).name
    return shell_line("frugalclip" if name == "__main__.py" else name or "python", *sys.argv[1:])
