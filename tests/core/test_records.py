"""Folders of a run appear whole or not at all."""

from pathlib import Path

import pytest

from frugalclip.core.records import publish_folder


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
