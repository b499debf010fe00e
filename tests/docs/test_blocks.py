"""What README and the task pages tell users to type works, in the order of the pages.

A page runs in a folder of its own with `my/`, `my_test/`, `pairs.csv` and `runs/first`, a model that was
trained on `my/`. Runs are cut short: `train` takes three steps of 16, `compare` 48 samples. Blocks marked
`slow` or `e2e` are run by `make test-slow` and `make test-e2e`.
"""

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from frugalclip.cli import main
from frugalclip.comparison.protocol import ProtocolConfig
from frugalclip.core.yaml_text import parse_yaml
from frugalclip.curation.plan import read_plan
from frugalclip.training.recipe import load_recipe

from .docs_pages import ROOT, TASKS, Block, blocks

sys.path.insert(0, str(ROOT / "examples"))
from shapes import draw_folder

SHORT = ["steps=3", "batch=16", "threads=1"]
PAGES = ["README.md", *(f"docs/{name}" for name in TASKS)]
DONE = (0, 3)  # 3: bad data was found, which `data verify` says on purpose


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and a model as the pages expect them."""
    folder = tmp_path_factory.mktemp("pages")
    paths = draw_folder(folder / "my", 64, seed=1)
    draw_folder(folder / "my_test", 24, seed=2)
    rows = [f"my/{path.name},{path.with_suffix('.txt').read_text()},train" for path in paths]
    (folder / "pairs.csv").write_text("photo,words,split\n" + "\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("\n".join(sorted({row.split(",")[1] for row in rows})) + "\n")
    arguments = ["clip-small", f"data={folder / 'my'}", *SHORT, "--out", str(folder / "runs" / "first")]
    assert main(["train", *arguments]) == 0
    return folder


@pytest.fixture
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of the prepared folder, as the current one."""
    folder = tmp_path / "here"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    return folder


def cases(page: str, *marks: str) -> Iterator[Block]:
    """The blocks of a page that are run under these marks; files that blocks write are there for all."""
    for block in blocks(ROOT / page):
        if block.language == "yaml" or block.mark in marks:
            yield block


def run(block: Block) -> None:
    """Do what a block says."""
    if block.language == "yaml":
        write_yaml(block.text)
    elif block.language == "python":
        exec(compile(block.text, "page", "exec"), {"__name__": "page"})  # noqa: S102  (our own page)
    elif block.language == "sh":
        for line in block.text.splitlines():
            run_line(line.partition("  #")[0].strip())


def write_yaml(text: str) -> None:
    """Check a recipe or a protocol, and write it to the file that its first line names."""
    name = text.splitlines()[0].removeprefix("#").strip()
    Path(name).write_text(text, encoding="utf-8")
    if name == "protocol.yaml":
        ProtocolConfig.model_validate(parse_yaml(text, where=name))
    elif name.endswith("-plan.yaml"):
        read_plan(name)
    elif name != "backbone.yaml":  # names weights that are not here
        load_recipe(name)


def run_line(line: str) -> None:
    """One command, in this process; runs are cut short and a finished folder is not trained in again."""
    for command in line.split("&&"):
        words = shlex.split(command)
        if not words or words[0] in ("make", "git", "cd"):
            continue
        assert words[0] == "frugalclip", (
            f"{command} is not run by a test; mark its block with skip and the reason"
        )
        if words[1] in ("train", "finetune", "compress"):
            end = words.index("--out")
            words[end:end] = [*SHORT, *(["guard.points=2"] if words[1] == "finetune" else [])]
            if "--resume" not in words:
                shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
        if words[1] == "compare":
            words[words.index("--samples") + 1] = "48"
            words.insert(words.index("--out"), "batch=16")
        assert main(words[1:]) in DONE, command


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_a_page_run(page: str, place: Path):
    for block in cases(page, ""):
        run(block)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.mark == "slow" for b in blocks(ROOT / page))]
)
def test_slow_blocks_of_a_page_run(page: str, place: Path):
    for block in cases(page, "", "slow"):  # slow ones go on with what the others made
        run(block)


@pytest.mark.e2e
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.mark == "e2e" for b in blocks(ROOT / page))]
)
def test_blocks_with_pretrained_parts_run(page: str, place: Path):
    for block in cases(page, "e2e"):
        run(block)


def test_every_block_is_run_or_says_why_not():
    for page in PAGES:
        for block in blocks(ROOT / page):
            assert block.language in ("sh", "python", "yaml", "text"), f"{page}: a block without a language"
            assert block.mark in ("", "slow", "e2e", "skip"), page
