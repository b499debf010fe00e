"""Conversion as a job: which rows go where, and that a killed one continues to the same bytes."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from PIL import Image

from frugalclip.core.executors import SHARED, InlineExecutor, ProcessExecutor
from frugalclip.core.jobs import FOLDER
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.sources.conversion import ConversionConfig, ConversionTask, conversion_job, conversion_shards


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Twelve images of which one is broken, in two splits."""
    (tmp_path / "in").mkdir()
    names = [f"{number}.png" for number in range(12)]
    for number, name in enumerate(names):
        Image.new("RGB", (6, 4), (number, 0, 0)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "7.png").write_bytes(b"no image")
    return make_manifest(
        ids=names,
        images=image_places(names),
        captions=[[f"number {number}"] for number in range(12)],
        fields={"split": ["val" if number % 4 == 3 else "train" for number in range(12)]},
        root=tmp_path / "in",
        name="pairs",
    )


def config_of(**settings) -> ConversionConfig:
    return ConversionConfig.model_validate({"to": "tar", "samples_per_shard": 2} | settings)


def test_each_split_has_shards_of_its_own(manifest: Manifest):
    shards = {shard.name: shard.content.tolist() for shard in conversion_shards(manifest, config_of())}
    assert shards == {
        "train-00000.tar": [0, 1],
        "train-00001.tar": [2, 4],
        "train-00002.tar": [5, 6],
        "train-00003.tar": [8, 9],
        "train-00004.tar": [10],
        "val-00000.tar": [3, 7],
        "val-00001.tar": [11],
    }
    (shard,) = conversion_shards(manifest.where("split=val"), config_of(to="parquet", samples_per_shard=9))
    assert shard.name == "val-00000-of-00001.parquet"


def test_a_key_changes_with_all_that_decides_the_bytes(manifest: Manifest):
    def first_key(manifest: Manifest, **settings) -> str:
        return conversion_shards(manifest, config_of(**settings))[0].key

    keys = [
        first_key(manifest),
        first_key(manifest, shuffle=1),
        first_key(manifest, images={"size": 2}),
        first_key(manifest, images={"format": "webp"}),
        first_key(manifest, samples_per_shard=3),
        first_key(manifest.take(range(11))),
    ]
    assert len(set(keys)) == len(keys)
    assert first_key(manifest) == keys[0]


def convert(manifest: Manifest, folder: Path, workers: int = 1) -> list[list[str]]:
    """Convert, and give the ids that were left out of each shard."""
    config = config_of()
    job, shards = conversion_job(folder, manifest, config), conversion_shards(manifest, config)
    job.begin()
    executor = InlineExecutor() if workers == 1 else ProcessExecutor(workers)
    records = job.run(shards, ConversionTask(manifest, config, threads=2), executor)
    return [[fault[0] for fault in record.notes["faults"]] for record in records]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(SHARED != "fork", reason="starts and kills processes by fork")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_conversion_continues_to_the_same_bytes(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
):
    left_out = convert(manifest, tmp_path / "whole")
    assert [id for ids in left_out for id in ids] == ["7.png"]
    real = ImageReader.bytes

    def stuck(self: ImageReader, row: int) -> bytes:
        if row == 5:
            time.sleep(60)
        return real(self, row)

    monkeypatch.setattr(ImageReader, "bytes", stuck)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=convert, args=(manifest, tmp_path / "out", workers))
    process.start()
    end = time.monotonic() + 30
    while not (tmp_path / "out" / FOLDER / "scratch" / "train-00002.tar" / "files").is_dir():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    monkeypatch.setattr(ImageReader, "bytes", real)
    assert not (tmp_path / "out" / "train-00002.tar").exists()
    assert convert(manifest, tmp_path / "out") == left_out
    assert files(tmp_path / "out") == files(tmp_path / "whole")
