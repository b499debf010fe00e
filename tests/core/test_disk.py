"""A full disk says what was kept and what to do, and leftovers of killed processes go."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from frugalclip.core import disk
from frugalclip.core.disk import DiskFullError, full_disk_explained, replacing
from frugalclip.core.jobs import Job, Shard, ShardTask
from frugalclip.core.messages import sentence_of
from frugalclip.core.records import publish_folder, write_atomically
from frugalclip.data.ledger import Ledger


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_a_sentence_and_the_old_content_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    path = tmp_path / "a.json"
    write_atomically(path, "old")

    def fail(*_: object) -> None:
        raise OSError(number, "no room")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(
        DiskFullError, match=r"the disk is full, so .*a\.json could not be written; what was there .* Free"
    ):
        write_atomically(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_other_errors_stay_what_they_are(tmp_path: Path):
    with pytest.raises(PermissionError), full_disk_explained("a", kept="b", go_on="c"):
        raise PermissionError(errno.EACCES, "no")


def test_who_knows_more_about_what_was_kept_says_it():
    outer = full_disk_explained("runs/a", kept="the last checkpoint is step-3", go_on="add --resume")
    inner = full_disk_explained("runs/a/x", kept="nothing", go_on="wait")
    expected = r"runs/a could .*; the last checkpoint is step-3\. .*, then add --resume"
    with pytest.raises(DiskFullError, match=expected), outer, inner:
        full()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left", "a.tar"), DiskFullError("no room")])
def test_the_command_line_has_no_traceback_for_it(error: Exception):
    assert (sentence_of(error) or "").startswith("DiskFullError: ")


def test_half_a_folder_gives_its_room_back(tmp_path: Path):
    def write(folder: Path) -> None:
        (folder / "model").write_bytes(b"0" * 100)
        full()

    with pytest.raises(OSError, match="No space"), publish_folder(tmp_path / "step-1") as folder:
        write(folder)
    assert os.listdir(tmp_path) == []


def test_parquet_files_of_verbs_have_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("frugalclip.data.ledger.pq.write_table", full)
    with pytest.raises(DiskFullError, match="the disk is full"):
        Ledger("reading").write(tmp_path / "a.parquet", kept=[])
    assert os.listdir(tmp_path) == []


class Full(ShardTask[int]):
    def make(self, shard: Shard[int], folder: Path) -> dict[str, int]:
        if shard.content:
            full()
        (folder / "made").write_text("whole")
        return {}


def test_a_job_keeps_its_finished_shards(tmp_path: Path):
    class Here:
        def run(self, function: Callable, items: list) -> object:
            return ((item, function(item)) for item in items)

    job = Job(tmp_path / "job", {}, what="scenes")
    job.begin()
    shards = [Shard("a", "1", 0), Shard("b", "2", 1)]
    with pytest.raises(DiskFullError, match="finished scenes are kept"):
        job.run(shards, Full(), Here())
    assert set(job.finished(shards)) == {"a"}


KILLED = """
import os, signal, sys
from pathlib import Path
from frugalclip.core.disk import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "plan.json")], check=False)
    left = [name for name in os.listdir(tmp_path) if name.startswith(".plan.json.")]
    assert len(left) == 1
    (tmp_path / ".mine.json.txt").write_text("the user's")
    with replacing(tmp_path / "alive.json") as alive:
        monkeypatch.setattr(disk, "_cleaned", set())  # as in another process
        write_atomically(tmp_path / "other.json", "{}")
        assert alive.is_file(), "a process that lives keeps its own"
        alive.write_text("{}")
    assert sorted(os.listdir(tmp_path)) == [".mine.json.txt", "alive.json", "other.json"]
    assert oct((tmp_path / "alive.json").stat().st_mode)[-3:] == "644"
