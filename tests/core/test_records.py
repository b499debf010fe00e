"""Folders of a run appear whole or not at all."""

import os
from pathlib import Path

import pytest

from frugalclip.core.records import RunDirectory, publish_folder


def test_a_folder_takes_the_place_of_the_older_one_when_it_is_complete(tmp_path: Path):
    target = tmp_path / "checkpoints" / "step-1"
    for content in ("old", "new"):
        with publish_folder(target) as folder:
            (folder / "file").write_text(content)
            assert folder.parent == target.parent
    assert (target / "file").read_text() == "new" and list(target.parent.iterdir()) == [target]


def test_what_stops_halfway_leaves_the_older_folder(tmp_path: Path):
    target = tmp_path / "step-1"
    target.mkdir()
    (target / "file").write_text("old")

    def stop(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"), publish_folder(target) as folder:
        stop(folder)
    assert (target / "file").read_text() == "old"
    with publish_folder(target) as folder:  # what was left over is removed
        assert list(folder.iterdir()) == []


def test_the_older_folder_is_there_until_the_new_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "step-1"
    target.mkdir()
    (target / "old").write_text("old")
    seen: list[set[str]] = []
    replace = os.replace

    def renamed(source: Path, place: Path) -> None:
        seen.append({path.name for path in tmp_path.iterdir() if any(path.iterdir())})
        replace(source, place)

    monkeypatch.setattr("frugalclip.core.records.os.replace", renamed)
    with publish_folder(target) as folder:
        (folder / "new").write_text("new")
    assert all(names & {"step-1", ".step-1.replaced"} for names in seen), (
        "some whole folder exists at any moment"
    )
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_rows_with_half_a_surrogate_pair_are_cut_like_others(tmp_path: Path):
    run = RunDirectory(tmp_path)
    run.metrics.write_text('{"step": 1, "note": "\\ud800"}\n{"step": 2}\n')
    run.cut_rows(after_step=1)
    assert list(run.rows()) == [{"step": 1, "note": "\ud800"}]
