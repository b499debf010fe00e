"""Every image of a data set is decoded, by threads or processes; one that ends its process is found alone."""

import os
import signal
from pathlib import Path

import pytest

from frugalclip.data import decoding
from frugalclip.data.manifest import image_places, make_manifest
from frugalclip.sources.open import read_source

from . import hostile


def _crashing(data: bytes, **_: object) -> None:
    if data == b"crash":
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers get the crashing decoder by fork")
def test_a_decoder_that_crashes_is_a_fault_of_its_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decoding, "_FEW", 0)
    monkeypatch.setattr(decoding, "_ROWS", 8)
    monkeypatch.setattr(decoding, "decode", _crashing)
    monkeypatch.setattr(decoding, "_METHOD", "fork")
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(b"crash" if number == 13 else b"good")
    names = [f"{number}.png" for number in range(20)]
    manifest = make_manifest(
        ids=names, images=image_places(names), captions=[["x"]] * 20, root=tmp_path, name="m"
    )
    done: list[int] = []
    assert [fault[:2] for fault in decoding.decoding_faults(manifest, workers=2, progress=done.append)] == [
        (13, "broken-image")
    ]
    assert sum(done) == 20


def test_processes_find_what_threads_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, expected = hostile.parquet_bytes_into(tmp_path / "p")
    manifest = read_source(tmp_path / "p").manifest
    threads = decoding.decoding_faults(manifest, workers=2)
    monkeypatch.setattr(decoding, "_FEW", 0)
    assert decoding.decoding_faults(manifest, workers=2) == threads
    assert {manifest.ids[row]: cause for row, cause, _ in threads} == {
        id: cause for id, cause in expected.items() if cause and id in manifest.ids
    }
