"""Every kind of bad input among good pairs, by every route: each has its cause, and counts add up."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugalclip.core.errors import DataError
from frugalclip.data.decoding import decoding_faults
from frugalclip.data.image_faults import DECODING
from frugalclip.data.ledger import DROPPED, MERGED
from frugalclip.sources.base import Source
from frugalclip.sources.open import read_source, read_sources
from frugalclip.sources.reading import READING

from ..data import hostile


def _tar(root: Path) -> tuple[Path, hostile.Expected]:
    return root.with_suffix(".tar"), hostile.tar_into(root.with_suffix(".tar"))


ROUTES: dict[str, Callable[[Path], tuple[Path, hostile.Expected]]] = {
    "folder": lambda root: (root, hostile.folder_into(root)),
    "csv": hostile.csv_into,
    "jsonl": hostile.jsonl_into,
    "parquet-paths": hostile.parquet_paths_into,
    "parquet-bytes": hostile.parquet_bytes_into,
    "tar": _tar,
}


def fates(source: Source) -> hostile.Expected:
    """Id -> cause of everything met, decoded too; without the shard's name where the rest is enough."""
    found: hostile.Expected = dict.fromkeys(source.manifest.ids)
    found |= {
        source.manifest.ids[row]: cause for row, cause, _ in decoding_faults(source.manifest, workers=1)
    }
    for fault in source.ledger.entries:
        if fault.status == DROPPED:
            short = fault.id.split("/", 1)[-1] if ".tar/" in fault.id else fault.id
            name = fault.id if short in found else short
            assert name not in found
            found[name] = fault.reason
    return found


@pytest.mark.parametrize("route", ROUTES)
def test_every_kind_is_named_with_its_cause_and_the_counts_add_up(route: str, tmp_path: Path):
    path, expected = ROUTES[route](tmp_path / "in" / "data")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = read_source(path)
        found = fates(source)
    assert found == expected
    assert sum(cause is not None for cause in found.values()) >= 40
    assert set(found.values()) - {None} <= READING.reasons.keys() | DECODING.reasons.keys()
    merged = [fault for fault in source.ledger.entries if fault.status == MERGED]
    assert source.seen == len(found) + len(merged)


def test_what_is_hidden_is_counted(tmp_path: Path):
    path, _ = ROUTES["folder"](tmp_path / "in" / "data")
    assert "hidden files and folders are not read: 3" in read_source(path).notes
    assert any("1 .db" in note for note in read_source(path).notes)
    path, _ = ROUTES["tar"](tmp_path / "tar" / "data")
    assert "hidden members are not read: 1" in read_source(path).notes


@pytest.mark.parametrize("route", ["folder", "csv", "jsonl", "tar"])
def test_mending_reads_what_has_one_reading(route: str, tmp_path: Path):
    path, _ = ROUTES[route](tmp_path / "in" / "data")
    if route == "csv":
        path.write_bytes("image,caption\ngood-00.png,ein Bär im Café\n".encode("latin-1"))
    if route == "jsonl":
        path.write_bytes('{"image": "good-00.png", "caption": "ein Bär im Café"}\n'.encode("latin-1"))
    mended = read_source(path, mend=True)
    repaired = {id: entry.detail for id, entry in mended.ledger.remarks.items() if entry.reason == "repaired"}
    texts = dict(zip(mended.manifest.ids, mended.manifest.captions(), strict=True))
    assert any(texts[id] == ["ein Bär im Café"] for id in repaired)
    assert all("read as" in detail for detail in repaired.values())
    if route in ("folder", "tar"):
        assert texts["caption-wide-without-mark"] == ["a red bird"]
        assert "caption-cut-inside-a-character" not in texts


def test_a_bad_file_among_good_ones_is_a_fault(tmp_path: Path):
    hostile.tar_into(tmp_path / "a.tar", cut=False)
    (tmp_path / "b.tar").write_bytes(b"<html>404</html>" * 100)
    (tmp_path / "c.tar").write_bytes(b"")
    source = read_source(tmp_path)
    assert {
        fault.id: fault.reason for fault in source.ledger.entries if not fault.id.startswith("a.tar")
    } == {
        "b.tar": "not-a-shard",
        "c.tar": "truncated-shard",
    }
    held, _ = hostile.parquet_bytes_into(tmp_path / "p")
    (tmp_path / "p/cut.parquet").write_bytes(held.read_bytes()[:-100])
    source = read_source(tmp_path / "p")
    assert [fault.reason for fault in source.ledger.entries if fault.id == "cut.parquet"] == ["not-a-shard"]
    assert source.manifest.name == str(tmp_path / "p")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.parquet", b"PAR1" + b"\0" * 50, "cannot be read as Parquet"),
        ("a.parquet", b"image,caption\n", "cannot be read as Parquet"),
        ("a.tar", b"no tar at all" * 60, "is not a tar"),
        ("a.tar.gz", b"\x1f\x8b\x08\0\0", "compressed with gzip"),
        ("a.json", b'[{"image": "a.png"', "is not JSON"),
        ("a.json", b'[{"image": "a.png", "caption": "\\ud800"}]', "holds no JSON object"),
        ("a.csv", b"image,caption\n", "no usable row"),
        ("a.csv", b"\xff\xfei\0m\0a", "no"),
        ("a.jsonl", b"\0" * 1000, "holds no JSON object"),
        ("a.bin", b"\0" * 1000, "of an unknown kind"),
    ],
)
def test_files_that_are_nothing_are_reported_in_a_sentence(
    tmp_path: Path, name: str, content: bytes, words: str
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_source(tmp_path / name)


def test_paths_that_cannot_be_opened_are_reported_in_a_sentence(tmp_path: Path):
    hostile.make_pipe(tmp_path / "pipe.csv")
    (tmp_path / "circle").symlink_to("circle")
    for path in (
        tmp_path / "pipe.csv",
        "/dev/zero",
        tmp_path / "circle",
        "x" * 5000,
        "a\0b",
        "not-\udcff-text",
    ):
        with pytest.raises(DataError):
            read_source(path)


def test_damage_anywhere_in_a_table_gives_rows_or_a_sentence(tmp_path: Path):
    generator = hostile.np.random.default_rng(0)
    for route in ("csv", "jsonl", "parquet-bytes", "tar"):
        path, _ = ROUTES[route](tmp_path / route / "data")
        whole = path.read_bytes()
        for turn in range(12):
            data = bytearray(whole)
            for place in generator.integers(0, len(data), 20):
                data[place] = int(generator.integers(0, 256))
            path.write_bytes(data[: int(generator.integers(1, len(data)))] if turn % 3 == 0 else data)
            try:
                source = read_source(path)
            except DataError:
                continue
            decoding_faults(source.manifest, workers=1)
            assert source.seen == len(source.manifest) + len(source.ledger.entries)


def test_one_image_with_very_many_captions_does_not_take_quadratic_time(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(hostile.saved(hostile.noise(), "PNG"))
    (tmp_path / "t.csv").write_text(
        "image,caption\n" + "".join(f"a.png,caption {i}\n" for i in range(30_000))
    )
    assert len(read_source(tmp_path / "t.csv").manifest.captions()[0]) == 30_000


def test_a_quote_that_stays_open_costs_its_own_line(tmp_path: Path):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(hostile.saved(hostile.noise(), "PNG"))
    (tmp_path / "t.csv").write_text(
        'image,caption\na.png,"open\nb.png,"whole, ""quoted"""\nc.png,"two\nlines"\n'
    )
    source = read_source(tmp_path / "t.csv")
    assert source.manifest.captions() == [['whole, "quoted"'], ["two\nlines"]]
    assert [(fault.id, fault.reason) for fault in source.ledger.entries] == [("line 2", "open-quote")]


def test_names_of_repaired_samples_follow_them_into_one_data_set(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(hostile.saved(hostile.noise(), "PNG"))
        (tmp_path / name / "a.txt").write_bytes("ein Bär".encode("latin-1"))
    source = read_sources([tmp_path / "one", tmp_path / "two"], mend=True)
    assert set(source.ledger.remarks) == set(source.manifest.ids) == {"one/a", "two/a"}


def test_ledgers_and_mended_manifests_are_not_read_as_data(tmp_path: Path):
    held, _ = hostile.parquet_bytes_into(tmp_path / "p")
    before = len(read_source(tmp_path / "p").manifest)
    shutil.copy(held, held.with_name("held.clean.parquet"))
    pq.write_table(pa.table({"id": ["a"]}), held.with_name("held.ledger.parquet"))
    assert len(read_source(tmp_path / "p").manifest) == before
