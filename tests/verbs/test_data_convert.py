import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from frugalclip.core.errors import DataError
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.ledger import read_ledger
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.sources.open import open_data, read_source
from frugalclip.verbs import data_convert as verb

IDS = ["a", "b/c.1", "../d", "e é", "f%2E", "g" * 300, "train/h", "i"]


def encoded(number: int, kind: str = "PNG", *, size: tuple[int, int] = (12, 8), **options: Any) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def pairs(tmp_path: Path) -> Manifest:
    """Eight samples with every sort of column, of which one picture is broken."""
    places = []
    for number in range(len(IDS)):
        kind = ("PNG", "JPEG", "WEBP", "GIF")[number % 4]
        places.append(f"{number}.{kind.lower()}")
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / places[-1]).write_bytes(encoded(number, kind) if number != 4 else b"no picture")
    languages = [
        [("en", ["one", "two"]), ("de", ["eins"])],
        None,
        [("zh-Hans", ["一"])],
        *[[("de", [f"zahl {n}"])] for n in range(5)],
    ]
    fields = {
        "split": ["train", "test", *["train"] * 6],
        "number": list(range(8)),
        "share": [0.1, None, 2.0, 1e-9, 5.0, 6.0, 7.0, 8.0],
        "is_odd": [False, True] * 4,
        "code": ["007", "1", None, "", "x", "y", "z", "true"],
        "tags": [["p", "q"], [], None, ["r"], *[["s"]] * 4],
        "nothing": pa.nulls(8, pa.string()),
        "title_de": [f"Titel {n}" for n in range(8)],
        "caption_": ["x"] * 8,
    }
    captions = [
        ["first\nof two lines", "second"],
        ["plain"],
        ["ünï"],
        ["d"],
        ["e"],
        ["f"],
        ["g"],
        ["h", "hh", "hhh"],
    ]
    return make_manifest(
        ids=IDS,
        images=image_places(places),
        captions=captions,
        captions_by_language=languages,
        weights=[1, 0.5, 0, 3, 1, 1, 1, 1],
        fields=fields,
        root=tmp_path / "in",
        name="pairs",
    )


@pytest.fixture
def path(pairs: Manifest, tmp_path: Path) -> Path:
    pairs.write(tmp_path / "pairs.parquet")
    return tmp_path / "pairs.parquet"


def rows(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Everything but the picture, by id."""
    table = manifest.table.drop(["image"]).to_pylist()
    for row in table:
        row["captions_by_language"] = dict(row.get("captions_by_language") or ())
    return {row["id"]: row for row in table}


def images(manifest: Manifest) -> dict[str, bytes]:
    reader = ImageReader(manifest)
    return {id: reader.bytes(row) for row, id in enumerate(manifest.ids)}


@pytest.mark.parametrize("to", ["tar", "parquet"])
def test_what_is_written_is_read_back(pairs: Manifest, path: Path, tmp_path: Path, to: str):
    result = verb.convert(path, to=to, out=tmp_path / "out", samples_per_shard=3)
    assert (result.samples, result.shards) == (7, 4)
    names = [item.name for item in sorted((tmp_path / "out").iterdir()) if not item.name.startswith(".")]
    assert names == (
        ["test-00000.tar", "train-00000.tar", "train-00001.tar", "train-00002.tar"]
        if to == "tar"
        else ["test-00000-of-00001.parquet", *(f"train-{i:05d}-of-00003.parquet" for i in range(3))]
    )
    source = read_source(tmp_path / "out")
    assert source.ledger.entries == []
    again, before = source.manifest, pairs.take([row for row in range(8) if row != 4])
    assert rows(again) == rows(before)
    assert images(again) == images(before)
    assert again.captions(language="de").count(["eins"]) == 1
    assert again.weights()[again.ids.index("../d")] == 0
    if to == "parquet":
        assert {f.name: f.type for f in again.table.schema} == {f.name: f.type for f in before.table.schema}
    fates = read_ledger(tmp_path / "out.ledger.parquet").to_pylist()
    assert [(fate["id"], fate["reason"]) for fate in fates if fate["status"] == "dropped"] == [
        ("f%2E", "not-an-image")
    ]
    assert sorted(fate["id"] for fate in fates if fate["status"] == "kept") == sorted(again.ids)


def test_other_programs_read_the_tars(path: Path, tmp_path: Path):
    verb.convert(path, to="tar", out=tmp_path / "out", where="split=train")
    with tarfile.open(tmp_path / "out/train-00000.tar") as file:
        members = {
            member.name: file.extractfile(member).read()  # pyright: ignore[reportOptionalMemberAccess]
            for member in file
        }
        assert all(member.mtime == member.uid == member.gid == 0 and not member.uname for member in file)
    assert list(members)[:3] == ["a.png", "a.txt", "a.json"]
    assert members["a.txt"] == b"first\nof two lines"
    assert json.loads(members["a.json"])["captions_by_language"] == {"en": ["one", "two"], "de": ["eins"]}
    assert all(name.count(".") == 1 and ".." not in name for name in members)  # a key ends at its first dot
    assert max(len(name) for name in members) < 200


def test_hugging_face_reads_the_parquet(path: Path, tmp_path: Path):
    """`datasets` takes columns by type: images as a struct that the schema's metadata names, and no maps."""
    verb.convert(path, to="parquet", out=tmp_path / "out", where="split=train")
    file = pq.ParquetFile(tmp_path / "out/train-00000-of-00001.parquet")
    schema = file.schema_arrow
    assert schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert json.loads(schema.metadata[b"huggingface"]) == {
        "info": {"features": {"image": {"_type": "Image"}}}
    }
    assert schema.field("captions_by_language").type == pa.struct(
        [(code, pa.list_(pa.string())) for code in ("de", "en", "zh-Hans")]
    )
    leaf = [file.schema.column(i).path for i in range(len(file.schema))].index("image.bytes")
    chunk = file.metadata.row_group(0).column(leaf)
    assert chunk.compression == "UNCOMPRESSED"
    assert "RLE_DICTIONARY" not in chunk.encodings


def test_row_groups_are_small(tmp_path: Path):
    (tmp_path / "in").mkdir()
    for number in range(10):
        (tmp_path / "in" / f"{number}.bmp").write_bytes(encoded(number, "BMP", size=(300, 300)))  # 270 kB
        (tmp_path / "in" / f"{number}.txt").write_text("x")
    verb.convert(tmp_path / "in", to="parquet", out=tmp_path / "out")
    metadata = pq.ParquetFile(tmp_path / "out/data-00000-of-00001.parquet").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 4, 2]


@pytest.mark.parametrize("to", ["tar", "parquet"])
def test_the_same_input_gives_the_same_bytes_whatever_the_workers(path: Path, tmp_path: Path, to: str):
    for name, workers in (("one", 1), ("two", 2)):
        verb.convert(path, to=to, out=tmp_path / name, size=5, format="webp", shuffle=3, workers=workers)
    shards = [item.name for item in (tmp_path / "one").iterdir() if item.name.startswith("t")]
    assert len(shards) == 2
    for name in shards:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_shuffling_is_seeded(path: Path, tmp_path: Path):
    orders = []
    for seed in (None, 1, 2, 1):
        out = tmp_path / f"out{len(orders)}"
        verb.convert(path, to="tar", out=out, shuffle=seed)
        orders.append(open_data(out).ids)
    assert orders[1] == orders[3]
    assert len({tuple(order) for order in orders}) == 3
    assert len({tuple(sorted(order)) for order in orders}) == 1


def test_a_stopped_conversion_goes_on_shard_by_shard(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, out = tmp_path / "whole", tmp_path / "out"
    verb.convert(path, to="tar", out=whole, samples_per_shard=2)
    read: list[int] = []
    real = ImageReader.bytes

    def failing(self: ImageReader, row: int) -> bytes:
        read.append(row)
        if len(read) > 4:
            raise KeyboardInterrupt
        return real(self, row)

    monkeypatch.setattr(ImageReader, "bytes", failing)
    with pytest.raises(KeyboardInterrupt):
        verb.convert(path, to="tar", out=out, samples_per_shard=2, workers=1)
    monkeypatch.setattr(ImageReader, "bytes", real)
    assert sorted(item.name for item in out.iterdir()) == [".job", "test-00000.tar", "train-00000.tar"]
    result = verb.convert(path, to="tar", out=out, samples_per_shard=2)
    assert (result.done_before, result.shards) == (2, 5)
    for item in whole.glob("*.tar"):
        assert (out / item.name).read_bytes() == item.read_bytes()
    assert (
        read_ledger(tmp_path / "out.ledger.parquet").to_pylist()
        == read_ledger(tmp_path / "whole.ledger.parquet").to_pylist()
    )
    (out / "train-00001.tar").write_bytes(b"cut")
    assert verb.convert(path, to="tar", out=out, samples_per_shard=2).done_before == 4
    assert (out / "train-00001.tar").read_bytes() == (whole / "train-00001.tar").read_bytes()


def test_another_conversion_does_not_go_into_the_same_folder(path: Path, pairs: Manifest, tmp_path: Path):
    verb.convert(path, to="tar", out=tmp_path / "out")
    with pytest.raises(
        DataError,
        match="holds converted shards made with size None, and now size is 4; give --out a new folder",
    ):
        verb.convert(path, to="tar", out=tmp_path / "out", size=4)
    with pytest.raises(DataError, match="made with data"):
        verb.convert(path, to="tar", out=tmp_path / "out", where="number!=3")
    changed = pairs.table.set_column(pairs.table.column_names.index("number"), "number", pa.array([9] * 8))
    Manifest(changed, pairs.root, "x").write(tmp_path / "changed.parquet")
    with pytest.raises(DataError, match="made with data"):
        verb.convert(tmp_path / "changed.parquet", to="tar", out=tmp_path / "out")
    with pytest.raises(DataError, match="is not an empty folder and holds no converted shards"):
        verb.convert(path, to="tar", out=tmp_path / "in")
    with pytest.raises(DataError, match="to is 'zip'; expected 'tar' or 'parquet'"):
        verb.convert(path, to="zip", out=tmp_path / "new")
    with pytest.raises(DataError, match="none of the 1 images"):
        verb.convert(path, to="tar", out=tmp_path / "new", where="number=4")


def test_every_sample_of_several_sources_has_a_fate(path: Path, tmp_path: Path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more/x.png").write_bytes(encoded(50))
    (tmp_path / "more/x.txt").write_text("x")
    (tmp_path / "more/mute.png").write_bytes(encoded(51))
    result = verb.convert([path, tmp_path / "more"], to="parquet", out=tmp_path / "out", where="number!=2")
    assert result.samples == 7
    assert result.ledger.counts() == {"filtered": 1, "no-caption": 1, "not-an-image": 1}
    console = Console(file=io.StringIO(), width=200, color_system=None)
    verb.show_convert(result, console)
    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    for words in (
        "7 samples in 1 shards",
        "(3 left out)",
        "no-caption: the caption is missing",
        f"data={tmp_path / 'out'} --out",
    ):
        assert words in text, (words, text)
