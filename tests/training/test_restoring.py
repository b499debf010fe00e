"""A checkpoint that was damaged, or that belongs to another run, is refused before a byte of it is used."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from frugalclip.core.checksums import write_checksums
from frugalclip.core.disk import DiskFullError
from frugalclip.core.errors import ModelError
from frugalclip.core.records import RunDirectory
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.models import load
from frugalclip.training.loop import Silent

from .test_loop import assert_same_run, go

OVERRIDES = ("steps=4", "evaluation.points=2", "objectives.simsiam=1", "views.second={}")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, squares: Path, small_recipe: dict[str, Any]) -> Path:
    """Two of four steps."""

    class Stopped(Silent):
        def row(self, row: dict[str, Any]) -> None:
            if row["step"] == 3:
                raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("begun")
    recipe = folder / "small.yaml"
    recipe.write_text(dump_yaml(small_recipe | {"data": {"path": str(squares)}}))
    with pytest.raises(KeyboardInterrupt):
        go(str(recipe), folder / "run", *OVERRIDES, listener=Stopped())
    return folder / "run"


@pytest.fixture
def run(begun: Path, tmp_path: Path) -> RunDirectory:
    """A copy of it."""
    return RunDirectory(shutil.copytree(begun, tmp_path / "run"))


def resume(recipe_file: Callable[..., str], run: RunDirectory) -> RunDirectory:
    return go(recipe_file(), run.path, *OVERRIDES, resume=True)


def checkpoint(run: RunDirectory) -> Path:
    last = run.last_checkpoint()
    assert last is not None and last.name == "step-2"
    return last


def rewrite(file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change tensors, with the checksum that fits, as if they had been written so."""
    tensors = load_file(file)
    change(tensors)
    file.write_bytes(save(tensors))
    write_checksums(file.parent, [file.name])


def test_no_flipped_or_missing_byte_is_resumed(recipe_file: Callable[..., str], run: RunDirectory):
    folder = checkpoint(run)
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 2):
            flipped = bytearray(whole)
            flipped[place] ^= 0x10
            for content in (flipped, whole[:place]):
                file.write_bytes(content)
                with pytest.raises(ModelError, match=r"step-2"):
                    resume(recipe_file, run)
        file.unlink()
        with pytest.raises(ModelError, match=r"step-2"):
            resume(recipe_file, run)
        file.write_bytes(whole)
    resume(recipe_file, run)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "tokenizer.json", "checksums.json"])
def test_no_damaged_model_is_loaded(run: RunDirectory, name: str):
    file = checkpoint(run) / name
    whole = file.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 9)):
        flipped = bytearray(whole)
        flipped[place] ^= 0x10
        file.write_bytes(flipped)
        with pytest.raises(ModelError):
            load(run.path)
    file.unlink()
    with pytest.raises(ModelError):
        load(run.path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("optimizer", lambda t, k: t.update({k: t[k].flatten()[:1].clone()}), "has the shape .*, expected"),
        ("optimizer", lambda t, k: t.update({k: torch.cat([t[k], t[k]])}), "has the shape .*, expected"),
        ("optimizer", lambda t, k: t.update({k: t[k].double()}), "has the type torch.float64, expected"),
        ("optimizer", lambda t, k: t.update({k: t[k].int()}), "has the type torch.int32, expected"),
        ("optimizer", lambda t, k: t.pop(k), "lacks '.*exp_avg"),
        (
            "optimizer",
            lambda t, k: t.update({"nothing/exp_avg": t[k].clone()}),
            "moments of 'nothing', which is not",
        ),
        ("optimizer", lambda t, k: t[k].fill_(float("nan")), "weights that are not finite"),
        ("optimizer", lambda t, k: t[k].fill_(-1), "moments of '.*' are those of no update"),
        ("model", lambda t, k: t.update({k: t[k].half()}), "has the type torch.float16, expected"),
        ("model", lambda t, k: t[k].fill_(float("inf")), "weights that are not finite"),
        ("objectives", lambda t, k: t.pop(k), "lacks"),
        ("objectives", lambda t, k: t.update({k: t[k][..., :1].clone()}), "has the shape"),
        ("objectives", lambda t, k: t.update(more=t[k].clone()), "has 'more', which this run does not have"),
        ("random", lambda t, k: t.pop(k), "lacks 'cpu'"),
        ("random", lambda t, k: t.update({k: t[k][:-1].clone()}), "has the shape"),
        ("random", lambda t, k: t.update({k: t[k].float()}), "has the type"),
    ],
)
def test_tensors_of_another_run_are_refused_before_they_are_used(
    recipe_file: Callable[..., str],
    run: RunDirectory,
    file: str,
    change: Callable[[dict[str, Tensor], str], object],
    message: str,
):
    path = checkpoint(run) / f"{file}.safetensors"
    keys = sorted(key for key, tensor in load_file(path).items() if tensor.ndim)
    key = next(key for key in keys if file != "optimizer" or key.endswith("exp_avg_sq"))
    rewrite(path, lambda tensors: change(tensors, key))
    with pytest.raises(ModelError, match=f"{file}.safetensors.*{message}"):
        resume(recipe_file, run)


@pytest.mark.parametrize(
    "content",
    [
        *([], None, 5, "step", {"format": 1}, {"format": 3}, {"step": "2"}, {"step": 3}, {"step": 5}),
        *({"stage": 2}, {"stage": 0}, {"advice_given": [1]}, {"more": 1}, {"seconds": "0"}, {"data": None}),
    ],
    ids=str,
)
def test_counters_of_another_form_are_a_sentence(
    recipe_file: Callable[..., str], run: RunDirectory, content: Any
):
    path = checkpoint(run) / "state.json"
    is_change = isinstance(content, dict) and "format" not in content
    changed = json.loads(path.read_text()) | content if is_change else content
    path.write_text(json.dumps(changed))
    write_checksums(path.parent, [path.name])
    with pytest.raises(ModelError, match=r"step-2"):
        resume(recipe_file, run)


def test_rows_that_are_missing_are_said_and_rows_that_are_none_refused(
    recipe_file: Callable[..., str], run: RunDirectory, tmp_path: Path
):
    class Notes(Silent):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    shutil.copytree(run.path, tmp_path / "other")
    whole = run.metrics.read_bytes()
    for bad in (b"5", b"[]", b"\xff\xfe", b"{", b'{"step": "1"}', b'{"step": 1}', b"9" * 6000, b"[" * 10**5):
        run.metrics.write_bytes(whole.splitlines(keepends=True)[0] + bad + b"\n" + whole)
        with pytest.raises(ModelError, match=r"metrics.jsonl line 2 .*delete the line"):
            resume(recipe_file, run)
    run.metrics.write_bytes(whole.splitlines(keepends=True)[0] + b'{"step": 2, "lo')
    notes = Notes()
    go(recipe_file(), run.path, *OVERRIDES, resume=True, listener=notes)
    said = "rows of 1 of the 2 steps so far (the first without one is step 2)"
    assert any(said in note for note in notes.notes)
    other = RunDirectory(tmp_path / "other")
    other.metrics.write_bytes(whole + b'{"step": 4, "lo')  # a crash cut the last line, and nothing is lost
    notes = Notes()
    go(recipe_file(), other.path, *OVERRIDES, resume=True, listener=notes)
    assert not any("rows of" in note for note in notes.notes)
    run.metrics.write_bytes(other.metrics.read_bytes())
    assert_same_run(run, other)


def test_a_full_disk_names_the_last_checkpoint(
    recipe_file: Callable[..., str], run: RunDirectory, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("frugalclip.training.checkpoint.save", full)
        with pytest.raises(DiskFullError, match=r"checkpoint is .*step-2\. .*--resume"):
            resume(recipe_file, run)
    assert run.steps_saved() == [2] and not list(run.checkpoints.glob(".*"))
    assert resume(recipe_file, run).steps_saved() == [2, 4]
