import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frugalclip.cli import main
from frugalclip.core.errors import DataError
from frugalclip.features.vectors import ManifestVectors
from frugalclip.models import Model
from frugalclip.serving import building, index
from frugalclip.serving.changing import Drift
from frugalclip.serving.index import open_index
from frugalclip.serving.layout import read_index_head
from frugalclip.verbs.search_change import _mending, search_add, search_check, search_remove

from .conftest import COLOURS, SHADES, build, draw, small_model

ROWS = len(COLOURS) * len(SHADES)


def everything(path: Path) -> dict[str, float]:
    """Every id with its score for one query."""
    answer = open_index(path).query("a red thing", k=10_000)
    return {hit["id"]: round(hit["score"], 3) for hit in answer["hits"]}


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """Counts the images that models encode."""
    counts: list[int] = []
    encode = Model.encode_image

    def counted(self, images, **options):
        counts.append(len(images) if isinstance(images, torch.Tensor) else 0)  # not those of queries
        return encode(self, images, **options)

    monkeypatch.setattr(Model, "encode_image", counted)
    return counts


def test_what_is_added_is_found_and_adding_again_changes_nothing(place, encoded):
    more = draw(place / "more", shades=(200,))
    change = search_add(place / "index", more)
    assert (change.added, change.replaced, change.unchanged) == (len(COLOURS), 0, 0)
    assert sum(encoded) == len(COLOURS)
    again = search_add(place / "index", more)
    assert (again.added, again.unchanged, again.head) == (0, len(COLOURS), change.head)
    assert sum(encoded) == len(COLOURS)
    build(place / "whole", small_model(), place / "data")
    alone = everything(place / "whole")
    found = everything(place / "index")
    assert len(found) == ROWS + len(COLOURS)
    assert {id: found[id] for id in alone} == alone
    assert search_check(place / "index").is_none


def test_ids_that_are_taken_get_their_folder(place):
    shutil.copytree(place / "data", place / "copy")
    change = search_add(place / "index", place / "copy")
    assert change.added == ROWS
    ids = open_index(place / "index").rows.manifest.ids
    assert len(set(ids)) == 2 * ROWS


def test_the_same_bytes_in_another_place_are_not_embedded_again(place, encoded):
    shutil.copytree(place / "data", place / "copy")
    search_add(place / "index", place / "copy")
    assert sum(encoded) == 0


def test_a_changed_picture_replaces_the_old_one(place, encoded):
    file = place / "data" / "red" / "40.png"
    Image.new("RGB", (20, 30), "gold").save(file)
    drift = search_check(place / "index")
    assert (len(drift.changed), drift.new, drift.gone) == (1, (), ())
    change = search_add(place / "index", place / "data")
    assert (change.added, change.replaced, change.unchanged) == (0, 1, ROWS - 1)
    assert sum(encoded) == 1
    best = open_index(place / "index").query(image=file, k=1)["hits"][0]
    assert best["id"] == drift.changed[0]
    assert search_check(place / "index").is_none


def test_removing_is_idempotent_and_unknown_ids_remove_nothing(place):
    before = everything(place / "index")
    gone, kept = list(before)[:2], list(before)[2:]
    with pytest.raises(DataError, match="has no row 'nothing'"):
        search_remove(place / "index", [gone[0], "nothing"])
    assert everything(place / "index") == before
    assert search_remove(place / "index", gone).removed == 2
    again = search_remove(place / "index", gone)
    assert (again.removed, again.absent) == (0, tuple(gone))
    assert everything(place / "index") == {id: before[id] for id in kept}
    drift = search_check(place / "index")
    assert drift.is_none
    assert drift.removed == 2
    assert search_add(place / "index", place / "data").added == 2
    assert everything(place / "index") == before


def test_check_names_what_is_new_changed_gone_and_damaged(place, capsys):
    shutil.copy(place / "data" / "red" / "40.png", place / "data" / "red" / "41.png")
    (place / "data" / "blue" / "40.png").unlink()
    Image.new("RGB", (9, 9), "gold").save(place / "data" / "pink" / "40.png")
    head = read_index_head(place / "index")
    chunk = next((place / "index" / "stores" / head.stores[0] / "chunks").iterdir())
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    drift = search_check(place / "index")
    assert [len(drift.new), len(drift.changed), len(drift.gone), len(drift.damaged)] == [1, 1, 1, 1]
    assert main(["search", "check", str(place / "index")]) == 3
    out = capsys.readouterr().out
    for line in ("1 new: ", "1 changed: ", "1 gone: ", "search build"):
        assert line in out
    assert "search remove" not in out and "search add" not in out  # an index made again has those rows
    shutil.rmtree(place / "data")
    assert len(search_check(place / "index").unread) == 1


def test_the_commands_that_check_names_work_however_many_rows_are_gone(place, monkeypatch):
    files = sorted((place / "data").rglob("*.png"))
    files[0].rename(place / "data" / "-dashed.png")
    shutil.rmtree(place / "index")
    build = ["search", "build", str(place / "model"), str(place / "data"), "--out", str(place / "index")]
    assert main(build) == 0
    for file in [place / "data" / "-dashed.png", *files[1:8]]:
        file.unlink()
    drift = search_check(place / "index")
    assert len(drift.gone) == 8
    (line,) = _mending(place / "index", drift)
    monkeypatch.setattr("frugalclip.verbs.search_change._NAMED", 7)
    assert [one.split()[2] for one in _mending(place / "index", drift)] == ["build"]
    assert main(shlex.split(line)[1:]) == 0
    assert search_check(place / "index").is_none


def test_a_damaged_index_is_mended_with_the_rows_of_all_its_sources(place):
    first, second = draw(place / "first"), draw(place / "second", shades=(200,))
    path = place / "index"
    assert main(["search", "build", str(place / "model"), str(first), "--out", str(path)]) == 0
    assert main(["search", "add", str(path), str(second), "--where", "label=red"]) == 0
    assert main(["search", "add", str(path), str(place / "data"), "--where", "label=gold|blue"]) == 0
    before = everything(path)
    head = read_index_head(path)
    (path / head.files["map"]).write_bytes(b"")
    lines = _mending(path, Drift((), (), (), 0, damaged=("a sentence",)))
    assert [line.split()[2] for line in lines] == ["build", "add", "add"]
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0
    assert set(everything(path)) == set(before)


@pytest.mark.parametrize("damaged", ["rows-*", "map-*", "model-*/model.safetensors", "stores/*/chunks/*"])
def test_the_command_that_check_names_mends_a_damaged_file(place, damaged):
    path = place / "index"
    assert main(["search", "build", str(place / "model"), str(place / "data"), "--out", str(path)]) == 0
    before = everything(path)
    (file,) = path.glob(damaged)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    drift = search_check(path)
    assert len(drift.damaged) == 1
    for line in _mending(path, drift):
        assert main(shlex.split(line)[1:]) == 0
    assert search_check(path).is_none
    assert everything(path) == before


def test_a_build_goes_on_where_it_stopped(place, encoded, monkeypatch):
    monkeypatch.setattr("frugalclip.features.writer.CHUNK_ROWS", 8)
    encode, calls = ManifestVectors.encode, []

    def stopped(self, start, stop):
        calls.append(start)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, start, stop)

    monkeypatch.setattr(ManifestVectors, "encode", stopped)
    with pytest.raises(KeyboardInterrupt):
        build(place / "new", small_model(), place / "data")
    assert not (place / "new" / "index.json").exists()
    build(place / "new", small_model(), place / "data")
    assert sum(encoded) == ROWS
    assert everything(place / "new") == everything(place / "index")
    encoded.clear()
    build(place / "new", small_model(), place / "data")  # a finished one is made again from its own vectors
    assert not encoded


def test_another_model_takes_the_place_of_an_index(place):
    build(place / "index", small_model(seed=5), place / "data")
    assert len([*(place / "index").glob("model-*")]) == 1
    assert open_index(place / "index").head.model == small_model(seed=5).fingerprint


def test_clusters_take_additions_and_are_made_again_when_many_came(place, monkeypatch):
    monkeypatch.setattr(building, "EXACT_ROWS", 20)
    scan, scanned = index.ExactScan, []

    def noted(vectors, rows, *, dim):
        scanned.append(len(rows))
        return scan(vectors, rows, dim=dim)

    with monkeypatch.context() as patched:
        patched.setattr(index, "ExactScan", noted)
        head = build(place / "index", small_model(), place / "data")
    assert max(scanned) == 0  # vectors that have clusters are not held in memory too
    assert head.kind == "ivf"
    assert min(head.recall.values()) >= 0.99
    before = everything(place / "index")
    few = place / "few"
    few.mkdir()
    Image.new("RGB", (20, 30), "navy").save(few / "navy.png")
    first = search_add(place / "index", few).head
    assert first.clusters == head.clusters
    best = open_index(place / "index").query(image=few / "navy.png", k=1)["hits"][0]
    assert Path(best["path"]).name == "navy.png"
    search_add(place / "index", draw(place / "more", shades=(200, 220)))
    second = read_index_head(place / "index")
    assert second.clusters.file != head.clusters.file
    found = everything(place / "index")
    assert len(found) == ROWS + 1 + 2 * len(COLOURS)
    assert {id: found[id] for id in before} == before
    search_remove(place / "index", [id for id in found if id not in before][:15])
    assert set(before) <= set(everything(place / "index"))


KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests_serving import build, small_model
from frugalclip.serving.index import open_index
from frugalclip.verbs.search_change import search_add, search_remove

def answers(path):
    hits = open_index(path).query("a red thing", k=999)["hits"]
    return {hit["id"]: round(hit["score"], 3) for hit in hits}

def killed_at(number, command):
    '''The command in a process of its own, killed at its n-th rename; whether it got so far.'''
    child = os.fork()
    if child == 0:
        replace, count = os.replace, [0]
        def counted(*paths):
            count[0] += 1
            if count[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*paths)
        os.replace = counted
        try:
            command()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])

place = Path(sys.argv[2])
index = place / "index"
victim = next(iter(answers(index)))
every = {
    "add": lambda: search_add(index, place / "more"),
    "remove": lambda: search_remove(index, [victim]),
    "build": lambda: build(index, small_model(seed=6), place / "data"),
}
found = {}
for name in sys.argv[3:]:
    command = every[name]
    before, number, same = answers(index), 1, []
    while killed_at(number, command):
        same.append(answers(index) == before)
        number += 1
    found[name] = {"kills": len(same), "same": all(same), "before": before, "after": answers(index)}
print(json.dumps(found))
"""


class Stopped(BaseException):
    """What no `except Exception` catches."""


@pytest.mark.parametrize("command", ["add", "remove"])
def test_a_stop_at_any_rename_leaves_the_old_index(place, command, monkeypatch):
    draw(place / "more", shades=(200,))
    before, replace, number = everything(place / "index"), os.replace, 0
    commands = {
        "add": lambda: search_add(place / "index", place / "more"),
        "remove": lambda: search_remove(place / "index", [next(iter(before))]),
    }
    while everything(place / "index") == before:
        number, left = number + 1, [number + 1]

        def counted(*paths, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise Stopped
            replace(*paths)

        with monkeypatch.context() as patched, contextlib.suppress(Stopped):
            patched.setattr(os, "replace", counted)
            commands[command]()
    assert number >= 4
    assert len(everything(place / "index")) - len(before) == {"add": len(COLOURS), "remove": -1}[command]
    assert search_check(place / "index").is_none


@pytest.mark.slow
@pytest.mark.parametrize(("command", "more"), [("remove", -1), ("add", len(COLOURS)), ("build", 0)])
def test_a_kill_at_any_rename_leaves_the_old_index(place, command, more):
    draw(place / "more", shades=(200,))
    shutil.copy(Path(__file__).with_name("conftest.py"), place / "tests_serving.py")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(place), str(place), command],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout).values()
    assert found["same"]
    assert found["kills"] >= 3
    assert len(found["after"]) == len(found["before"]) + more
    assert found["after"] != found["before"]


def test_rows_in_random_order_are_found_by_their_own_row(place):
    index = open_index(place / "index")
    table = index.rows.manifest.table
    for row in np.random.default_rng(0).permutation(ROWS)[:5].tolist():
        hit = index.query(image=table["image"][row]["path"].as_py(), k=1)["hits"][0]
        assert hit["id"] == table["id"][row].as_py()
