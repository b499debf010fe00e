"""The command line as a user meets it: exit codes, one sentence on stderr, did-you-mean, lazy verbs."""

import os
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from frugalclip import __version__, cli
from frugalclip.core import messages
from frugalclip.core.errors import DataError

Verb = Callable[..., list[Any]]


@dataclass(frozen=True)
class Result:
    """What a stand-in gives back."""

    verb: str
    is_finished: bool = True


@pytest.fixture(autouse=True)
def _restore_warnings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.delenv("FRUGALCLIP_DEBUG", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", os.environ.get("GOMP_SPINCOUNT", "3000"))  # main sets it for good


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Verb:
    """Puts a recorder, or something that raises, in the place of a verb; gives the calls."""

    def put(verb: str, *names: str, raises: BaseException | None = None) -> list[Any]:
        calls: list[Any] = []

        def recorder(name: str) -> Callable[..., Result]:
            def record(*arguments: Any, **options: Any) -> Result:
                calls.append((name, arguments, options))
                if raises:
                    raise raises
                return Result(name)

            return record

        module = types.ModuleType(f"frugalclip.verbs.{verb}")
        for name in names or (verb, "show"):
            setattr(module, name, recorder(name))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(sys.modules["frugalclip.verbs"], verb, module, raising=False)
        return calls

    import frugalclip.verbs  # noqa: F401  (so that the attribute has a place)

    return put


def test_version_and_help(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    places = [
        shown.index(f" {verb} ")
        for verb in ("demo", "doctor", "data", "plan", "train", "compare", "evaluate", "embed")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("tarin clip", ["'tarin' is not a verb of frugalclip", "did you mean 'train'?"]),
        ("no-such-verb --help", ["'no-such-verb' is not a verb", "compare, compress, curate, data"]),
        ("data chekc x", ["'chekc' is not a verb of frugalclip data", "did you mean 'check'?"]),
        ("embed m p --uot x", ["frugalclip embed has no option --uot", "did you mean '--out'?"]),
        ("train clip --data my", ["has no option --data", "without dashes: data=VALUE"]),
        (
            "train clip --objectives.contrastive.weight=2",
            ["without dashes: objectives.contrastive.weight=VALUE"],
        ),
        ("train clip", ["Missing option '--out'", "frugalclip train --help"]),
        ("embed m p --out s --batch zero", ["'--batch'", "integer", "frugalclip embed --help"]),
        ("embed m p --out s --what picutres", ["'picutres' is not one of 'both', 'images', 'texts'"]),
        ("data check data.columns.image=photo", ["no data set"]),
    ],
)
def test_a_line_that_cannot_be_understood_gives_one_sentence(
    line: str, output: list[str], capsys: pytest.CaptureFixture[str]
):
    assert cli.main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("UsageError: ")
    for words in output:
        assert words in err


def test_overrides_may_stand_between_options(stand_in: Verb):
    calls = stand_in("train")
    assert cli.main(["train", "clip", "data=my", "--out", "runs/x", "a.b=[1, 2]", "--resume", "c=1e-5"]) == 0
    assert calls[0] == (
        "train",
        ("clip", ["data=my", "a.b=[1, 2]", "c=1e-5"]),
        {"out": "runs/x", "resume": True},
    )
    assert calls[1] == ("show", (Result("train"),), {})


def test_flags_reach_the_verbs(stand_in: Verb):
    plan, evaluate = stand_in("plan"), stand_in("evaluate")
    checked = stand_in("data_check", "check", "show_check")
    listed = stand_in("data_manifest", "manifest", "show_manifest")
    assert cli.main(["plan", "clip", "--probe", "x=1"]) == 0
    assert plan[0][1:] == (("clip", ["x=1"]), {"probe": True, "json": None})
    assert (
        cli.main(
            [
                "evaluate",
                "runs/x",
                "--data",
                "d",
                "--task",
                "knn",
                "--label-field",
                "label",
                "--where",
                "split=val",
                "--baselines",
            ]
        )
        == 0
    )
    _, arguments, options = evaluate[0]
    assert arguments == (["runs/x"],)
    assert {key: options[key] for key in ("data", "task", "label_field", "where", "baselines")} == {
        "data": "d",
        "task": "knn",
        "label_field": "label",
        "where": "split=val",
        "baselines": True,
    }
    assert cli.main(["data", "check", "a.csv", "data.columns.image=photo", "b", "--full"]) == 0
    assert checked[0] == ("check", (["a.csv", "b"],), {"full": True, "columns": {"image": "photo"}})
    assert cli.main(["data", "manifest", "a", "--out", "m.parquet"]) == 0
    assert listed[0] == ("manifest", (["a"],), {"out": "m.parquet", "where": None, "columns": None})


def test_a_comparison_takes_arms_and_overrides_and_a_stopped_one_ends_with_130(
    stand_in: Verb, monkeypatch: pytest.MonkeyPatch
):
    calls = stand_in("compare")
    monkeypatch.setattr(
        sys.modules["frugalclip.verbs.compare"],
        "compare",
        lambda *a, **k: calls.append((a, k)) or {"is_stopped": "6" in str(k)},
    )
    line = [
        "compare",
        "clip",
        "b:siglip",
        "batch=64",
        "--out",
        "runs/c",
        "--fractions",
        "1/4,1",
        "--hold-out",
        "style",
        "--seeds",
    ]
    assert cli.main([*line, "5"]) == 0
    assert calls[0][0] == (["clip", "b:siglip", "batch=64"],)
    assert {k: v for k, v in calls[0][1].items() if v} == {
        "out": "runs/c", "seeds": 5, "fractions": "1/4,1", "hold_out": "style", "jobs": 1, "clock": "auto",
    }  # fmt: skip
    assert calls[1][0] == "show"
    assert cli.main([*line, "6"]) == 130


def test_what_the_user_can_mend_is_one_line_without_a_traceback(
    stand_in: Verb, capsys: pytest.CaptureFixture[str]
):
    stand_in("doctor", raises=DataError("my/ has no pictures; give a folder that has."))
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "DataError: my/ has no pictures; give a folder that has.\n"


@pytest.mark.parametrize("line", [["--debug", "doctor"], ["doctor", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(line: list[str], stand_in: Verb):
    stand_in("doctor", raises=DataError("no pictures"))
    with pytest.raises(DataError):
        cli.main(line)


def test_the_environment_can_ask_for_the_traceback(stand_in: Verb, monkeypatch: pytest.MonkeyPatch):
    stand_in("doctor", raises=DataError("no pictures"))
    monkeypatch.setenv("FRUGALCLIP_DEBUG", "0")
    assert cli.main(["doctor"]) == 2
    monkeypatch.setenv("FRUGALCLIP_DEBUG", "1")
    with pytest.raises(DataError):
        cli.main(["doctor"])


def test_our_own_faults_keep_their_traceback(stand_in: Verb):
    stand_in("doctor", raises=ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["doctor"])


def test_a_full_disk_is_a_sentence(stand_in: Verb, capsys: pytest.CaptureFixture[str]):
    stand_in("doctor", raises=OSError(28, "No space left on device", "runs/x"))
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == (
        "DiskFullError: the disk is full, so runs/x could not be written; free space and run again.\n"
    )


@pytest.mark.parametrize("size", [2**60, 2**62], ids=["more than there is", "more than can be counted"])
def test_what_no_memory_holds_is_a_sentence(size: int, stand_in: Verb, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(RuntimeError) as found:
        torch.empty(size)
    stand_in("doctor", raises=found.value)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err.startswith("MemoryError: there is not enough memory for this; lower")


def test_an_interrupt_ends_with_130(stand_in: Verb, capsys: pytest.CaptureFixture[str]):
    stand_in("doctor", raises=KeyboardInterrupt())
    assert cli.main(["doctor"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_run_that_was_stopped_and_saved_ends_with_130_and_says_no_more(
    stand_in: Verb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    stand_in("train")
    monkeypatch.setattr(
        sys.modules["frugalclip.verbs.train"], "train", lambda *a, **k: Result("train", is_finished=False)
    )
    assert cli.main(["train", "clip", "--out", "runs/x"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("given", "found"), [({}, "3000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")]
)
def test_waiting_threads_spin_briefly_unless_the_user_says_otherwise(
    given: dict[str, str], found: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["--version"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == found


def test_our_warnings_take_one_line_and_foreign_ones_keep_their_place(capsys: pytest.CaptureFixture[str]):
    messages.show_warning(UserWarning("--baselines has no effect"), UserWarning, cli.__file__, 3)
    messages.show_warning(UserWarning("old"), UserWarning, "/elsewhere/torch/x.py", 3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "warning: --baselines has no effect"
    assert "torch/x.py:3" in lines[1]
