"""Leakage of an evaluation whose model knows its training data: checked before the metrics are believed.

Pictures only; captions are for `audit leakage`. Measures of images are kept in the cache folder, so the next
evaluation on the same rows compares at once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugalclip.core.errors import FrugalclipError
from frugalclip.core.progress import counter
from frugalclip.core.users_text import command_line
from frugalclip.curation.leakage import Leak, image_leaks, measured_images, summary_of
from frugalclip.curation.measures import ImageMeasures
from frugalclip.data.manifest import Manifest
from frugalclip.data.parquet_images import cache_folder
from frugalclip.evaluation.evaluated_data import training_images

MOST_ROWS = 20_000  # of both sides together; larger ones are left to `audit leakage`
_SHOWN = 5  # pairs in the record


def known_leakage(
    record: Mapping[str, Any] | None, rows: Manifest, *, training: str | Path | Manifest | None = None
) -> dict[str, Any]:
    """Which of the rows have their picture in the training data.

    Args:
        record: of the training data, as the model has it.
        rows: that the model is evaluated on.
        training: the training data, where it is given.

    Returns:
        `checked`; where it is true `images`, `of`, `kinds` and `examples`, else `reason`.
    """
    if training is None and not (record or {}).get("path"):
        return _unchecked("the model has no record of its training data")
    try:
        trained_on = training_images(training, record)
    except FrugalclipError as error:
        return _unchecked(f"the training data cannot be read: {error}")
    if len(trained_on) + len(rows) > MOST_ROWS:
        command = command_line("audit", "leakage", trained_on.name, rows.name)
        return _unchecked(f"more than {MOST_ROWS:,} rows; run: {command}")
    return _checked(trained_on, rows, image_leaks(_measures(trained_on), _measures(rows)))


def _measures(manifest: Manifest) -> ImageMeasures:
    count = counter(f"comparing images of {manifest.name}", len(manifest))
    return measured_images(manifest, cache_folder() / "measures", threads=2, progress=count)


def _unchecked(reason: str) -> dict[str, Any]:
    return {"checked": False, "reason": reason}


def _checked(train: Manifest, test: Manifest, leaks: list[Leak]) -> dict[str, Any]:
    own, others = train.ids, test.ids
    return {
        "checked": True,
        "images": len({leak.test for leak in leaks}),
        "of": len(test),
        "kinds": summary_of(leaks),
        "examples": [[own[one.train], others[one.test], one.kind, one.similarity] for one in leaks[:_SHOWN]],
    }
