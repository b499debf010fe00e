"""Folders that one process holds: refused to others, and free when the process ends."""

import multiprocessing
import time
from pathlib import Path

import pytest

from frugalclip.core.errors import DataError
from frugalclip.core.locks import fcntl, held, is_held, scratch_folder

pytestmark = pytest.mark.skipif(fcntl is None, reason="the system has no locks on folders")


def hold(folder: Path, seconds: float) -> None:
    with scratch_folder(folder) as is_ours:
        assert is_ours
        (folder / "half").touch()
        time.sleep(seconds)


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds a folder."""
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path / "scratch", 60))
    process.start()
    while not (tmp_path / "scratch" / "half").exists():
        time.sleep(0.01)
    yield process
    process.kill()
    process.join()


def test_a_folder_of_another_process_is_refused(tmp_path: Path, holder):
    folder = tmp_path / "scratch"
    assert is_held(folder)
    with scratch_folder(folder) as is_ours:
        assert not is_ours
    with pytest.raises(DataError, match="busy"), held(folder, DataError("busy")):
        pass
    assert (folder / "half").exists()


def test_the_folder_of_a_killed_process_is_emptied_and_deleted(tmp_path: Path, holder):
    folder = tmp_path / "scratch"
    holder.kill()
    holder.join()
    assert not is_held(folder)
    with scratch_folder(folder) as is_ours:
        assert is_ours and not list(folder.iterdir())
        assert is_held(folder)
    assert not folder.exists()


def test_a_folder_that_does_not_exist_is_not_held(tmp_path: Path):
    assert not is_held(tmp_path / "nothing")
