"""A job gives the same records and bytes, whoever makes its shards and however often it is stopped."""

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from frugalclip.core.errors import DataError
from frugalclip.core.executors import SHARED, Executor, InlineExecutor, ProcessExecutor
from frugalclip.core.jobs import FOLDER, Job, Shard, ShardTask, content_key

NAMES = [f"part-{number}" for number in range(6)]
POSIX = pytest.mark.skipif(SHARED != "fork", reason="starts and kills processes by fork")


@dataclass(frozen=True)
class Writing(ShardTask[int]):
    """Writes two files a shard; stops in the middle of one shard where a flag is missing."""

    diary: Path
    stop_at: str | None = None
    seconds: float = 0.0

    def make(self, shard: Shard[int], folder: Path) -> dict[str, Any]:
        (self.diary / f"{shard.name}.{os.getpid()}").touch()
        (folder / f"{shard.name}.a").write_bytes(b"first")
        if shard.name == self.stop_at:
            time.sleep(60)
        time.sleep(self.seconds)
        (folder / "inner").mkdir()
        (folder / "inner" / f"{shard.name}.b").write_bytes(bytes(shard.content))
        return {"rows": shard.content}


def shards(extra: str = "") -> list[Shard[int]]:
    return [Shard(name, content_key(name, 100 + i, extra), 100 + i) for i, name in enumerate(NAMES)]


def job(folder: Path, **plan: Any) -> Job:
    return Job(folder, {"size": 3, **plan}, what="numbers")


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a tree, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    (tmp_path / "diary").mkdir()
    return tmp_path / "diary"


@pytest.fixture
def whole(tmp_path: Path, diary: Path) -> dict[str, bytes]:
    run(tmp_path / "whole", Writing(diary))
    for entry in diary.iterdir():
        entry.unlink()
    return files(tmp_path / "whole")


def run(folder: Path, task: Writing, executor: Executor | None = None) -> list[int]:
    one = job(folder)
    one.begin()
    records = one.run(shards(), task, executor or InlineExecutor())
    return [record.notes["rows"] for record in records]


def wait_for(path: Path, pattern: str) -> None:
    end = time.monotonic() + 30
    while not list(path.glob(pattern)):
        assert time.monotonic() < end, pattern
        time.sleep(0.01)


def test_files_records_and_nothing_else(tmp_path: Path, whole: dict[str, bytes]):
    assert set(whole) == {
        f"{FOLDER}/plan.json",
        *(f"{FOLDER}/records/{name}.json" for name in NAMES),
        *(f"{name}.a" for name in NAMES),
        *(f"inner/{name}.b" for name in NAMES),
    }
    assert not (tmp_path / "whole" / FOLDER / "scratch").exists()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_workers_changes_nothing(
    tmp_path: Path, diary: Path, whole: dict[str, bytes], workers: int
):
    assert run(tmp_path / "other", Writing(diary), ProcessExecutor(workers)) == [100 + i for i in range(6)]
    assert files(tmp_path / "other") == whole


def test_what_is_finished_is_not_made_again(tmp_path: Path, diary: Path, whole: dict[str, bytes]):
    assert run(tmp_path / "whole", Writing(diary)) == [100 + i for i in range(6)]
    assert not list(diary.iterdir())
    (tmp_path / "whole" / "part-1.a").unlink()
    (tmp_path / "whole" / "inner" / "part-3.b").write_bytes(b"cut off")
    run(tmp_path / "whole", Writing(diary))
    assert sorted(entry.stem for entry in diary.iterdir()) == ["part-1", "part-3"]
    assert files(tmp_path / "whole") == whole


def test_a_shard_with_another_key_is_made_again(tmp_path: Path, diary: Path, whole: dict[str, bytes]):
    one = job(tmp_path / "whole")
    assert one.finished(shards("other")) == {}
    assert one.recorded("part-2") is not None
    one.run(shards("other"), Writing(diary), InlineExecutor())
    assert len(list(diary.iterdir())) == len(NAMES)


@POSIX
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_job_goes_on_to_the_same_bytes(
    tmp_path: Path, diary: Path, whole: dict[str, bytes], workers: int
):
    folder = tmp_path / "killed"
    executor = InlineExecutor() if workers == 1 else ProcessExecutor(workers)
    process = multiprocessing.get_context("fork").Process(
        target=run, args=(folder, Writing(diary, stop_at="part-2"), executor)
    )
    process.start()
    wait_for(folder / FOLDER / "scratch", "part-2/files/part-2.a")
    wait_for(folder / FOLDER / "records", "part-1.json")
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    visible = [path for path in folder.rglob("*") if path.is_file() and FOLDER not in path.parts]
    assert visible and all(path.read_bytes() == whole[str(path.relative_to(folder))] for path in visible)
    assert not [path for path in visible if "part-2" in path.name]
    assert run(folder, Writing(diary)) == [100 + i for i in range(6)]
    assert files(folder) == whole  # and no stray temporary file, here or in the hidden folder


@POSIX
def test_a_stop_by_the_keyboard_leaves_no_scratch(tmp_path: Path, diary: Path):
    @dataclass(frozen=True)
    class Stopped(ShardTask[int]):
        def make(self, shard: Shard[int], folder: Path) -> dict[str, Any]:
            (folder / "half").write_bytes(b"half")
            raise KeyboardInterrupt

    one = job(tmp_path / "out")
    one.begin()
    with pytest.raises(KeyboardInterrupt):
        one.run(shards(), Stopped(), InlineExecutor())
    assert set(files(tmp_path / "out")) == {f"{FOLDER}/plan.json"}


@POSIX
def test_two_calls_share_the_shards(tmp_path: Path, diary: Path, whole: dict[str, bytes]):
    folder = tmp_path / "shared"
    context = multiprocessing.get_context("fork")
    calls = [context.Process(target=run, args=(folder, Writing(diary, seconds=0.1))) for _ in range(2)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert [call.exitcode for call in calls] == [0, 0]
    made = [entry.name.split(".") for entry in diary.iterdir()]
    assert sorted(name for name, _ in made) == NAMES  # each once
    assert {pid for _, pid in made} == {str(call.pid) for call in calls}
    assert files(folder) == whole


@POSIX
def test_a_shard_of_a_process_that_dies_is_taken_over(tmp_path: Path, diary: Path, whole: dict[str, bytes]):
    folder = tmp_path / "shared"
    context = multiprocessing.get_context("fork")
    stuck = context.Process(target=run, args=(folder, Writing(diary, stop_at="part-0")))
    stuck.start()
    wait_for(folder / FOLDER / "scratch", "part-0/files/part-0.a")
    other = context.Process(target=run, args=(folder, Writing(diary)))
    other.start()
    wait_for(folder / FOLDER / "records", "part-5.json")
    assert other.is_alive()  # it waits for the shard that is claimed
    stuck.kill()
    other.join()
    stuck.join()
    assert files(folder) == whole


@dataclass(frozen=True)
class Crashing(ShardTask[int]):
    def make(self, shard: Shard[int], folder: Path) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}


@POSIX
def test_a_worker_that_dies_ends_in_a_sentence(tmp_path: Path):
    one = job(tmp_path / "out")
    one.begin()
    with pytest.raises(DataError, match=r"a worker process died, .* --workers 1"):
        one.run(shards(), Crashing(), ProcessExecutor(2))


def test_a_folder_of_something_else_is_refused(tmp_path: Path, whole: dict[str, bytes]):
    with pytest.raises(
        DataError, match="holds numbers made with size 3, and now size is 4; give --out a new"
    ):
        job(tmp_path / "whole", size=4).begin()
    assert files(tmp_path / "whole") == whole
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(DataError, match="is not an empty folder and holds no numbers"):
        job(tmp_path / "letters").begin()
    with pytest.raises(DataError, match="is a file, expected a folder"):
        job(tmp_path / "letters" / "a.txt").begin()
