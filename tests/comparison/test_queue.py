"""Processes of trials: in order, some at a time; crashes are reported, and an interrupt lets them save."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from frugalclip.comparison.jobs import TRIAL, Trial
from frugalclip.comparison.queue import LOG, run_trials

# argv: folder/job.json; the folder's name says what to do
PROGRAM = """
import os, pathlib, signal, sys, time
place = pathlib.Path(sys.argv[1]).parent
threads = os.environ['OMP_NUM_THREADS']
with open(place.parent / 'order', 'a') as file: file.write(f'{place.name} {threads}\\n')
if place.name == 'fails': sys.exit('DataError: no pictures')
if place.name == 'crashes': os.kill(os.getpid(), signal.SIGSEGV)
if place.name == 'waits':
    signal.signal(signal.SIGTERM, lambda *a: (open(place / 'saved', 'w').close(), sys.exit(130)))
    (place / 'pid').write_text(str(os.getpid()))
    open(place / 'ready', 'w').close()
    time.sleep(60)
if place.name != 'forgets': (place / 'trial.json').write_text('{}')
"""


@pytest.fixture
def trials(tmp_path, make_trial):
    """Makes trials whose folder says what their program does."""

    def make(*names: str, program: str = "python") -> list[Trial]:
        (tmp_path / "program.py").write_text(PROGRAM)
        command = [program, str(tmp_path / "program.py")]
        made = [make_trial(tmp_path / name, command=command) for name in names]
        for trial in made:
            trial.write()
        return made

    return make


def test_a_crash_ends_one_trial_and_is_reported(trials, tmp_path):
    ended = []
    names = ("a", "fails", "crashes", "forgets", "b")
    assert run_trials(trials(*names), threads=3, ended=ended.append)
    found = {one.trial.folder.name: (one.is_finished, one.message) for one in ended}
    assert found["a"] == found["b"] == (True, "")
    assert found["fails"] == (False, "DataError: no pictures")
    assert "SIGSEGV" in found["crashes"][1]
    assert found["forgets"] == (False, f"it ended without writing {TRIAL}")
    assert (tmp_path / "order").read_text() == "".join(f"{name} 3\n" for name in names)


KILLED = """
import pathlib, sys
from frugalclip.comparison.jobs import Trial, read_job
from frugalclip.comparison.queue import run_trials
folder = pathlib.Path(sys.argv[1])
run_trials([Trial(read_job(folder / 'job.json'), folder)])
"""


def test_a_trial_ends_when_what_runs_it_is_killed(trials, tmp_path):
    trials("waits")
    runner = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "waits")])
    ready = tmp_path / "waits" / "ready"
    while not ready.exists():
        assert runner.poll() is None
        time.sleep(0.02)
    runner.kill()
    runner.wait()
    until = time.monotonic() + 10
    while _is_running(int((tmp_path / "waits" / "pid").read_text())):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert not (tmp_path / "waits" / "saved").exists(), "it goes on from its last checkpoint"


def _is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_missing_program_is_reported(trials, tmp_path):
    ended = []
    assert run_trials(trials("x", program="/no/such/program"), ended=ended.append)
    assert "/no/such/program cannot be started" in ended[0].message
    assert "cannot be started" in (tmp_path / "x" / LOG).read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_lets_a_trial_save_and_starts_no_other(number, trials, tmp_path):
    before = signal.getsignal(number)
    made, ended = trials("waits", "later"), []

    def interrupt():
        while not (tmp_path / "waits" / "ready").exists():
            time.sleep(0.02)
        signal.raise_signal(number)

    threading.Thread(target=interrupt).start()
    assert run_trials(made, ended=ended.append) is False
    assert (tmp_path / "waits" / "saved").exists()
    assert not (tmp_path / "later" / TRIAL).exists()
    assert "resumes when the comparison does" in ended[0].message
    assert ended[0].is_stopped and not ended[0].is_finished
    assert signal.getsignal(number) == before, "handlers are put back"
