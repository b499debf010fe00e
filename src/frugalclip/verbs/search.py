"""`frugalclip search query`, and `frugalclip.search`: find images in an index."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.table import Table
from rich.text import Text

from frugalclip.core.errors import DataError
from frugalclip.core.terminal import Terminal
from frugalclip.models import Model
from frugalclip.serving.hybrid import HybridIndex
from frugalclip.serving.index import SearchHit, SearchIndex, open_index
from frugalclip.serving.queries import SearchRequest

_WORDS = 5  # shown of a hit


def search(index: str | Path, *, model: Model | None = None) -> SearchIndex:
    """Open an index; its `query` finds images as the verb does.

    Args:
        index: folder that `frugalclip search build` wrote.
        model: one that is loaded already; refused unless it is the index's own.

    Raises:
        DataError: if there is no index, or it is damaged.
        ModelError: for another model than the one that the index was built with.
        MissingExtra: without faiss or scipy.
    """
    return open_index(index, model=model)


def both(index: str | Path, beside: str | Path) -> HybridIndex:
    """Two indexes of the same rows as one, such as vectors and words."""
    return HybridIndex(open_index(index), open_index(beside))


def boosts(words: Sequence[str]) -> dict[str, float]:
    """`WORD=FACTOR` pairs.

    Raises:
        DataError: for one that has no number.
    """
    found: dict[str, float] = {}
    for pair in words:
        word, _, factor = pair.rpartition("=")
        try:
            found[word] = float(factor)
        except ValueError:
            word = ""
        if not word:
            raise DataError(f"--boost {pair} is not understood; write WORD=FACTOR, such as --boost red=2.")
    return found


def show(index: SearchIndex | HybridIndex, request: SearchRequest) -> None:
    """Print hits as a table, with what their scores mean."""
    console = Terminal()
    is_calibrated = isinstance(index, SearchIndex) and index.head.calibration is not None
    if request.max_false_hits is None and is_calibrated:
        request = replace(request, max_false_hits=1.0)  # leaves nothing out, and reads every score
    hits = index.hits(request)
    if not hits:
        console.print(Text("nothing was found; try other words, or fewer conditions."), soft_wrap=True)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name, side in (("score", "right"), ("random pairs", "right"), ("id", "left"), ("caption", "left")):
        table.add_column(name, justify=side, overflow="fold")  # pyright: ignore[reportArgumentType]
    for hit in hits:
        table.add_row(f"{hit.score:.3f}", _reading(hit.false_hits), hit.id, _described(hit))
    console.print(table)
    meaning = "'random pairs' is the share of random pairs that score as high"
    console.print(Text(f"{len(hits):,} of {len(index):,} rows; {meaning}."), soft_wrap=True)


def _reading(share: float | None) -> str:
    """A share of random pairs in words: `1 in 1,000`."""
    if share is None:
        return ""
    return f"1 in {1 / share:,.0f}" if share < 0.1 else f"{share:.0%}"


def _described(hit: SearchHit) -> str:
    caption = next(iter(hit.captions), "")
    words = ", ".join(f"{reason.word} {reason.weight:.2f}" for reason in hit.reasons[:_WORDS])
    return f"{caption} ({words})" if words and caption else caption or words
