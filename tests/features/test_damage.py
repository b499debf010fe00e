"""A store that was damaged is refused where it is read, and mended where it is written again."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from frugalclip.core.errors import DataError
from frugalclip.features.format import chunk_path, write_head
from frugalclip.features.store import Store

from .test_store import Numbers, contents, write


def everything(path: Path) -> list[np.ndarray]:
    """Every vector of a store, and what finds it."""
    store = Store.open(path)
    texts = store.ragged("text")
    images = store.vectors("image", fill=0.0)
    return [images.numpy(), texts.values.numpy(), texts.offsets, store.rows_of(store.ids)]


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_no_flipped_byte_is_read_as_a_vector(tmp_path: Path, dtype: str):
    path = tmp_path / "s"
    write(path, Numbers(11), dtype=dtype)
    right = everything(path)
    for file in sorted(one for one in path.rglob("*") if one.is_file()):
        whole = file.read_bytes()
        for place in np.linspace(0, len(whole) - 1, 12).astype(int).tolist():
            flip(file, place)
            with pytest.raises(DataError, match=r"cannot be read|has changed|version|describe|not finished"):
                everything(path)
            file.write_bytes(whole)
    assert all(np.array_equal(a, b) for a, b in zip(everything(path), right, strict=True))


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:5], lambda data: b""])
def test_a_file_that_was_cut_is_refused_by_name(tmp_path: Path, damage: Callable[[bytes], bytes]):
    path = tmp_path / "s"
    write(path, Numbers(11))
    for file in sorted(one for one in path.rglob("*") if one.is_file()):
        whole = file.read_bytes()
        file.write_bytes(damage(whole))
        with pytest.raises(DataError, match=file.name):
            everything(path)
        file.write_bytes(whole)


@pytest.mark.parametrize(
    "content",
    ["[]", "null", "5", "{", '{"format": 1}', "9" * 6000, "[" * 200_000, "\ud800", '{"format": NaN}'],
    ids=lambda text: text[:12].encode("utf-8", "replace").decode(),
)
def test_a_head_of_another_form_is_a_sentence(tmp_path: Path, content: str):
    path = tmp_path / "s"
    write(path, Numbers(5))
    (path / "store.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=r"store\.json"):
        Store.open(path)


def test_half_a_character_in_a_head_is_a_sentence(tmp_path: Path):
    path = tmp_path / "s"
    write(path, Numbers(5))
    content = json.loads((path / "store.json").read_text())
    content["origin"]["name"] = "\ud800"
    (path / "store.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="has changed since it was written"):
        Store.open(path)


def test_writing_again_makes_damaged_chunks_anew_and_keeps_the_others(tmp_path: Path):
    store = write(tmp_path / "s", Numbers(23)).store
    before = contents(tmp_path / "s")
    flip(chunk_path(store.path, store.head.chunks[1].name), -3)
    source = Numbers(23)
    assert write(tmp_path / "s", source).computed == 1
    assert source.encoded == [(4, 8)] and contents(tmp_path / "s") == before


def test_a_damaged_head_is_deleted_and_written_anew_from_the_chunks(tmp_path: Path):
    write(tmp_path / "s", Numbers(23))
    before = contents(tmp_path / "s")
    head = tmp_path / "s" / "store.json"
    flip(head, 300)
    with pytest.raises(DataError, match="delete it and run the same 'frugalclip embed' again"):
        write(tmp_path / "s", Numbers(23))
    head.unlink()
    source = Numbers(23)
    assert write(tmp_path / "s", source).computed == 0
    assert contents(tmp_path / "s") == before


def test_the_chunks_of_another_store_are_told_apart(tmp_path: Path):
    store = write(tmp_path / "s", Numbers(8)).store
    one, two = (chunk_path(store.path, entry.name) for entry in store.head.chunks)
    one.write_bytes(two.read_bytes())
    with pytest.raises(DataError, match=f"{one.name} .*hash it was written with"):
        everything(tmp_path / "s")


def test_stored_vectors_that_are_not_finite_are_refused(tmp_path: Path):
    store = write(tmp_path / "s", Numbers(4)).store
    found = store.vectors("image", [0]).numpy()
    store._open_chunks[0] = {name: array.copy() for name, array in store._chunk(0).items()}
    store._open_chunks[0]["image.values"][0] = np.nan
    with pytest.raises(DataError, match=r"an image vector that is not finite for 'sample-0'.*embed the data"):
        store.vectors("image", [0])
    assert np.isfinite(found).all()


def test_the_checksum_of_the_head_does_not_depend_on_its_layout(tmp_path: Path):
    store = write(tmp_path / "s", Numbers(4)).store
    head = tmp_path / "s" / "store.json"
    head.write_text(json.dumps(json.loads(head.read_text()), sort_keys=True))
    assert Store.open(tmp_path / "s").head == store.head
    write_head(tmp_path / "s", store.head.model_copy(update={"dtype": "int8"}))
    assert Store.open(tmp_path / "s").head.dtype == "int8"
