"""Processes that end with their parent, and the ranks that torchrun gives."""

import os
import signal
import subprocess
import sys
import time

import pytest

from frugalclip.core.processes import bound_program, launched_processes, launched_rank

BOUND = """
import subprocess, sys, time
from frugalclip.core.processes import bound_program
child = subprocess.Popen(bound_program(["sleep", "60"]), start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""
WATCHED = """
import os, sys, time
from frugalclip.core.processes import end_with_parent
child = os.fork()
if child == 0:
    end_with_parent()
    print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(BOUND, marks=pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux")),
        WATCHED,
    ],
)
def test_a_child_ends_when_its_parent_is_killed(program: str):
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    until = time.monotonic() + 10
    while is_running(child):
        assert time.monotonic() < until
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"  # a container may have nobody to reap it


def test_a_bound_program_keeps_its_exit_code_and_its_signal():
    assert subprocess.run(bound_program(["sh", "-c", "exit 3"]), check=False).returncode == 3
    killed = subprocess.run(bound_program(["sh", "-c", "kill -TERM $$"]), check=False)
    assert killed.returncode == -signal.SIGTERM
    missing = subprocess.run(bound_program(["/no/such"]), check=False, capture_output=True, text=True)
    assert missing.returncode == 1
    assert missing.stderr == "/no/such cannot be started: No such file or directory\n"


def test_ranks_come_from_the_launcher(monkeypatch: pytest.MonkeyPatch):
    assert (launched_rank(), launched_processes()) == (0, 1)
    monkeypatch.setenv("RANK", "3")
    assert launched_rank() == 0, "a rank alone is no launch"
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (launched_rank(), launched_processes()) == (3, 4)
