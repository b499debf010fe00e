"""The model card of an export: that of its run, with the measured parity."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frugalclip.core.records import RunDirectory, write_atomically
from frugalclip.exporting.base import ExportSettings, ExportTarget
from frugalclip.interop.hub import used_models
from frugalclip.models import Model
from frugalclip.report.card import card, run_sections
from frugalclip.report.record import read_run

NAME = "MODEL_CARD.md"


def write_card(
    folder: Path,
    target: ExportTarget,
    model: Model,
    settings: ExportSettings,
    parity: dict[str, Any],
    *,
    place: Path,
) -> None:
    """Write `MODEL_CARD.md`.

    Args:
        folder: of the export.
        target: that wrote it.
        model: that was exported.
        settings: of the export.
        parity: as measured.
        place: where the folder will stand.
    """
    run = RunDirectory(settings.given) if settings.given else None
    has_run = run is not None and run.is_run()
    own = run_sections(read_run(run)) if run and has_run else list(_origin(model, settings))
    exported = "## Export\n\n" + "\n".join(_exported(target, settings, parity))
    use = f'model = frugalclip.load("{settings.given or "MODEL"}")'
    lines = target.example(folder).replace(str(folder), str(place))
    example = f"## In its library\n\n```python\n{lines}\n```"
    write_atomically(folder / NAME, card([*own, exported, example], use=use))


def _origin(model: Model, settings: ExportSettings) -> Iterator[str]:
    """Of a model that is no run."""
    origin = model.origin or {}
    source = origin.get("source") or settings.given or "a model in memory"
    yield f"Exported from {source}; no run with metrics belongs to it."
    data = (model.training_data or {}).get("path")
    licences = [f"{one['licence'] or 'not named'} (`{one['source']}`)" for one in used_models()]
    yield (
        f"## Data\n\n- training: {f'`{data}`' if data else 'not recorded'}\n"
        f"- licences: {', '.join(licences) or 'not recorded'}"
    )


def _exported(target: ExportTarget, settings: ExportSettings, parity: dict[str, Any]) -> Iterator[str]:
    rows, size = parity["rows"], parity["size_mb"]
    yield f"- format: {target.name}, {settings.precision}, {size:g} MB, read by {parity['library']}"
    yield f"- compared on {rows['images']} images and {rows['texts']} texts of `{rows['data']}`"
    for side in ("image", "text"):
        if found := parity[side]:
            apart, cosine = found["max_abs"], found["min_cosine"]
            yield f"- {side}s: largest difference {apart:.1e}, least cosine {cosine:.6f}"
