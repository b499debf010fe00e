"""The page and its elements: layout only, no knowledge of runs.

One file that needs no network: style, script and images are inside. A content security policy lets nothing
else load or run, so markup that slipped through could do nothing. Text of users is escaped where it enters,
by `formats.escape`.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

from frugalclip.report.formats import Html, counted, escape, number, percent, shorten
from frugalclip.report.gallery import LONGEST, ClassResult, Described, Example, Hit, Thumbnail

WIDE, NARROW = 548, 350  # px of a chart on a screen of two columns, and on a phone


@dataclass(frozen=True)
class ReportSection:
    """A part of the page that the reader can jump to."""

    anchor: str
    title: str
    body: str  # markup
    intro: str = ""  # plain text below the title


def document(title: str, *, head: str, sections: Sequence[ReportSection]) -> str:
    """A whole page.

    Args:
        title: plain text, for the window.
        head: markup above the sections.
        sections: in order; each gets a place in the list of contents.
    """
    style, script = (_asset(name) for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    links = "".join(f'<li><a href="#{escape(s.anchor)}">{escape(s.title)}</a></li>' for s in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style></head>\n"
        f'<body><a class="skip" href="#content">Skip to the sections</a><header class="top">{head}'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f'<main id="content">{"".join(map(rendered, sections))}</main>\n'
        "<footer>Written by frugalclip from the files of the run. This page needs no network.</footer>\n"
        f"<script>{script}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return resources.files("frugalclip.report").joinpath(name).read_text(encoding="utf-8")


def rendered(section: ReportSection) -> str:
    """A section as it stands in a page; `</section>` ends it and occurs nowhere inside."""
    intro = f'<p class="intro">{escape(section.intro)}</p>' if section.intro else ""
    anchor = escape(section.anchor)
    title = f'<h2 id="{anchor}-title">{escape(section.title)}</h2>'
    return f'\n<section id="{anchor}" aria-labelledby="{anchor}-title">{title}{intro}{section.body}</section>'


def at_both_widths(draw: Callable[[int], str], *, wide: int = WIDE, narrow: int = NARROW) -> Html:
    """A drawing for a desk and one for a phone, of which the style sheet shows one, with text of one size."""
    return Html(f'<div class="wide">{draw(wide)}</div><div class="narrow">{draw(narrow)}</div>')


def chart(title: str, draw: Callable[[int], str], *, note: str = "") -> Html:
    """A chart with its title, and plain text below it."""
    below = f'<p class="foot">{escape(note)}</p>' if note else ""
    return Html(f"<figure><figcaption>{escape(title)}</figcaption>{at_both_widths(draw)}{below}</figure>")


def folded(summary: str, body: str) -> Html:
    """Markup behind a line that opens it."""
    return Html(f"<details><summary>{escape(summary)}</summary>{body}</details>")


def command(line: str, *, label: str) -> Html:
    """A command to copy, with what it does."""
    code = f'<div class="command"><pre><code>{escape(line)}</code></pre></div>'
    return Html(f'<p class="label">{escape(label)}</p>{code}')


def source(text: str) -> Html:
    """Text as it stands in a file."""
    return Html(f'<pre tabindex="0"><code>{escape(text)}</code></pre>')


def tile(thumbnail: Thumbnail | None, *, missing: str = "") -> Html:
    """A thumbnail on white; images come as RGB on white, and a dark page must not change them."""
    if thumbnail is None:
        return Html(f'<div class="tile"><small>{escape(missing or "not readable")}</small></div>')
    empty = "<small>of one colour</small>" if thumbnail.is_blank else ""
    size = f'width="{thumbnail.width}" height="{thumbnail.height}"'
    shown = f'src="{escape(thumbnail.uri)}" alt="{_caption(thumbnail.text)}" {size}'
    return Html(f'<div class="tile"><img {shown} loading="lazy" decoding="async">{empty}</div>')


def _caption(text: str) -> Html:
    return escape(shorten(text, LONGEST))


def pair_grid(pairs: Sequence[Thumbnail]) -> Html:
    """Images with their captions below."""
    items = "".join(
        f'<li>{tile(p)}<p class="clamp" dir="auto" title="{_caption(p.text)}">{_caption(p.text)}</p></li>'
        for p in pairs
    )
    return Html(f'<ul class="pairs">{items}</ul>')


def _query(text: str, rank: str = "") -> str:
    caption = _caption(text)
    return f'<p class="query"><b class="clamp" dir="auto" title="{caption}">{caption}</b>{rank}</p>'


def found_images(examples: Sequence[Example]) -> Html:
    """Each query in words, and the images that came first, right ones framed and ticked."""
    return Html(f'<div class="examples">{"".join(map(_found_images, examples))}</div>')


def _found_images(example: Example) -> str:
    answers = "".join(
        f'<li class="{"right" if f.is_right else "wrong"}">{tile(f.thumbnail, missing=f.text)}'
        f'<div class="mark-row"><span>{_cosine(f.score)}</span>{_mark(f.is_right)}</div></li>'
        for f in example.found
    )
    title = _query(example.text, _rank(example))
    return f'<div>{title}<ol class="answers">{answers}</ol></div>'


def answered_queries(answers: Sequence[tuple[str, str, Sequence[Hit]]]) -> Html:
    """Each query, what it searched, and the images that came first; nothing marks the right ones."""
    return Html(f'<div class="examples">{"".join(_answered(*answer) for answer in answers)}</div>')


def _answered(query: str, among: str, found: Sequence[Hit]) -> str:
    images = "".join(
        f"<li>{tile(one.thumbnail, missing=one.text)}"
        f'<div class="mark-row"><span>{_cosine(one.score)}</span></div></li>'
        for one in found
    )
    searched = f' <span class="rank">{escape(among)}</span>' if among else ""
    return f'<div>{_query(query, searched)}<ol class="answers">{images}</ol></div>'


def found_names(examples: Sequence[Example]) -> Html:
    """Each image, and the names that came first, the right one ticked."""
    return Html(f'<div class="examples">{"".join(map(_found_names, examples))}</div>')


def _found_names(example: Example) -> str:
    answers = "".join(_answer(f, _mark(f.is_right)) for f in example.found)
    title = _query(example.text, _rank(example))
    return f'<div class="naming">{tile(example.thumbnail)}<div>{title}<ol>{answers}</ol></div></div>'


def _answer(found: Hit, mark: str) -> str:
    kind = "right" if found.is_right else "wrong"
    text = f'<span class="clamp" dir="auto">{_caption(found.text)}</span>'
    return f'<li class="{kind}">{mark}{text}<span>{_cosine(found.score)}</span></li>'


def described_images(described: Sequence[Described]) -> Html:
    """Each image, and its words with their weights; those of its own captions are ticked.

    Of the other words it is unknown whether they are wrong.
    """
    return Html(f'<div class="examples">{"".join(map(_described, described))}</div>')


def _described(one: Described) -> str:
    words = "".join(_answer(word, _mark(True) if word.is_right else "<span></span>") for word in one.words)
    title = _query(one.text)
    return f'<div class="naming words">{tile(one.thumbnail)}<div>{title}<ol>{words}</ol></div></div>'


def _cosine(value: float) -> str:
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def _mark(is_right: bool) -> str:
    sign, word = ("✓", "right") if is_right else ("✗", "wrong")
    return f'<span class="verdict-mark" role="img" aria-label="{word}">{sign}</span>'


def _rank(example: Example) -> str:
    place = (
        number(round(example.rank))
        if abs(example.rank - round(example.rank)) < 1e-6
        else f"{example.rank:.1f} on average"
    )
    return f' <span class="rank">right one at place {escape(place)} of {example.candidates:,}</span>'


def class_columns(best: Sequence[ClassResult], worst: Sequence[ClassResult]) -> Html:
    """The best classes beside the worst, with images where there are any."""
    lists = _class_list("Best", best, none="No class was ever named right.") + _class_list(
        "Worst", worst, none="No class was ever named wrong."
    )
    return Html(f'<div class="classes">{lists}</div>')


def _class_list(title: str, classes: Sequence[ClassResult], *, none: str) -> str:
    body = f"<ol>{''.join(map(_class, classes))}</ol>" if classes else f"<p>{escape(none)}</p>"
    return f"<div><h3>{escape(title)}</h3>{body}</div>"


def _class(result: ClassResult) -> str:
    thumbnails = (
        f'<div class="strip-row">{"".join(map(tile, result.thumbnails))}</div>' if result.thumbnails else ""
    )
    right = result.top1 * result.samples / 100
    share = (
        number(round(right)) if abs(right - round(right)) < 0.01 else percent(result.top1)
    )  # ties count in part
    often = "most often taken for" if result.samples > 1 else "taken for"
    mistaken = f", {often} “{escape(shorten(result.mistaken_for, 60))}”" if result.mistaken_for else ""
    which = f"{share} of {counted(result.samples, 'image')}" if result.samples > 1 else "its one image"
    right_or_not = "named right" if result.samples > 1 or result.top1 else "not named right"
    note = f"{escape(which)} {right_or_not}{mistaken}"
    name = f'<b class="clamp" dir="auto">{escape(shorten(result.name, 200))}</b>'
    return f'<li><div>{name}<small dir="auto">{note}</small></div>{thumbnails}</li>'
