"""Where users' text meets a terminal: no markup, and no codes of the terminal's own.

A class may be called `fox [/]` or `:car:`, and a caption may hold escape codes. `Terminal` shows such letters
instead of obeying them.
"""

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.text import Text

from frugalclip.core.users_text import visible


def styled(markup: str, **values: object) -> Text:
    """Rich text from our own markup, in which users' values are `{name}`.

    Args:
        markup: such as `[bold]{name}[/]: {size}`.
        values: shown as they are.
    """
    template, result, end = Text.from_markup(markup, emoji=False), Text(), 0
    for found in re.finditer(r"\{(\w+)\}", template.plain):
        spans = template[found.start() : found.end()].spans
        result.append_text(template[end : found.start()])
        result.append(visible(str(values[found[1]])), spans[0].style if spans else "")
        end = found.end()
    return result.append_text(template[end:])


class Terminal(Console):
    """A console that takes text as it is.

    Args:
        markup: whether strings are rich markup, in which the caller escapes users' text.
        options: of rich's console.
    """

    def __init__(self, *, markup: bool = False, **options: Any) -> None:
        super().__init__(markup=markup, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Text of a string, with letters in place of codes, so that its width is known."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is printed, with letters in place of codes."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def show_remark(text: str) -> None:
    """Print a line about the work under way on standard error, apart from results."""
    Terminal(stderr=True).print(Text(text, style="dim"), soft_wrap=True)
