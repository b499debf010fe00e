"""`frugalclip search add`, `remove` and `check`: keep an index in step with its data."""

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from frugalclip.core.devices import pick_device
from frugalclip.core.errors import DataError, FrugalclipError
from frugalclip.core.locks import writes_into
from frugalclip.core.paths import user_path
from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.data.manifest import Manifest
from frugalclip.serving.building import BuildOptions
from frugalclip.serving.changing import Drift, IndexChange, add_rows, find_drift, remove_rows
from frugalclip.serving.layout import IndexedSource, has_index, read_index_head
from frugalclip.sources.open import open_data
from frugalclip.verbs.data_terminal import progress_steps
from frugalclip.verbs.search_build import data_of, source_of

_SHOWN = 5  # ids of each kind of drift
_NAMED = 500  # ids in a command; more than that are left out by building again


def search_add(
    index: str | Path, path: str | Path, *, where: str | None = None, batch: int = 256
) -> IndexChange:
    """Add the rows of a data set to an index. Rows that are there stay, and changed ones are replaced.

    Args:
        index: its folder.
        path: a data set.
        where: rows to add.
        batch: images encoded at once.

    Raises:
        DataError: if there is no index, or the data cannot be read.
    """
    _refuse_no_index(index)
    return _add(index, path, where=where, batch=batch)


@writes_into("index")
def _add(index: str | Path, path: str | Path, *, where: str | None, batch: int) -> IndexChange:
    manifest = open_data(path, where=where, without_captions=True)
    with progress_steps(f"adding {manifest.name}", len(manifest)) as progress:
        return add_rows(
            user_path(index),
            manifest,
            source=source_of(path, where),
            options=BuildOptions(batch=batch, progress=progress),
            device=pick_device("auto"),
        )


def search_remove(index: str | Path, ids: Sequence[str]) -> IndexChange:
    """Remove rows from an index; their files stay.

    Args:
        index: its folder.
        ids: of the rows, as hits show them. One that was removed before changes nothing.

    Raises:
        DataError: for an id that was never there; then nothing is removed.
    """
    _refuse_no_index(index)
    return _remove(index, ids)


@writes_into("index")
def _remove(index: str | Path, ids: Sequence[str]) -> IndexChange:
    return remove_rows(user_path(index), ids, device=pick_device("auto"))


def _refuse_no_index(index: str | Path) -> None:
    if not has_index(user_path(index)):
        read_index_head(user_path(index))  # says what is there instead, before a folder is made to lock it


def search_check(index: str | Path) -> Drift:
    """Compare an index with the data that it was made of, and with its own checksums.

    Args:
        index: its folder.
    """
    path = user_path(index)
    return find_drift(path, [(source, _read(source)) for source in read_index_head(path).sources])


def _read(source: IndexedSource) -> Manifest | FrugalclipError:
    try:
        return data_of(source)
    except DataError as error:
        return error


def show_change(index: str | Path, change: IndexChange) -> None:
    """Print what a change did."""
    counts = {
        "added": change.added,
        "replaced": change.replaced,
        "unchanged": change.unchanged,
        "removed": change.removed,
        "removed before": len(change.absent),
    }
    done = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing changed"
    Terminal().print(Text(f"{index}: {done}; {change.head.rows:,} rows now."), soft_wrap=True)


def show_drift(index: str | Path, drift: Drift) -> None:
    """Print how an index differs from its data, and the commands that mend it."""
    console, path = Terminal(), user_path(index)
    for name, ids in (("new", drift.new), ("changed", drift.changed), ("gone", drift.gone)):
        if ids:
            more = f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
            console.print(Text(f"{len(ids):,} {name}: {', '.join(ids[:_SHOWN])}{more}"), soft_wrap=True)
    for sentence in (*drift.damaged, *drift.unread):
        console.print(Text(sentence), soft_wrap=True)
    if drift.removed:
        console.print(
            Text(f"{drift.removed:,} rows of the data were removed from the index on purpose."),
            soft_wrap=True,
        )
    for line in _mending(path, drift):
        console.print(Text(f"mend it: {line}"), soft_wrap=True)
    if drift.is_none:
        console.print(Text(f"{index}: index, data and checksums agree."), soft_wrap=True)


def _mending(path: Path, drift: Drift) -> list[str]:
    head = read_index_head(path)
    lines = []
    first, *others = head.sources
    again = bool(drift.damaged) or len(drift.gone) > _NAMED
    if again:
        lines.append(command_line("search", "build", head.named, *_rows(first), "--out", path))
    added = others if again else head.sources if drift.new or drift.changed else []
    lines += [command_line("search", "add", path, *_rows(source)) for source in added]
    if drift.gone and not again:
        ids = ["--", *drift.gone] if any(one.startswith("-") for one in drift.gone) else drift.gone
        lines.append(command_line("search", "remove", path, *ids))
    return lines


def _rows(source: IndexedSource) -> list[str]:
    """A source as arguments of a command."""
    return [source.path, *(["--where", source.where] if source.where else [])]
