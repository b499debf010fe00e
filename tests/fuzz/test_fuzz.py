"""No damage to a file is a traceback, a hang, or read as if it were whole; `run.py` tries many more cases."""

from pathlib import Path

import pytest

from frugalclip.core.guard import reading

from . import cases
from .cases import FINE, Fuzzer
from .targets import TARGETS


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    return Fuzzer(folder / "whole", folder / "scratch")


def outcomes(fuzzer: Fuzzer, number_of_cases: int, *, seed: int) -> list[dict[str, str]]:
    found = [fuzzer.case(seed, number) for number in range(number_of_cases)]
    return [one.as_json() for one in found if one.kind not in FINE]


def test_untouched_files_are_understood(fuzzer: Fuzzer):
    for target in TARGETS:
        folder = fuzzer.copy(target)
        assert isinstance(target.read(folder), bytes), target.name


def test_damage_is_a_sentence(fuzzer: Fuzzer):
    assert outcomes(fuzzer, 3 * len(TARGETS), seed=0) == []


@pytest.mark.slow
def test_much_damage_is_a_sentence(fuzzer: Fuzzer):
    assert outcomes(fuzzer, 2000, seed=1) == []


def test_a_guard_hides_no_hang(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def forever(_: Path) -> bytes:
        with reading("a file"):
            while True:
                pass

    monkeypatch.setattr(cases, "HANG", 0.05)
    with pytest.raises(cases.Hang):
        cases._timed(forever, tmp_path)
