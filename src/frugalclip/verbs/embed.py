"""`frugalclip embed`: vectors of a data set on disk, for search, probes and training on frozen features."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from frugalclip.backbones.find import modality
from frugalclip.core.devices import pick_device
from frugalclip.core.errors import DataError
from frugalclip.core.locks import writes_into
from frugalclip.core.terminal import Terminal
from frugalclip.data.image_faults import DECODING
from frugalclip.features.backbone_stores import stored_features
from frugalclip.features.embed import Embedded, What, embed_manifest
from frugalclip.features.format import Kind, StoreDtype
from frugalclip.interop.source import ModelSource
from frugalclip.models import Model, TextOnlyModel, load
from frugalclip.sources.open import read_source
from frugalclip.sources.reading import READING
from frugalclip.verbs.data_terminal import progress_steps

_PLURAL: dict[Kind, str] = {"image": "images", "text": "captions"}


@writes_into("out")
def embed(
    model: str | Path,
    path: str | Path,
    *,
    out: str | Path,
    where: str | None = None,
    what: What = "both",
    dtype: StoreDtype = "float16",
    batch: int = 256,
    centre: bool = False,
) -> Embedded:
    """Store the vectors of a data set. Started again it continues, and embeds only rows that were added.

    Args:
        model: as `load` takes it; or a text encoder, such as `package:minilm`, whose vectors can then teach.
        path: a data set.
        out: folder of the store.
        where: rows to keep, such as `split=train`.
        what: `images`, `texts`, or `both`: those that the data has.
        dtype: float16, float32, or int8 with one scale a vector; the error is measured.
        batch: images or texts encoded at once.
        centre: subtract the mean vector first, for encoders whose vectors all point one way.

    Raises:
        DataError: if the folder holds vectors of another model or of other data, with what differs.
    """
    source = read_source(path)
    manifest = source.manifest.where(where)
    device = pick_device("auto")
    is_of_texts = modality(ModelSource.parse(str(model))) == "text"
    encoder = TextOnlyModel(str(model), device=device) if is_of_texts else load(model, device=device)
    options: dict[str, Any] = {"dtype": dtype, "batch": batch, "centre": centre, "where": where}
    if isinstance(encoder, Model):
        options["features"] = stored_features(encoder.caches)  # what training encoded is not encoded again
    what = _of_one_side(what, encoder, model)
    with progress_steps(f"embedding {manifest.name}", len(manifest)) as progress:
        result = embed_manifest(encoder, manifest, out, what=what, progress=progress, **options)
    return replace(result, unread=source.ledger.counts())


def _of_one_side(what: What, encoder: Model | TextOnlyModel, model: str | Path) -> What:
    if encoder.reads == "both":
        return what
    if what not in ("both", encoder.reads):
        raise DataError(f"{model} reads {encoder.reads}, and --what is {what}; leave --what out.")
    return encoder.reads


def show(result: Embedded) -> None:
    """Print what is in the store, how exact it is, what is missing and how to read it."""
    console, store, head = Terminal(), result.store, result.store.head
    console.print(
        Text(f"{store.path}: {len(store):,} rows of {head.origin.name}", style="bold"), soft_wrap=True
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("", "vectors", "shape", "stored as", "cosine error", "at most", "rows without"):
        table.add_column(name, justify="left" if name in ("", "stored as") else "right")
    for kind, summary in head.summary.items():
        shape = " x ".join(map(str, summary.shape))
        error = (
            (f"{summary.error.mean:.1e}", f"{summary.error.max:.1e}")
            if head.dtype != "float32"
            else ("exact", "exact")
        )
        table.add_row(
            _PLURAL[kind], f"{summary.vectors:,}", shape, head.dtype, *error, f"{summary.rows_without:,}"
        )
    console.print(table)
    for line in _remarks(result):
        console.print(Text(line), soft_wrap=True)


def _remarks(result: Embedded) -> list[str]:
    store, summary = result.store, result.store.head.summary
    lines = [
        f"pictures without a vector: {count:,} ({DECODING.reasons.get(cause, cause)})"
        for cause, count in store.head.missing.items()
    ]
    lines += [
        f"samples left out while reading: {count:,} ({READING.reasons.get(cause, cause)})"
        for cause, count in result.unread.items()
    ]
    lines += [f"{_PLURAL[kind]}: none in this data, so none are stored" for kind in result.absent]
    if "text" in summary and summary["text"].truncated:
        lines.append(
            f"captions longer than the model's context, cut at its end: {summary['text'].truncated:,}"
        )
    size = sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file())
    lines.append(
        f"chunks computed: {result.computed:,}, reused: {result.reused:,}; "
        f"{size / 1e6:,.1f} MB, {result.seconds:,.1f} s"
    )
    lines.append(
        "read it: from frugalclip.features.store import Store; "
        f"Store.open({str(store.path)!r}).vectors({next(iter(summary))!r}, [0])"
    )
    return lines
