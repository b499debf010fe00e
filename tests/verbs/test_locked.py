"""Every command that writes refuses a place that another command writes into, before it does anything."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frugalclip import verbs
from frugalclip.core.errors import InUseError
from frugalclip.core.locks import writing, writing_file
from frugalclip.core.records import RunDirectory
from frugalclip.verbs import ledger, search_change
from frugalclip.verbs.adapt_interpolate import adapt_interpolate, adapt_soup
from frugalclip.verbs.advise import advise
from frugalclip.verbs.compare import compare
from frugalclip.verbs.compress import compress
from frugalclip.verbs.curate import curate
from frugalclip.verbs.data_compose import compose
from frugalclip.verbs.data_convert import convert
from frugalclip.verbs.data_divide import divide
from frugalclip.verbs.data_manifest import manifest
from frugalclip.verbs.data_verify import verify
from frugalclip.verbs.demo import demo
from frugalclip.verbs.embed import embed
from frugalclip.verbs.evaluate import evaluate
from frugalclip.verbs.export import export
from frugalclip.verbs.finetune import finetune
from frugalclip.verbs.import_model import import_model
from frugalclip.verbs.search_build import search_build
from frugalclip.verbs.train import train

FOLDERS: dict[str, Callable[[Path], Any]] = {
    "advise": lambda out: advise("sample", hours=1, out=out),
    "train": lambda out: train("clip", ["data=sample"], out=out),
    "train --resume": lambda out: train("clip", ["data=sample"], out=out, resume=True),
    "compare": lambda out: compare(["clip", "slip"], out=out),
    "compress": lambda out: compress("nothing", out=out),
    "curate": lambda out: curate("sample", plan="dedup", out=out),
    "ledger undo": lambda out: ledger.undo(out, "rules"),
    "demo": lambda out: demo(out),
    "embed": lambda out: embed("nothing", "sample", out=out),
    "export": lambda out: export("nothing", to="onnx", out=out),
    "finetune": lambda out: finetune("nothing", guard="sample", out=out, optimizer__lr=1e-4),
    "adapt interpolate": lambda out: adapt_interpolate("a", "b", out=out, alpha=0.5),
    "adapt soup": lambda out: adapt_soup(["a", "b"], out=out),
    "import": lambda out: import_model("open_clip:ViT-B-32@nothing", out=out),
    "search build": lambda out: search_build("nothing", "sample", out=out),
    "search add": lambda out: search_change.search_add(out, "sample"),
    "search remove": lambda out: search_change.search_remove(out, ["a"]),
    "convert": lambda out: convert("sample", to="tar", out=out),
    "compose": lambda out: compose("sample", out=out),
}
FILES: dict[str, Callable[[Path], Any]] = {
    "divide": lambda out: divide("sample", out=out, replace=True),
    "manifest": lambda out: manifest("sample", out=out),
    "verify": lambda out: verify("sample", out=out),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_in_use_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(search_change, "has_index", lambda _: True)  # what is changed is there
    with writing(tmp_path), pytest.raises(InUseError, match="is in use"):
        FOLDERS[name](tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FILES)
def test_a_file_in_use_is_refused(name: str, tmp_path: Path):
    locked = tmp_path / ("x.ledger.parquet" if name == "verify" else "x.parquet")
    with writing_file(locked), pytest.raises(InUseError, match="is in use"):
        FILES[name](tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_that_a_run_records_is_refused_while_the_run_trains(tmp_path: Path):
    RunDirectory(tmp_path).recipe.touch()
    with writing(tmp_path), pytest.raises(InUseError, match="is in use"):
        evaluate(tmp_path, data="sample", task="grouping")


def test_every_verb_that_takes_a_folder_to_write_is_tried_here():
    package = Path(verbs.__file__).parent
    writers = {path.stem for path in package.glob("*.py") if "out: str | Path" in path.read_text()}
    assert writers == {
        "train", "compare", "compress", "curate", "demo", "embed", "import_model",
        "data_convert", "data_compose", "data_divide", "data_manifest", "data_verify", "export",
        "search_build", "finetune", "adapt_interpolate", "audit_tail", "advise",
    }  # fmt: skip
