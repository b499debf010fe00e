"""Public functions say what they take and give: a docstring each, and the shape of every tensor."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "frugalclip"
WORD = r"(?:\.\.\.|\*?[\w@.]+(?:\s*[-+*/|]\s*[\w@.]+)*|\d+)"
SHAPE = re.compile(
    rf"\(\s*\)|\(\s*{WORD}\s*,\s*(?:{WORD}\s*,\s*)*(?:{WORD}\s*)?\)"
)  # () (batch,) (batch, dim) (..., 2 * width)
ENTRY = re.compile(
    r"\s*(?:\(|likewise\b|as\b)"
)  # how the line of an argument begins: with its shape, or with whose shape it shares


@dataclass(frozen=True)
class Public:
    """One public function or method."""

    name: str
    node: ast.FunctionDef
    is_method: bool

    @property
    def docstring(self) -> str:
        return ast.get_docstring(self.node) or ""

    def tensors(self) -> list[str]:
        """Names of the parameters that are tensors."""
        arguments = self.node.args
        return [
            one.arg
            for one in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            if _is_tensor(one.annotation)
        ]

    def returns_tensor(self) -> bool:
        return _is_tensor(self.node.returns)


def _is_tensor(annotation: ast.expr | None) -> bool:
    """Whether a type is or holds tensors by place; a mapping holds them by name, so no one shape fits all."""
    text = ast.unparse(annotation) if annotation else ""
    return bool(re.search(r"\bTensor\b", text)) and not re.search(r"\b(?:dict|Mapping)\b", text)


def public_functions(source: str) -> list[Public]:
    """Public functions and methods of a file, of the dunder methods only `__call__`.

    Nested functions and private classes are left out.
    """
    return list(_public(ast.parse(source), prefix=""))


def _public(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[Public]:
    for child in node.body:
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from _public(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef) and (
            not child.name.startswith("_") or child.name == "__call__"
        ):
            if any(ast.unparse(one) == "overload" for one in child.decorator_list):
                continue  # the function itself says it, for all of them
            yield Public(prefix + child.name, child, isinstance(node, ast.ClassDef))


def faults_of(function: Public) -> list[str]:
    """What the docstring leaves unsaid."""
    text, tensors = function.docstring, function.tensors()
    if not text:
        must = not function.is_method or tensors or function.returns_tensor()
        return ["has no docstring"] if must else []  # a method may inherit its contract
    if not (tensors or function.returns_tensor()):
        return []
    if not SHAPE.search(text):
        return ["names no shape such as (batch, dim) for its tensors"]
    entries = _section(text, "Args")
    unsaid = [
        name
        for name in tensors
        if name in entries and not (ENTRY.match(entries[name]) or SHAPE.search(entries[name]))
    ]
    return [f"argument {name} has no shape" for name in unsaid]


def _section(text: str, title: str) -> dict[str, str]:
    """Entries of one section of a docstring: name -> text."""
    match = re.search(rf"^{title}:\n((?:[ ]+.*\n?|\n)*)", text, re.M)
    entries = re.findall(r"^ {4}(\w+):(.*(?:\n {5,}.*)*)", match[1], re.M) if match else []
    return dict(entries)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_public_functions_say_what_they_take(path: Path):
    found = public_functions(path.read_text(encoding="utf-8"))
    faults = [
        f"{path.relative_to(SOURCE.parents[1])}:{one.node.lineno}: {one.name} {fault}"
        for one in found
        for fault in faults_of(one)
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "text",
    [
        "()",
        "(batch,)",
        "(batch, dim)",
        "(batch, 3, height, width)",
        "(..., 2 * width)",
        "(kept + 1, dim)",
        "(n,) int64",
    ],
)
def test_these_are_shapes(text: str):
    assert SHAPE.search(text)


@pytest.mark.parametrize(
    "text", ["(paper: 2)", "(batch)", "(see, for example, the card)", "shape of x", "f(x)"]
)
def test_these_are_not(text: str):
    assert not SHAPE.search(text)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def f(x: Tensor) -> Tensor: ...", "has no docstring"),
        ("def f(x: Tensor) -> Tensor:\n    '''Twice x.'''", "names no shape"),
        (
            "def f(x: Tensor):\n    '''Gives ().\n\n    Args:\n        x: by name.\n    '''",
            "argument x has no shape",
        ),
        ("class A:\n    def forward(self, x: Tensor): ...", "has no docstring"),
    ],
)
def test_what_is_unsaid_is_found(source: str, fault: str):
    (function,) = public_functions(source)
    assert fault in faults_of(function)[0]


@pytest.mark.parametrize(
    "source",
    [
        "def f(x: Tensor) -> Tensor:\n    '''(batch,) twice x.'''",
        "def f(x: Tensor) -> int:\n    '''One.\n\n"
        "    Args:\n        x: long,\n            (batch, dim) rows.\n    '''",
        "def f(x: Tensor) -> int:\n    '''One.\n\n"
        "    Args:\n        x: (batch, height of the picture).\n\n    Returns:\n        () it.\n    '''",
        "def f(x: dict[str, Tensor]) -> int:\n    '''By name.'''",
        "class A:\n    def needs(self) -> Needs: ...",
        "class _A:\n    def f(self, x: Tensor): ...",
        "def _f(x: Tensor): ...",
    ],
)
def test_what_is_said_or_private_is_left_alone(source: str):
    assert [fault for function in public_functions(source) for fault in faults_of(function)] == []
