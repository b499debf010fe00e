"""`frugalclip search build`: an index of the images of a data set."""

from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from frugalclip.core.devices import pick_device
from frugalclip.core.locks import writes_into
from frugalclip.core.paths import user_path
from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.data.image_faults import DECODING
from frugalclip.data.manifest import Manifest
from frugalclip.interop.source import ModelSource
from frugalclip.models import load
from frugalclip.serving.building import BuildOptions, WantedKind, build_index
from frugalclip.serving.index import open_stores
from frugalclip.serving.layout import IndexedSource, IndexHead
from frugalclip.sources.open import open_data
from frugalclip.verbs.data_terminal import progress_steps


@dataclass(frozen=True)
class BuiltIndex:
    """An index, and where it lies."""

    path: Path
    head: IndexHead

    def without_vector(self) -> dict[str, int]:
        """Causes for which images could not be indexed -> how many."""
        found: dict[str, int] = {}
        for store in open_stores(self.path, self.head):
            for cause, count in store.head.missing.items():
                found[cause] = found.get(cause, 0) + count
        return found


@writes_into("out")
def search_build(
    model: str | Path,
    path: str | Path,
    *,
    out: str | Path,
    where: str | None = None,
    kind: WantedKind = "auto",
    batch: int = 256,
) -> BuiltIndex:
    """Make a search index. A killed build goes on where it stopped; an older index answers until the end.

    Args:
        model: as `load` takes it.
        path: a data set.
        out: folder of the index.
        where: rows to keep, such as `split=train`.
        kind: exact, ivf (clusters), lexical (words); auto takes words where the model has them, and clusters
            above 50,000 rows.
        batch: images encoded at once.

    Raises:
        DataError: if the folder holds something else, or the data has nothing to index.
        MissingExtra: without faiss or scipy.
    """
    manifest = open_data(path, where=where, without_captions=True)
    opened = load(model, device=pick_device("auto"))
    with progress_steps(f"indexing {manifest.name}", len(manifest)) as progress:
        head = build_index(
            user_path(out),
            opened,
            manifest,
            source=source_of(path, where),
            named=ModelSource.parse(str(model)).absolute,
            options=BuildOptions(kind, batch, progress),
        )
    return BuiltIndex(user_path(out), head)


def source_of(path: str | Path, where: str | None) -> IndexedSource:
    """A data set as an index remembers it, to be compared with it later."""
    text = str(path)
    named = text if text == "sample" and isinstance(path, str) else str(user_path(path).absolute())
    return IndexedSource(path=named, where=where)


def data_of(source: IndexedSource) -> Manifest:
    """The rows of a source as they are now."""
    return open_data(source.path, where=source.where, without_captions=True)


def show(result: BuiltIndex) -> None:
    """Print what the index holds and how to use it."""
    console, head = Terminal(), result.head
    console.print(
        Text(f"{result.path}: {head.rows:,} rows, {_method(head)}, model {head.model}", style="bold"),
        soft_wrap=True,
    )
    lines = [
        f"pictures that cannot be found: {count:,} ({DECODING.reasons.get(cause, cause)})"
        for cause, count in result.without_vector().items()
    ]
    if head.kind == "ivf":
        lines += [f"recall@10 of {kind} queries: {value:.3f}" for kind, value in head.recall.items()]
    size = sum(file.stat().st_size for file in result.path.rglob("*") if file.is_file())
    lines.append(f"{size / 1e6:,.1f} MB, the model included")
    lines.append(f"ask it: {command_line('search', 'query', result.path, 'WORDS')}")
    lines.append(f"a page:  {command_line('serve', result.path)}")
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _method(head: IndexHead) -> str:
    if head.kind == "ivf" and head.clusters is not None:
        return f"{head.clusters.lists:,} clusters of which a query visits {head.clusters.probes:,}"
    return "searched by words" if head.kind == "lexical" else "searched exactly"
