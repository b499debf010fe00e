"""Rows as stages get them, without a folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import frugalclip
from frugalclip.core.preprocess import Preprocess
from frugalclip.curation.base import StageRows, find_stage
from frugalclip.curation.measures import SCHEMA, ImageMeasures
from frugalclip.data.manifest import image_places, make_manifest
from frugalclip.data.tokens import train_tokenizer
from frugalclip.features.format import EncoderRecord, Kind, Origin, digest
from frugalclip.features.store import Store
from frugalclip.features.writer import Part, RowKey, write_store
from frugalclip.models import Model
from frugalclip.towers.dual import DualEncoder, ModelConfig

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


COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 60, 230), "white": (250, 250, 250)}
TINY = [
    "tokenizer.vocabulary=600",
    "tokenizer.context=12",
    "model.image={width: 32, depth: 1, head_dim: 16, patch: 8, resolution: 16}",
    "model.text={width: 32, depth: 1, head_dim: 16}",
    "model.dim=16",
    "objectives.captioning={codes: 8, depth: 1, heads: 2, reseed_after: 5}",
    "views.main=none",
    "data.validation=none",
    "evaluation.points=1",
    "batch=16",
    "epochs=null",
    "threads=1",
]


@pytest.fixture(scope="session")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, squares named by their colour, and `run`, a captioner that knows the names."""
    folder = tmp_path_factory.mktemp("coloured")
    (folder / "data").mkdir()
    for number in range(16):
        name = list(COLOURS)[number % 4]
        Image.new("RGB", (16, 16), COLOURS[name]).save(folder / "data" / f"c{number:02d}.png")
        (folder / "data" / f"c{number:02d}.txt").write_text(f"a {name} square")
    words = [f"data={folder / 'data'}", "steps=40", "optimizer.lr=1e-2", *TINY]
    frugalclip.train("tldr-captioner", words, out=folder / "run")
    return folder


class _Given:
    """Vectors that are given, as a source of a store; rows of NaN have no image."""

    def __init__(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        self.ids, self.vectors = ids, vectors.astype(np.float32)

    def keys(self, start: int, stop: int) -> list[RowKey]:
        return [RowKey(self.ids[row], digest(self.vectors[row].tobytes())) for row in range(start, stop)]

    def encode(self, start: int, stop: int) -> dict[Kind, Part]:
        known = ~np.isnan(self.vectors[start:stop]).any(axis=1)
        causes = dict.fromkeys(np.flatnonzero(~known).tolist(), "truncated")
        return {"image": Part(self.vectors[start:stop][known], known.astype(np.int64), causes)}


def vector_store(path: Path, ids: Sequence[str], vectors: np.ndarray, *, model: str = "given") -> Store:
    """A store of (rows, dim) image vectors."""
    return write_store(
        path,
        _Given(ids, vectors),
        encoder=EncoderRecord(model=model),
        kinds=["image"],
        origin=Origin(name="given", fingerprint="given", rows=len(ids)),
        dtype="float32",
        chunk_rows=16,
    ).store


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MODEL with weights at random, which was trained on nothing."""
    tokenizer = train_tokenizer(["a red square", "a blue circle"], vocabulary=600, context=8)
    tower = {"width": 32, "depth": 1}
    towers = {"image": {**tower, "patch": 8, "resolution": 16}, "text": tower, "dim": 24}
    config = ModelConfig.model_validate(towers)
    network = DualEncoder(config, vocabulary=tokenizer.vocabulary, context=tokenizer.context, seed=0)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    Model(network.eval(), tokenizer, Preprocess(size=16)).save(folder)
    return folder


def unit(vectors: np.ndarray) -> np.ndarray:
    """(rows, dim) of length one."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


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
