"""Folders that one process holds: refused to others, and free when the process ends."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from frugalclip.core.errors import DataError, InUseError
from frugalclip.core.locks import (
    LOCK,
    contents,
    fcntl,
    is_held,
    scratch_folder,
    taking_turns,
    writes_into,
    writing,
    writing_file,
)

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


WRITER = """
import os, pathlib, sys, time
from frugalclip.core.locks import writing
with writing(pathlib.Path(sys.argv[1])):
    if len(sys.argv) < 3 or os.fork() == 0: print(os.getpid(), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path: Path):
    """Start a program that writes into a folder, and forks a process if there is one more word."""
    started: list[subprocess.Popen[str]] = []

    def start(*more: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-c", WRITER, str(tmp_path / "run"), *more]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        return started[-1], started[-1].stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_refusal_names_who_writes_there_and_what_to_do(tmp_path: Path, writer):
    process, _ = writer()
    with pytest.raises(InUseError) as refusal, writing(tmp_path / "run"):
        pass
    pattern = (
        rf"run is in use: '-c {tmp_path}/run' \(process {process.pid}\) has been writing into it since "
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d; wait until it has ended, stop it with 'kill {process.pid}', "
        "or give --out another place"
    )
    assert re.search(pattern, str(refusal.value)), refusal.value


def test_the_lock_of_a_killed_process_is_taken_over_although_its_child_lives(tmp_path: Path, writer):
    process, child = writer("fork")
    process.kill()
    process.wait()
    try:
        assert (tmp_path / "run" / LOCK).exists()
        with writing(tmp_path / "run"):
            assert f'"pid": {os.getpid()}' in (tmp_path / "run" / LOCK).read_text()
    finally:
        os.kill(int(child), signal.SIGKILL)
    assert not (tmp_path / "run").exists() or not contents(tmp_path / "run")


def test_one_process_does_not_write_twice_either(tmp_path: Path):
    @writes_into("out")
    def write(text: str, *, out: Path) -> str:
        with pytest.raises(InUseError, match="is in use"), writing(out):
            pass
        assert contents(out) == []
        (out / "file").write_text(text)
        return text

    assert write("a", out=tmp_path / "deep" / "run") == "a"
    assert [path.name for path in (tmp_path / "deep" / "run").iterdir()] == ["file"]


def test_a_folder_that_stays_empty_is_not_left_behind(tmp_path: Path):
    with pytest.raises(ValueError, match="wrong"), writing(tmp_path / "deep" / "run"):
        raise ValueError("wrong")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with writing(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir(), "it was there before"


def test_a_file_is_locked_by_itself(tmp_path: Path):
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    refused = pytest.raises(InUseError, match=r"a\.parquet is in use")
    with writing_file(first), writing_file(second), refused, writing_file(first):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(DataError, match=r"cannot be written to .*; name another place"),
        writing(tmp_path / "file" / "x"),
    ):
        pass


def test_of_several_processes_the_main_one_holds_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with writing(tmp_path):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        with writing(tmp_path):
            pass
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(InUseError), writing(tmp_path):
            pass


def test_turns_are_taken_and_whom_one_waits_for_is_said_once(tmp_path: Path):
    folder, order = tmp_path / "store", []
    begun = threading.Event()

    def first() -> None:
        with writing(folder):
            begun.set()
            time.sleep(0.5)
            order.append("first")
            (folder / "chunk").touch()

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(10)
    with taking_turns(folder, order.append):
        order.append("second")
        with pytest.raises(InUseError), writing(folder):
            pass
    thread.join()
    note, *others = order
    assert others == ["first", "second"]
    assert f"(process {os.getpid()}), which writes into {folder}" in note
    assert contents(folder) == [folder / "chunk"]
