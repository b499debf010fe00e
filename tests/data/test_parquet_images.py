import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugalclip.data import parquet_images
from frugalclip.data.parquet_images import ParquetImages


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRUGALCLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, rows: int = 40, group: int = 8, seed: int = 0) -> list[bytes | None]:
    """A file of random bytes, every seventh value null."""
    rng = np.random.default_rng(seed)
    values = [None if row % 7 == 3 else rng.bytes(1000) for row in range(rows)]
    pq.write_table(
        pa.table({"image": [{"bytes": value, "path": None} for value in values]}), path, row_group_size=group
    )
    return values


def read_all(path: Path, order: list[int], images: ParquetImages) -> dict[int, bytes | None]:
    return {row: images.value(str(path), "image.bytes", row) for row in order}


@pytest.mark.parametrize("memory", [2**20, 10_000, 0])
def test_any_order_gives_the_values_wherever_groups_are_kept(tmp_path: Path, cache: Path, memory: int):
    values = write(tmp_path / "t.parquet")
    order = np.random.default_rng(1).permutation(40).tolist() * 2
    assert read_all(tmp_path / "t.parquet", order, ParquetImages(memory_bytes=memory, open_files=1)) == dict(
        enumerate(values)
    )
    unpacked = list(cache.rglob("*.arrow"))
    assert len(unpacked) == {2**20: 0, 10_000: 4, 0: 5}[memory]  # five groups of 8 kB


def test_each_group_is_decoded_once_by_all_readers_together(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "t.parquet")
    decoded: list[int] = []
    read = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, i, **options: decoded.append(i) or read(self, i, **options),
    )
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(40).tolist()
        read_all(tmp_path / "t.parquet", order, ParquetImages(memory_bytes=0))
    assert sorted(decoded) == [0, 1, 2, 3, 4]


def test_a_file_written_again_is_unpacked_again(tmp_path: Path, cache: Path):
    for seed in range(2):
        values = write(tmp_path / "t.parquet", seed=seed)
        os.utime(tmp_path / "t.parquet", ns=(0, seed))
        assert read_all(tmp_path / "t.parquet", [5, 6], ParquetImages(memory_bytes=0)) == {
            5: values[5],
            6: values[6],
        }
    assert len(list((cache / "parquet").iterdir())) == 2


def test_what_no_run_used_for_a_month_is_deleted(tmp_path: Path, cache: Path):
    def unpack(name: str) -> set[Path]:
        write(tmp_path / name)
        read_all(tmp_path / name, [0], ParquetImages(memory_bytes=0))
        return set((cache / "parquet").iterdir())

    (old,) = unpack("old.parquet")
    os.utime(old, (0, 0))
    (new,) = unpack("new.parquet")
    assert new != old
    assert new in unpack("next.parquet")


@pytest.mark.parametrize("damage", ["no folder", "no space", "a damaged copy"])
def test_without_a_usable_disk_the_oldest_group_gives_way(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str
):
    values = write(tmp_path / "t.parquet")
    if damage == "no folder":
        cache.write_text("a file is in the way")
    elif damage == "no space":
        monkeypatch.setattr(parquet_images, "_SPARE_BYTES", 2**60)
    else:
        read_all(tmp_path / "t.parquet", list(range(40)), ParquetImages(memory_bytes=0))
        for place in cache.rglob("*.arrow"):
            place.write_bytes(b"ARROW1 cut")
    images = ParquetImages(memory_bytes=10_000)
    assert read_all(tmp_path / "t.parquet", list(range(39, -1, -1)), images) == dict(enumerate(values))
    assert len(images._held) <= 2


def test_what_is_not_there_is_an_error_of_arrow(tmp_path: Path, cache: Path):
    write(tmp_path / "t.parquet")
    images = ParquetImages()
    with pytest.raises(pa.ArrowException, match="40 rows, and row 40"):
        images.value(str(tmp_path / "t.parquet"), "image.bytes", 40)
    with pytest.raises(pa.ArrowException, match=r"no column 'picture.bytes'"):
        images.value(str(tmp_path / "t.parquet"), "picture.bytes", 0)
