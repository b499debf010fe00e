"""Text of users in messages and commands: nothing in it is obeyed, and commands can be pasted.

A caption, a class, a path or a recipe's name may hold escape codes, line breaks, or marks that turn the
direction of the text beside them. They are written out.
"""

import re
import shlex

_LONGEST = 1500  # characters of a sentence
_OBEYED = re.compile(  # control characters, marks of direction, halves of characters
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Text whose control characters and marks of direction are written out: `\x1b`, `\u202e`.

    Line breaks and tabs stay.
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def sentence(text: str) -> str:
    """A message on one line, with its middle left out where it echoes a very long value."""
    line = visible(" ".join(text.split(" ")).replace("\r", " ").replace("\n", " "))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 500]} … {line[-490:]}"


def command_line(*words: object) -> str:
    """A command of ours as one would type it in a shell: words with blanks, `#` or quotes are quoted."""
    return shlex.join(["frugalclip", *map(str, words)])
