"""Processes of trials: in order, some at a time; crashes are reported, and an interrupt lets them save."""

import signal
import threading
import time

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


def test_a_missing_program_is_reported(trials, tmp_path):
    ended = []
    assert run_trials(trials("x", program="/no/such/program"), ended=ended.append)
    assert "/no/such/program cannot be started" in ended[0].message
    assert "cannot be started" in (tmp_path / "x" / LOG).read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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
