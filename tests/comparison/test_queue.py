"""Processes of trials: in order, some at a time, crashes reported, an interrupt lets them save."""

import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from frugalclip.comparison.queue import LOG, Task, run_tasks
from frugalclip.comparison.trial import TRIAL

# argv: folder/job.json; the folder's name says what to do
PROGRAM = """
import os, pathlib, signal, sys, time
place = pathlib.Path(sys.argv[1]).parent
with open(place.parent / 'order', 'a') as file: file.write(place.name + ' ' + os.environ['OMP_NUM_THREADS'] + '\\n')
if place.name == 'fails': sys.exit('DataError: no pictures')
if place.name == 'crashes': os.kill(os.getpid(), signal.SIGSEGV)
if place.name == 'waits':
    signal.signal(signal.SIGTERM, lambda *a: (open(place / 'saved', 'w').close(), sys.exit(130)))
    open(place / 'ready', 'w').close()
    time.sleep(60)
if place.name != 'forgets': (place / 'trial.json').write_text('{}')
"""


def tasks(folder: Path, *names: str) -> list[Task]:
    (folder / "program.py").write_text(PROGRAM)
    made = []
    for name in names:
        (folder / name).mkdir()
        made.append(
            Task(folder / name, folder / name / "job.json", (sys.executable, str(folder / "program.py")))
        )
    return made


def test_a_crash_ends_one_trial_and_is_reported(tmp_path):
    ended = []
    assert run_tasks(tasks(tmp_path, "a", "fails", "crashes", "forgets", "b"), threads=3, ended=ended.append)
    found = {one.task.folder.name: (one.is_finished, one.message) for one in ended}
    assert found["a"] == found["b"] == (True, "")
    assert found["fails"] == (False, "DataError: no pictures")
    assert "SIGSEGV" in found["crashes"][1]
    assert found["forgets"] == (False, f"it ended without writing {TRIAL}")
    assert (tmp_path / "order").read_text().split() == [
        "a",
        "3",
        "fails",
        "3",
        "crashes",
        "3",
        "forgets",
        "3",
        "b",
        "3",
    ]


def test_a_program_that_is_not_there(tmp_path):
    (tmp_path / "x").mkdir()
    ended = []
    assert run_tasks(
        [Task(tmp_path / "x", tmp_path / "x" / "job.json", ("/no/such/program",))], ended=ended.append
    )
    assert "/no/such/program cannot be started" in ended[0].message
    assert "cannot be started" in (tmp_path / "x" / LOG).read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_a_trial_save_and_starts_no_other(number, tmp_path):
    before = signal.getsignal(number)
    made, ended = tasks(tmp_path, "waits", "later"), []

    def interrupt():
        while not (tmp_path / "waits" / "ready").exists():
            time.sleep(0.02)
        signal.raise_signal(number)

    threading.Thread(target=interrupt).start()
    assert run_tasks(made, ended=ended.append) is False
    assert (tmp_path / "waits" / "saved").exists()
    assert not (tmp_path / "later" / TRIAL).exists()
    assert "goes on when the comparison does" in ended[0].message
    assert ended[0].is_stopped and not ended[0].is_finished
    assert signal.getsignal(number) == before, "handlers are put back"
