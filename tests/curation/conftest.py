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


def drawn_thumbnails(count: int) -> list[bytes]:
    """Thumbnails of random boxes, each unlike the others."""
    rng = np.random.default_rng(0)
    images = np.full((count, 3, 32, 32), 255, np.uint8)
    for image in images:
        for _ in range(4):
            x, y = rng.integers(0, 24, 2)
            image[:, x : x + rng.integers(4, 20), y : y + rng.integers(4, 20)] = rng.integers(
                0, 256, (3, 1, 1)
            )
    return [image.tobytes() for image in images]


def decided(rows: StageRows, stage: str, **settings: Any) -> list[str | None]:
    """The reasons of a stage, None for rows that stay."""
    found = find_stage(stage)
    verdict = found(found.Config(stage=stage, **settings), Path()).decide(rows)
    assert all(reason is None or reason in found.reasons for reason in verdict.reasons)
    assert np.array_equal(verdict.is_kept, [reason is None for reason in verdict.reasons])
    return verdict.reasons.tolist()
