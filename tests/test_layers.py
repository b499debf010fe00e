"""The floors of the house (DESIGN.md, 'The house'), as data, and that every import goes down.

A file imports from lower floors and from its own package; packages of one floor do not know each other.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "frugalclip"
FLOORS = [
    {"functional", "core"},
    {"towers", "data"},
    {"sources", "synthetic", "features"},
    {"loading", "language_model"},
    {"interop"},
    {"backbones"},
    {"models"},
    {"objectives", "evaluation", "compression", "serving", "teachers"},
    {"training"},
    {"comparison", "report", "auditing", "adaptation", "advising", "diagnosis"},
    {"curation", "exporting"},
    {"verbs"},
    {"cli", "__init__", "__main__"},
]
FLOOR = {unit: baseline for baseline, units in enumerate(FLOORS) for unit in units}
EXCEPTIONS = {
    ("cli", "__init__"),  # the version
    ("__main__", "cli"),  # the program behind python -m
}
CORE_DEPENDENCIES = {
    "torch",
    "numpy",
    "PIL",
    "safetensors",
    "pydantic",
    "yaml",
    "typer",
    "rich",
    "pyarrow",
    "tokenizers",
    "ftfy",
}
NEVER_IN_CORE = {
    "torchvision",
    "timm",
    "open_clip",
    "sklearn",
    "transformers",
    "matplotlib",
}  # not even inside a function
CORE_UNITS = {"functional", "core", "towers", "objectives", "training", "evaluation"}
ONLY_BASE = "frugalclip.objectives.base"  # what objectives know of each other


@dataclass(frozen=True)
class Import:
    """One imported module at one place."""

    module: str
    line: int
    is_lazy: bool  # inside a function, so that importing the file does not import the module
    is_for_types: bool  # under `if TYPE_CHECKING:`


def imports_of(source: str, *, package: str) -> list[Import]:
    """Every import of a file, `import_module("literal")` included.

    Args:
        source: text of the file.
        package: dotted name of the package the file is in, for relative imports.
    """
    return list(_imports(ast.parse(source), package, lazy=False, types=False))


def _imports(node: ast.AST, package: str, *, lazy: bool, types: bool) -> Iterator[Import]:
    for module in _named(node, package):
        yield Import(module, node.lineno, lazy, types)  # pyright: ignore[reportAttributeAccessIssue]
    lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    if isinstance(node, ast.If) and ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING":
        for child in node.body:
            yield from _imports(child, package, lazy=lazy, types=True)
        for child in node.orelse:
            yield from _imports(child, package, lazy=lazy, types=types)
        return
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, package, lazy=lazy, types=types)


def _named(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        parents = package.split(".")
        start = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
        base = ".".join(part for part in (start, node.module) if part)
        # `from frugalclip import core` names a unit, `from frugalclip.core import types` a module,
        # `from x import y` at least x
        return [f"{base}.{alias.name}" if base.startswith("frugalclip") else base for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
        "import_module",
        "__import__",
        "require",
    ):
        return [
            argument.value
            for argument in node.args[:1]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        ]
    return []


def unit_of(module: str) -> str:
    """The unit of the table that holds a dotted name of ours; `__init__` for names of the package itself."""
    parts = module.split(".")
    if len(parts) > 1 and (
        parts[1] in FLOOR or (SOURCE / parts[1]).is_dir() or (SOURCE / f"{parts[1]}.py").is_file()
    ):
        return parts[1]
    return "__init__"


def faults_of(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What is wrong with the imports of one file, as `line: sentence`.

    Args:
        source: text of the file.
        module: its dotted name, such as `frugalclip.objectives.contrastive`.
        is_package: whether the file is an `__init__.py`.
    """
    unit = unit_of(module)
    if unit not in FLOOR:
        return [f"1: {unit} stands on no floor; add it to FLOORS here and in DESIGN.md"]
    package = module if is_package else module.rpartition(".")[0]
    found = [_fault(unit, module, one) for one in imports_of(source, package=package)]
    return [fault for fault in found if fault]


def _fault(unit: str, module: str, one: Import) -> str | None:
    top = one.module.split(".")[0]
    if top == "frugalclip":
        return _inner_fault(unit, module, one)
    if top in NEVER_IN_CORE and unit in CORE_UNITS and not one.is_for_types:
        return f"{one.line}: {unit} never imports {top}, not even inside a function"
    if (
        top not in CORE_DEPENDENCIES
        and top not in sys.stdlib_module_names
        and not (one.is_lazy or one.is_for_types)
    ):
        return (
            f"{one.line}: {top} is no core dependency; import it inside a function, with core.errors.require"
        )
    return None


def _inner_fault(unit: str, module: str, one: Import) -> str | None:
    target = unit_of(one.module)
    if target not in FLOOR:
        return f"{one.line}: {target} stands on no floor"
    if unit == target:
        known = (
            one.module == ONLY_BASE
            or one.module.startswith(ONLY_BASE + ".")
            or one.module.startswith(module + ".")
        )
        objective = unit == "objectives" and not module.endswith((".base", "frugalclip.objectives"))
        return (
            f"{one.line}: objectives know base and never each other, but this imports {one.module}"
            if objective and not known
            else None
        )
    if (unit, target) in EXCEPTIONS or FLOOR[target] < FLOOR[unit]:
        return None
    place = "the same floor" if FLOOR[target] == FLOOR[unit] else f"floor {FLOOR[target]}"
    return f"{one.line}: {unit} (floor {FLOOR[unit]}) imports {one.module}, which is on {place}"


def module_of(path: Path) -> str:
    """Dotted name of a file below src."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down(path: Path):
    faults = faults_of(
        path.read_text(encoding="utf-8"), module_of(path), is_package=path.name == "__init__.py"
    )
    assert not faults, "\n".join(f"{path.relative_to(SOURCE.parents[1])}:{fault}" for fault in faults)


def test_no_package_bears_the_name_of_a_verb():
    verbs = {path.stem for path in (SOURCE / "verbs").glob("[a-z]*.py")}
    units = {
        path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    # `frugalclip.data` is a package and its verb a group of functions that are not part of the public ones
    assert verbs & units <= {"data"}


@pytest.mark.parametrize(
    ("unit", "source", "sentence"),
    [
        (
            "towers.vit",
            "from frugalclip.training.step import Step",
            "1: towers (floor {towers}) imports frugalclip.training.step.Step, which is on floor {training}",
        ),
        (
            "data.loader",
            "import os\nfrom frugalclip import towers",
            "2: data (floor {data}) imports frugalclip.towers, which is on the same floor",
        ),
        (
            "core.types",
            "def f():\n    from frugalclip.verbs import train",
            "2: core (floor {core}) imports frugalclip.verbs.train, which is on floor {verbs}",
        ),
        (
            "core.types",
            "from ..cli import main",
            "1: core (floor {core}) imports frugalclip.cli.main, which is on floor {cli}",
        ),
        (
            "core.types",
            "importlib.import_module('frugalclip.models')",
            "1: core (floor {core}) imports frugalclip.models, which is on floor {models}",
        ),
        (
            "models",
            "if TYPE_CHECKING:\n    from frugalclip.objectives import base",
            "2: models (floor {models}) imports frugalclip.objectives.base",
        ),
        (
            "objectives.sigmoid",
            "from frugalclip.objectives.contrastive import Config",
            "1: objectives know base and never each other",
        ),
        ("serving.http", "import fastapi", "1: fastapi is no core dependency"),
        (
            "serving.http",
            "try:\n    import fastapi\nexcept ImportError:\n    fastapi = None",
            "2: fastapi is no core dependency",
        ),
        ("towers.vit", "def f():\n    import timm", "2: towers never imports timm"),
    ],
)
def test_an_offending_import_is_named_with_its_line(unit: str, source: str, sentence: str):
    (fault,) = faults_of(source, f"frugalclip.{unit}")
    assert fault.startswith(sentence.format_map(FLOOR))


def test_a_new_folder_must_be_given_a_floor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "surprises").mkdir()
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    assert "surprises stands on no floor" in faults_of("import os", "frugalclip.surprises.one")[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "frugalclip.objectives.contrastive",
            "from frugalclip.objectives.base import Objective\n"
            "from frugalclip.functional import x\nimport torch",
        ),
        ("frugalclip.models", "def f():\n    import open_clip"),
        ("frugalclip.serving.http", "if TYPE_CHECKING:\n    import fastapi"),
        (
            "frugalclip.cli",
            "from frugalclip import __version__\nfrom frugalclip.core.errors import known_names",
        ),
        ("frugalclip.data.tokens", "from .manifest import Manifest\nfrom ..core import types"),
    ],
)
def test_a_downward_import_is_fine(module: str, source: str):
    assert faults_of(source, module) == []
