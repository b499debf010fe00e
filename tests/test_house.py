"""The house as a whole: imports stay light, versions agree, pins cover the extras, the wheel is complete."""

import ast
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import frugalclip

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "frugalclip"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LONGEST = 500  # lines of a module; more is a conversation
NOT_PINNED = {"ray", "trackio", "wandb"}
HEAVY = {"torch", "numpy", "pandas", "pyarrow", "PIL", "yaml", "tokenizers", "torchvision", "transformers"}


def loaded_by(*arguments: str) -> set[str]:
    """Heavy modules that a fresh Python has loaded after the command line with arguments, or an import."""
    code = (
        "import sys, json, io, contextlib, frugalclip\n"
        "if sys.argv[1:]:\n"
        "    from frugalclip.cli import main\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        assert main(sys.argv[1:]) == 0\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return HEAVY & set(json.loads(done.stdout))


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_no_two_public_classes_have_one_name():
    """`Config` apart: every objective, head and change has one."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for name in re.findall(r"^class ([A-Z]\w*)", path.read_text(encoding="utf-8"), re.MULTILINE):
            found.setdefault(name, []).append(str(path.relative_to(SOURCE)))
    assert {name: places for name, places in found.items() if len(places) > 1 and name != "Config"} == {}


def identifiers(path: Path) -> set[str]:
    """Names that a module gives to something, and its own; those of other libraries are theirs."""
    found = {path.stem}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
    return found


def test_identifiers_are_words_of_the_field():
    unusual = re.compile(
        r"(?:^|_)(?:trunks?|lend|lent|borrow(?:ed)?|said|asked|pictures?|floors|figures?)(?:_|$)"
        r"|Said|Asked|Trunk|Picture|Borrowed|Floors|Figure"
    )
    found = {
        f"{path.relative_to(SOURCE)}: {name}"
        for path in SOURCE.rglob("*.py")
        for name in identifiers(path)
        if unusual.search(name)
    }
    assert not found


def test_no_file_names_a_folder_of_one_machine():
    folder = re.compile(r"""(?:^|[\s"'=:(,])/(?:home|work|root|Users|mnt|tmp/tmp)[/\w]*/""", re.MULTILINE)
    places = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "results").rglob("*.json")]
    found = {str(path.relative_to(ROOT)): folder.findall(path.read_text("utf-8")) for path in places}
    assert {path: places for path, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "arguments",
    [(), ("--help",), ("--version",), ("train", "--help"), ("data", "--help"), ("data", "check", "--help")],
)
def test_help_and_a_bare_import_load_nothing_heavy(arguments: tuple[str, ...]):
    assert loaded_by(*arguments) == set()


def test_the_public_names_are_there_and_a_misspelt_one_is_not():
    assert set(dir(frugalclip)) >= {
        "demo",
        "doctor",
        "embed",
        "evaluate",
        "load",
        "plan",
        "train",
        "__version__",
    }
    for name in frugalclip.__all__:
        assert getattr(frugalclip, name) is not None
    assert frugalclip.train.__module__ == "frugalclip.verbs.train"
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = frugalclip.trian


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_is_short_enough_to_read(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_the_version_is_the_same_everywhere():
    assert metadata.version("frugalclip") == frugalclip.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == frugalclip.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest
    assert newest[1] in ("Unreleased", frugalclip.__version__)


def test_pins_cover_the_dependencies_and_extras_at_their_least_versions():
    pinned = {canonicalize_name(name): version for name, version in pins("requirements-dev.txt").items()}
    lines = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        assert (name in pinned) == (name not in NOT_PINNED), name
        assert name in NOT_PINNED or requirement.specifier.contains(pinned[name]), (
            f"{requirement} against {pinned[name]}"
        )


def test_torch_and_torchvision_are_a_pair_and_gpu_packages_are_left_to_torch():
    from frugalclip.diagnosis.packages import matching_torchvision

    pinned = pins("requirements-dev.txt")
    assert matching_torchvision(pinned["torch"]) == pinned["torchvision"]
    assert not [name for name in pinned if name.startswith(("nvidia", "cuda", "triton"))]


def test_frozen_parts_are_those_that_doctor_lists():
    from frugalclip.diagnosis.models import PRETRAINED

    assert set(pins("requirements-frozen.txt")) == set(PRETRAINED)


def test_every_target_of_the_contract_is_in_the_makefile():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert targets >= {"demo", "test", "test-slow", "test-e2e", "bench", "frozen", "lint"}


def test_hooks_are_local():
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [one["repo"] for one in repositories] == ["local"]
    entries = " ".join(hook["entry"] for hook in repositories[0]["hooks"])
    assert all(tool in entries for tool in ("ruff check", "ruff format", "pyright"))


@pytest.mark.slow
def test_the_wheel_holds_everything_and_runs_from_there(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    shipped = {path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {str(path.relative_to(SOURCE.parent)) for path in shipped} <= names
    assert "frugalclip/py.typed" in names
    assert any(name.startswith("frugalclip/recipes/") for name in names)
    assert any(name.startswith("frugalclip/sample/") for name in names)
    assert wheel.stat().st_size < 25e6
    code = (
        "import sys, frugalclip; from frugalclip.cli import main; "
        "print(frugalclip.__file__); sys.exit(main(['plan', 'clip']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout
