"""What holds for every test: one thread, no network, the same random examples every time."""

import os
import tempfile

# Before torch is imported: two workers with two threads each are slower than one thread each, and sums depend
# on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
if (
    os.environ.get("FRUGALCLIP_TEST_GPU") != "1"
):  # a bit-for-bit promise is made for the processor; `make test-gpu` runs the tests of GPUs alone
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["MPLBACKEND"] = "agg"

# What is printed does not depend on the terminal, or on the lack of one, that the tests were started from.
os.environ.pop("NO_COLOR", None)
os.environ.pop("FORCE_COLOR", None)
os.environ.pop("TTY_COMPATIBLE", None)
os.environ.pop("TTY_INTERACTIVE", None)
os.environ.pop("COLUMNS", None)
os.environ["TERM"] = "xterm-256color"

# Stores and measured speeds of a test run are its own.
os.environ["FRUGALCLIP_CACHE"] = tempfile.mkdtemp(prefix="frugalclip-tests-")

import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("frugalclip", deadline=None, derandomize=True, max_examples=50, print_blob=True)
settings.load_profile("frugalclip")

# Under nohup a closed terminal is ignored, by our programs too; the tests of it begin where it is not.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

_LOCAL = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network fails at once; processes of one machine may talk to each other."""

    def guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
        def checked(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in _LOCAL:
                raise AssertionError(f"a test reached for the network: {address[0]}")
            return connect(self, address)

        return checked

    monkeypatch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
