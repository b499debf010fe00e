"""`frugalclip embed`: vectors of a data set on disk, for search, probes and stored teachers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from frugalclip.backbones.find import modality
from frugalclip.core.config import validated
from frugalclip.core.devices import pick_device
from frugalclip.core.errors import DataError
from frugalclip.core.locks import writes_into
from frugalclip.core.terminal import Terminal
from frugalclip.core.yaml_text import parse_yaml
from frugalclip.data.image_faults import DECODING
from frugalclip.features.backbone_stores import stored_features
from frugalclip.features.embed import Embedded, StoreEstimate, What, embed_manifest
from frugalclip.features.format import Kind, StoreDtype
from frugalclip.interop.hub import find_source
from frugalclip.loading.replay import (
    AUGMENTATIONS,
    CAPTION_FIELDS,
    Augmentations,
    AugmentedViews,
    stored_augmentations,
    with_field_texts,
)
from frugalclip.models import Model, TextOnlyModel, load
from frugalclip.sources.open import read_source
from frugalclip.sources.reading import READING
from frugalclip.verbs.data_terminal import progress_steps

VIEW = "{crop_scale: [0.9, 1]}"  # of the recipes that compress
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
    augmentations: int | None = None,
    view: str | Mapping[str, Any] = VIEW,
    size: int | None = None,
    captions: Sequence[str] = (),
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
        augmentations: of each image, in place of the image as evaluation sees it; training makes them again.
        view: how they are made: a preset such as `slip`, or settings as under `views` in a recipe.
        size: pixels on a side at which the student sees them; None for the model's own.
        captions: fields whose texts are stored behind the captions, such as synthetic ones.

    Raises:
        DataError: if the folder holds vectors of another model or of other data, with what differs.
    """
    source = read_source(path)
    manifest = with_field_texts(source.manifest.where(where), captions)
    device = pick_device("auto")
    is_of_texts = modality(find_source(str(model))) == "text"
    encoder = TextOnlyModel(str(model), device=device) if is_of_texts else load(model, device=device)
    options: dict[str, Any] = {"dtype": dtype, "batch": batch, "centre": centre, "where": where}
    if isinstance(encoder, Model):
        options["features"] = stored_features(encoder.caches)  # what training encoded is not encoded again
    what = _of_one_side(what, encoder, model)
    settings: dict[str, Any] = {CAPTION_FIELDS: list(captions)} if captions else {}
    if augmentations is not None:
        plan = _augmentations(model, encoder, what, number=augmentations, view=view, size=size)
        if centre:
            raise DataError("--centre changes a teacher's vectors; leave it out with --augmentations.")
        settings[AUGMENTATIONS] = plan.model_dump(mode="json")
        assert encoder.preprocess is not None, "it encodes images"
        options |= {"views": AugmentedViews(plan, encoder.preprocess), "batch": max(1, batch // plan.number)}
    if settings:
        options |= {"settings": settings, "announce": _announce}
    with progress_steps(f"embedding {manifest.name}", len(manifest)) as progress:
        result = embed_manifest(encoder, manifest, out, what=what, progress=progress, **options)
    return replace(result, unread=source.ledger.counts())


def _augmentations(
    model: str | Path,
    encoder: Model | TextOnlyModel,
    what: What,
    *,
    number: int,
    view: str | Mapping[str, Any],
    size: int | None,
) -> Augmentations:
    """The augmentations that are asked for, checked against the model."""
    if encoder.preprocess is None or what == "texts":
        raise DataError(f"--augmentations are of images, and {model} is to encode texts; leave it out.")
    content = parse_yaml(view, where="--view") if isinstance(view, str) else dict(view)
    given = {"number": number, "view": content, "size": size or encoder.preprocess.size}
    return validated(Augmentations, given, where="augmentations", error=DataError)


def _announce(found: StoreEstimate) -> None:
    Terminal().print(
        f"about {found.images:,} image and {found.texts:,} text vectors, {found.megabytes:,.1f} MB on disk, "
        f"{found.seconds:,.0f} s of encoding",
        soft_wrap=True,
    )


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
    if (plan := stored_augmentations(store)) is not None:
        lines.append(
            f"augmentations of each image: {plan.number}, {plan.size} pixels on a side; learn from them with "
            f"teachers.NAME.from={store.path}"
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
