"""Rows as stages get them, without a folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from frugalclip.curation.base import StageRows, find_stage
from frugalclip.curation.measures import SCHEMA, ImageMeasures
from frugalclip.data.manifest import image_places, make_manifest

MakeRows = Callable[..., StageRows]


@pytest.fixture
def make_rows() -> MakeRows:
    """Rows with captions, and measures given by column."""

    def made(captions: Sequence[Sequence[str] | str], *, seed: int = 0, **columns: Any) -> StageRows:
        ids = [f"r{row:04d}" for row in range(len(captions))]
        every = [[text] if isinstance(text, str) else list(text) for text in captions]
        fields = columns.pop("fields", {})
        scores = columns.pop("scores", {})
        images = image_places(ids)
        manifest = make_manifest(
            ids=ids, images=images, captions=every, fields=fields, root=Path(), name="rows"
        )
        known = {name: pa.array(values, SCHEMA.field(name).type) for name, values in columns.items()}
        table = {f.name: known.get(f.name, pa.nulls(len(ids), f.type)) for f in SCHEMA}
        measures = ImageMeasures(pa.table(table))
        return StageRows(manifest, measures, scores, seed, services=None)

    return made


def decided(rows: StageRows, stage: str, **settings: Any) -> list[str | None]:
    """The reasons of a stage, None for rows that stay."""
    found = find_stage(stage)
    verdict = found(found.Config(stage=stage, **settings), Path()).decide(rows)
    assert all(reason is None or reason in found.reasons for reason in verdict.reasons)
    assert np.array_equal(verdict.is_kept, [reason is None for reason in verdict.reasons])
    return verdict.reasons.tolist()
