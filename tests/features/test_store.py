import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugalclip.core.errors import DataError, ModelError
from frugalclip.features.format import (
    EncoderRecord,
    Kind,
    MappedTensors,
    Origin,
    chunk_path,
    read_head,
    texts_digest,
)
from frugalclip.features.rounding import cosine_errors, rounded
from frugalclip.features.store import Store
from frugalclip.features.writer import (
    Part,
    RowKey,
    means_digest,
    store_means,
    write_store,
)

DIM = 5


class Numbers:
    """Vectors that depend on the id alone: row i has i mod 3 captions, and a picture unless i mod 7 is 3."""

    def __init__(self, rows, *, changed=(), views=1, facets=None, spoil=None):
        self.rows, self.changed, self.views, self.facets, self.spoil = (
            rows,
            set(changed),
            views,
            facets,
            spoil,
        )
        self.encoded = []

    def captions(self, row):
        return [f"caption {j} of {row}{' changed' if row in self.changed else ''}" for j in range(row % 3)]

    def vector(self, *key):
        shape = (DIM,) if self.facets is None else (self.facets, DIM)
        return np.random.default_rng(list(key)).normal(size=shape).astype(np.float32)

    def keys(self, start, stop):
        return [
            RowKey(f"sample-{i}", image=texts_digest([f"picture {i}"]), text=texts_digest(self.captions(i)))
            for i in range(start, stop)
        ]

    def encode(self, start, stop):
        self.encoded.append((start, stop))
        rows = range(start, stop)
        images = [self.vector(i, 0, v) for i in rows if i % 7 != 3 for v in range(self.views)]
        texts = [self.vector(i, 1, j) for i in rows for j in range(i % 3)]
        image_counts = np.array([0 if i % 7 == 3 else self.views for i in rows])
        causes = {i - start: "truncated" if i % 2 else "missing-file" for i in rows if i % 7 == 3}
        empty = np.zeros((0, *self.vector(0).shape), np.float32)
        image = np.stack(images) if images else empty
        if self.spoil is not None and start <= self.spoil < stop:
            image[int(image_counts[: self.spoil - start].sum())] = np.nan
        return {
            "image": Part(image, image_counts, causes),
            "text": Part(np.stack(texts) if texts else empty, np.array([i % 3 for i in rows])),
        }


def encoder(**changes):
    base = {"model": "m0", "preprocess": {"size": 32, "mean": [0.5]}, "tokenizer": "t0"}
    return EncoderRecord(**{**base, **changes})


def write(
    path, source, *, rows=None, fingerprint=None, kinds: tuple[Kind, ...] = ("image", "text"), **options: Any
):
    rows = source.rows if rows is None else rows
    how = options.pop("encoder", encoder())
    origin = Origin(name=f"numbers {rows}", fingerprint=fingerprint or f"f{rows}", rows=rows)
    return write_store(
        path,
        source,
        encoder=how,
        kinds=kinds,
        origin=origin,
        **{"dtype": "float32", "chunk_rows": 4, **options},
    )


def contents(path):
    return {
        str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()
    }


def test_gives_back_what_the_source_made_in_any_order(tmp_path):
    source = Numbers(23)
    store = write(tmp_path / "s", source).store
    rows = np.array([22, 0, 4, 4, 15, 9])
    expected = np.stack([source.vector(i, 0, 0) for i in rows.tolist()])
    np.testing.assert_array_equal(store.vectors("image", rows), expected)
    texts = store.vectors("text", rows)
    assert len(texts) == 6
    assert texts.offsets.tolist() == [0, 1, 1, 2, 3, 3, 3]
    for place, row in enumerate(rows.tolist()):
        expected = np.array([source.vector(row, 1, j) for j in range(row % 3)], np.float32).reshape(-1, DIM)
        np.testing.assert_array_equal(texts[place], expected)
    assert len(store.vectors("text")) == len(store) == 23


def test_an_empty_request_gives_empty_arrays(tmp_path):
    store = write(tmp_path / "s", Numbers(9)).store
    assert store.vectors("image", []).shape == (0, DIM)
    assert store.ragged("text", [0]).values.shape == (0, DIM)


def test_views_and_facets_keep_their_axes(tmp_path):
    source = Numbers(6, views=2, facets=3)
    store = write(tmp_path / "s", source, dtype="int8").store
    assert store.shape("image") == (3, DIM)
    views = store.ragged("image", [5])
    assert views[0].shape == (2, 3, DIM)
    np.testing.assert_allclose(store.vectors("image", [5], view=1)[0], source.vector(5, 0, 1), atol=0.02)
    with pytest.raises(DataError, match=r"'sample-5' \(it has no view 2"):
        store.vectors("image", [5], view=2)


def test_missing_pictures_are_counted_named_and_never_silent(tmp_path):
    store = write(tmp_path / "s", Numbers(23)).store
    assert np.flatnonzero(store.missing("image")).tolist() == [3, 10, 17]
    assert store.causes() == {"sample-3": "truncated", "sample-10": "missing-file", "sample-17": "truncated"}
    assert store.head.missing == {"missing-file": 1, "truncated": 2}
    assert store.head.summary["image"].rows_without == 3
    with pytest.raises(
        DataError,
        match=r"2 of the requested rows have no image vector, first 'sample-3' \(truncated\); leave out",
    ):
        store.vectors("image", [1, 3, 10])
    filled = store.vectors("image", [3, 1], fill=0.0)
    assert not filled[0].any()
    assert filled[1].all()
    assert store.ragged("image").values.isfinite().all()


def test_a_chunk_without_a_single_picture_is_a_chunk(tmp_path):
    store = write(tmp_path / "s", Numbers(8), chunk_rows=1).store
    assert store.missing("image").tolist() == [i == 3 for i in range(8)]
    assert store.verify() == []
    np.testing.assert_array_equal(store.vectors("image", [4])[0], Numbers(8).vector(4, 0, 0))


def test_finds_rows_by_id(tmp_path):
    store = write(tmp_path / "s", Numbers(40)).store
    order = np.random.default_rng(0).permutation(40)
    assert store.rows_of([f"sample-{i}" for i in order]).tolist() == order.tolist()
    assert store.row_of("sample-11") == 11
    assert store.ids[7] == "sample-7"
    with pytest.raises(
        DataError,
        match=r"no vectors of 'else' \(1 of 2 requested ids .*among its 40, such as 'sample-0'\); embed",
    ):
        store.rows_of(["sample-1", "else"])


def test_two_ids_of_one_hash_are_told_apart(tmp_path, monkeypatch):
    for module in ("store", "writer"):
        monkeypatch.setattr(
            f"frugalclip.features.{module}.id_hashes", lambda ids: np.array([len(i) for i in ids], np.uint64)
        )
    store = write(tmp_path / "s", Numbers(12)).store
    assert store.rows_of(["sample-9", "sample-10", "sample-2"]).tolist() == [9, 10, 2]
    with pytest.raises(DataError, match="no vectors of 'sample-x'"):
        store.row_of("sample-x")


def test_repeated_ids_are_refused(tmp_path):
    source = Numbers(6)
    source.keys = lambda start, stop: [
        RowKey("one" if i in (1, 5) else f"id-{i}") for i in range(start, stop)
    ]
    with pytest.raises(DataError, match="the id 'one' occurs more than once in numbers 6"):
        write(tmp_path / "s", source)


@pytest.mark.parametrize(("dtype", "at_most"), [("float32", 0.0), ("float16", 2e-7), ("int8", 1e-4)])
def test_the_rounding_error_is_measured_and_stored(tmp_path, dtype, at_most):
    source = Numbers(30)
    store = write(tmp_path / "s", source, dtype=dtype).store
    rows = np.flatnonzero(~store.missing("image"))
    exact = np.stack([source.vector(i, 0, 0) for i in rows.tolist()]).astype(np.float64)
    found = store.vectors("image", rows).double().numpy()
    cosines = (exact * found).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    error = store.head.summary["image"].error
    assert error.max == pytest.approx((1 - cosines).max(), abs=1e-14)
    assert error.mean == pytest.approx((1 - cosines).mean(), abs=1e-14)
    assert error.max <= at_most
    assert (error.max > 0) == (dtype != "float32")


def test_int8_uses_one_scale_a_vector_and_leaves_zero_alone():
    values = np.array([[1000.0, -500, 0], [0.001, 0, -0.0005], [0, 0, 0]], np.float32)
    stored, scales = rounded(values, "int8")
    assert scales is not None
    assert stored[0].tolist() == [127, -64, 0]
    assert scales == pytest.approx([1000 / 127, 0.001 / 127, 0])
    np.testing.assert_allclose(stored * scales[:, None], values, atol=4, rtol=0)
    assert cosine_errors(values, stored * scales[:, None])[2] == 0


def test_cosine_errors_are_exact_where_one_minus_cosine_is_not():
    values = np.array([[1.0, 0.0]])
    angle = 1e-6
    turned = np.array([[np.cos(angle), np.sin(angle)]])
    assert cosine_errors(values, turned)[0] == pytest.approx(angle**2 / 2, rel=1e-6)


def test_values_too_large_for_float16_are_refused():
    with pytest.raises(DataError, match="7e\\+04 does not fit in float16; set dtype to float32"):
        rounded(np.full((1, 2), 7e4, np.float32), "float16")


def test_vectors_that_are_not_finite_are_refused_by_name(tmp_path):
    with pytest.raises(ModelError, match="image vector that is not finite for 'sample-6'"):
        write(tmp_path / "s", Numbers(12, spoil=6))


def test_writing_again_computes_nothing_and_changes_no_byte(tmp_path):
    write(tmp_path / "s", Numbers(23))
    before, again = contents(tmp_path / "s"), Numbers(23)
    written = write(tmp_path / "s", again)
    assert (written.computed, written.reused, again.encoded) == (0, 6, [])
    assert contents(tmp_path / "s") == before


def test_a_longer_data_set_reuses_the_full_chunks(tmp_path):
    write(tmp_path / "s", Numbers(10))
    longer = Numbers(23)
    written = write(tmp_path / "s", longer)
    assert longer.encoded == [(8, 12), (12, 16), (16, 20), (20, 23)]
    assert (written.computed, written.reused) == (4, 2)
    write(tmp_path / "whole", Numbers(23))
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_the_shorter_store_stays_readable_when_the_longer_one_is_interrupted(tmp_path):
    write(tmp_path / "s", Numbers(10))
    with pytest.raises(ModelError):
        write(tmp_path / "s", Numbers(23, spoil=20))
    assert len(Store.open(tmp_path / "s")) == 10
    assert Store.open(tmp_path / "s").verify() == []
    longer = Numbers(23)
    write(tmp_path / "s", longer)
    assert longer.encoded == [(20, 23)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            Numbers(23, changed=[5]),
            r"row 5 \('sample-5'\) has other captions; give another folder, such as .*s-2",
        ),
        (
            Numbers(8),
            "numbers 10 .10 rows, f10., not from numbers 8 .8 rows, f8., "
            "and writing fewer rows would lose some",
        ),
    ],
)
def test_other_data_is_refused_with_the_row_that_differs(tmp_path, source, message):
    write(tmp_path / "s", Numbers(10))
    before = contents(tmp_path / "s")
    with pytest.raises(DataError, match=message):
        write(tmp_path / "s", source)
    assert source.encoded == []
    assert contents(tmp_path / "s") == before


def test_other_samples_and_pictures_are_told_apart(tmp_path):
    write(tmp_path / "s", Numbers(3))
    for change, words in (
        ({"id": "new"}, "stands where 'sample-1' stood"),
        ({"image": b"0" * 16}, "has another picture"),
    ):
        source = Numbers(5)
        keys = Numbers(5).keys(0, 5)
        old = keys[1]
        keys[1] = RowKey(**{"id": old.id, "image": old.image, "text": old.text, **change})
        source.keys = lambda start, stop, keys=keys: keys[start:stop]
        with pytest.raises(DataError, match=words):
            write(tmp_path / "s", source)


@pytest.mark.parametrize(
    ("options", "was", "now"),
    [
        ({"encoder": encoder(model="m1")}, "model m0", "model m1"),
        (
            {"encoder": encoder(preprocess={"size": 64, "mean": [0.5]})},
            "preprocess.size 32",
            "preprocess.size 64",
        ),
        (
            {"encoder": encoder(tokenizer="t1", settings={"layer": -2})},
            "tokenizer t0, settings.layer none",
            "tokenizer t1, settings.layer -2",
        ),
        ({"dtype": "int8"}, "dtype float32", "dtype int8"),
        ({"kinds": ("text",)}, "kinds image.text", "kinds text"),
        ({"chunk_rows": 8}, "chunk_rows 4", "chunk_rows 8"),
    ],
)
def test_another_encoder_is_refused_with_what_differs(tmp_path, options, was, now):
    write(tmp_path / "s", Numbers(10))
    with pytest.raises(
        DataError,
        match=f"was written with {was}, now requested is {now}; "
        "give another folder, such as .*s-2, or delete",
    ):
        write(tmp_path / "s", Numbers(10), **options)


def test_the_description_is_for_people_and_does_not_count(tmp_path):
    write(tmp_path / "s", Numbers(10))
    again = Numbers(10)
    write(tmp_path / "s", again, encoder=encoder(description={"path": "moved"}))
    assert again.encoded == []


def test_the_scale_of_the_model_is_recorded_and_changes_no_vector(tmp_path):
    assert write(tmp_path / "s", Numbers(10)).store.head.encoder.scale is None
    again = Numbers(10)
    assert write(tmp_path / "s", again, encoder=encoder(scale=12.5)).store.head.encoder.scale == 12.5
    assert again.encoded == []


def test_the_chunk_size_of_the_store_there_is_kept(tmp_path):
    write(tmp_path / "s", Numbers(10), chunk_rows=3)
    assert write(tmp_path / "s", Numbers(12), chunk_rows=None).store.head.chunk_rows == 3


def test_an_unfinished_store_goes_on_with_its_own_data_only(tmp_path):
    with pytest.raises(ModelError):
        write(tmp_path / "s", Numbers(23, spoil=9))
    with pytest.raises(
        DataError, match=r"not finished \(2 of 6 chunks\); run the same 'frugalclip embed' again"
    ):
        Store.open(tmp_path / "s")
    with pytest.raises(DataError, match="and is not finished; finish it with its own data first"):
        write(tmp_path / "s", Numbers(30, changed=[1]))
    longer = Numbers(30)
    write(tmp_path / "s", longer)
    assert longer.encoded[0] == (8, 12)


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="is there and is not a store; give an empty or new folder"):
        write(tmp_path, Numbers(4))
    with pytest.raises(
        DataError, match=r"is not an embedding store \(no store.json\); make one with: frugalclip embed"
    ):
        Store.open(tmp_path)


def test_leftovers_of_killed_runs_go_and_the_users_files_stay(tmp_path):
    write(tmp_path / "s", Numbers(10))
    before = contents(tmp_path / "s")
    chunks = tmp_path / "s" / "chunks"
    left = [
        chunks / ".abc.safetensors.x1",
        chunks / f"{'0' * 32}.safetensors",
        tmp_path / "s" / ".store.json.y2",
    ]
    for file in left:
        file.write_bytes(b"part")
    (tmp_path / "s" / "README.txt").write_text("mine")
    write(tmp_path / "s", Numbers(10))
    assert contents(tmp_path / "s") == {**before, "README.txt": b"mine"}


def test_a_store_of_a_later_version_is_refused(tmp_path):
    write(tmp_path / "s", Numbers(4))
    file = tmp_path / "s" / "store.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 9}))
    with pytest.raises(DataError, match="version 9, this program reads 3; upgrade"):
        Store.open(tmp_path / "s")


def test_verify_finds_every_damaged_file_and_embedding_again_mends_a_chunk(tmp_path):
    store = write(tmp_path / "s", Numbers(23)).store
    before = contents(tmp_path / "s")
    assert store.verify() == []
    flipped, cut, gone = (chunk_path(store.path, store.head.chunks[i].name) for i in (0, 2, 4))
    data = bytearray(flipped.read_bytes())
    data[-1] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-8])
    gone.unlink()
    ids = store.path / store.head.files["ids"]
    ids.write_bytes(ids.read_bytes() + b" ")
    faults = store.verify()
    assert len(faults) == 4
    assert ids.name in faults[0]
    for fault, file, word in zip(
        faults[1:], (flipped, cut, gone), ("hash", "bytes, expected", "cannot be read"), strict=True
    ):
        assert file.name in fault
        assert word in fault
    flipped.unlink()  # as the sentence says
    source = Numbers(23)
    write(tmp_path / "s", source)
    assert source.encoded == [(0, 4), (8, 12), (16, 20)]
    assert contents(tmp_path / "s") == before


def test_a_chunk_says_what_is_in_it(tmp_path):
    store = write(tmp_path / "s", Numbers(8), dtype="int8").store
    chunk = MappedTensors(chunk_path(store.path, store.head.chunks[0].name))
    assert {name: array.dtype.name for name, array in chunk.tensors.items()} == {
        "image.values": "int8", "image.scales": "float32", "image.counts": "int64",
        "text.values": "int8", "text.scales": "float32", "text.counts": "int64",
    }  # fmt: skip
    assert chunk.notes["causes"] == {"3": "truncated"}
    assert re.fullmatch("[0-9a-f]{32}", store.head.chunks[0].name)


def test_reading_maps_files_and_keeps_few_of_them_open(tmp_path, monkeypatch):
    monkeypatch.setattr("frugalclip.features.store._OPEN_CHUNKS", 2)
    store = write(tmp_path / "s", Numbers(23)).store
    rows = np.flatnonzero(~store.missing("image"))
    np.testing.assert_array_equal(
        store.vectors("image", rows), np.stack([Numbers(23).vector(i, 0, 0) for i in rows.tolist()])
    )
    assert len(store._open_chunks) == 2
    mapped = next(iter(store._open_chunks.values()))["image.values"]
    while isinstance(mapped, np.ndarray):
        mapped = mapped.base
    assert type(mapped).__name__ == "mmap"


def test_a_pickled_store_reads_on(tmp_path):
    store = write(tmp_path / "s", Numbers(8)).store
    expected = store.vectors("image", [1])
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301
    np.testing.assert_array_equal(copy.vectors("image", [1]), expected)


def test_refuses_what_a_recipe_does_not_mean(tmp_path):
    source = Numbers(8)
    store = write(tmp_path / "s", source, kinds=("text",)).store
    store.require(model="m0", kinds=["text"], normalize=True)
    with pytest.raises(DataError, match="holds vectors of model m0, the recipe means m1"):
        store.require(model="m1")
    with pytest.raises(DataError, match="holds no image vectors; Known: text"):
        store.vectors("image", [0])
    with pytest.raises(DataError, match="are normalised, the recipe expects the contrary"):
        store.require(normalize=False)
    ids = ["sample-5", "sample-2"]
    assert store.rows_for(ids, texts=[source.captions(5), source.captions(2)]).tolist() == [5, 2]
    with pytest.raises(DataError, match="embedded with other captions for 1 of 2 samples, first 'sample-2'"):
        store.rows_for(ids, texts=[source.captions(5), ["another"]])


def test_rows_outside_the_store_are_refused(tmp_path):
    store = write(tmp_path / "s", Numbers(8)).store
    for row in (-1, 8):
        with pytest.raises(DataError, match=f"row {row} is not in .* rows 0 to 7"):
            store.vectors("text", [0, row])


def test_means_are_kept_and_count_as_part_of_the_encoder(tmp_path):
    means: dict[Kind, np.ndarray] = {"text": np.arange(DIM, dtype=np.float32)}
    centred = encoder(centring=means_digest(means))
    store = write(tmp_path / "s", Numbers(8), encoder=centred, means=means).store
    np.testing.assert_array_equal(store.mean("text"), means["text"])
    assert store.mean("image") is None
    found = store_means(tmp_path / "s")
    assert found is not None
    assert list(found) == ["text"]
    again = Numbers(8)
    write(tmp_path / "s", again, encoder=centred, means=found)
    assert again.encoded == []
    with pytest.raises(DataError, match=r"centring [0-9a-f]+, now requested is centring none"):
        write(tmp_path / "s", Numbers(8))
    assert store_means(tmp_path / "nothing") is None


SLOW_WRITER = """
import sys, time
sys.path.insert(0, {tests!r})
from test_store import Numbers, write

class Slow(Numbers):
    def encode(self, start, stop):
        print(start, flush=True)
        time.sleep({seconds})
        return super().encode(start, stop)

write(__import__("pathlib").Path(sys.argv[1]), Slow(23), dtype="int8")
"""


def test_killed_and_started_again_loses_at_most_one_chunk_and_gives_the_same_bytes(tmp_path):
    """A real kill -9 in the middle of a chunk: finished chunks stay, and all files end as without it."""
    write(tmp_path / "whole", Numbers(23), dtype="int8")

    def command(seconds):
        return [
            sys.executable,
            "-c",
            SLOW_WRITER.format(tests=str(Path(__file__).parent), seconds=seconds),
            str(tmp_path / "s"),
        ]

    with subprocess.Popen(command(0.3), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        begun = [process.stdout.readline() for _ in range(4)]  # the fourth chunk has begun, three are written
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    assert begun == ["0\n", "4\n", "8\n", "12\n"]
    assert process.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "s" / "chunks").iterdir())) == 3
    assert not read_head(tmp_path / "s").complete
    second = subprocess.run(command(0), capture_output=True, text=True, check=True)
    assert second.stdout.split() == ["12", "16", "20"]  # of the chunks that were begun, one is computed twice
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_killed_while_a_file_is_written_leaves_no_half_chunk(tmp_path, monkeypatch):
    write(tmp_path / "whole", Numbers(10))
    replaced = os.replace

    def stop(source, target):
        if (
            str(target).endswith(".safetensors")
            and "chunks" in str(target)
            and len(list(Path(target).parent.glob("*.safetensors"))) == 1
        ):
            shutil.copy(source, f"{source}.kept")  # what a kill between writing and renaming leaves
            raise KeyboardInterrupt
        replaced(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "s", Numbers(10))
    monkeypatch.setattr(os, "replace", replaced)
    for file in (tmp_path / "s" / "chunks").glob("*.kept"):
        file.rename(file.with_name(file.name.removesuffix(".kept")))
    again = Numbers(10)
    write(tmp_path / "s", again)
    assert again.encoded == [(4, 8), (8, 10)]
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_the_format_page_names_every_key(tmp_path):
    store = write(
        tmp_path / "s",
        Numbers(8),
        dtype="int8",
        encoder=encoder(centring=means_digest({"text": np.ones(1)})),
        means={"text": np.ones(1)},
    ).store
    page = (Path(__file__).parents[2] / "docs" / "formats-store.md").read_text(encoding="utf-8")
    chunk = MappedTensors(chunk_path(store.path, store.head.chunks[0].name))
    content = json.loads((store.path / "store.json").read_text())
    names = {
        *content,
        *content["encoder"],
        *content["origin"],
        *content["summary"]["text"],
        *content["files"],
        *content["chunks"][0],
    }
    names |= {
        *chunk.notes,
        *store.table.column_names,
        *(name.replace("text.", "K.").replace("image.", "K.") for name in chunk.tensors),
    }
    assert {name for name in names if f"`{name}`" not in page} == set()
