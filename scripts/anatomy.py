"""Print the anatomy of the package: sizes of functions and modules, long lines, import circles, double names.

    python scripts/anatomy.py [--json FILE]

Lines of code are counted without docstrings, comments and blank lines, since explaining more must not look
like growing.
"""

import argparse
import ast
import io
import json
import statistics
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[1] / "src" / "frugalclip"
LONGEST_LINE = 110
_SKIPPED = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(source: str, tree: ast.Module) -> set[int]:
    """Numbers of the lines that hold code: no docstring, no comment, not blank."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _SKIPPED:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            lines -= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return lines


def functions(tree: ast.Module) -> Iterator[Function]:
    """Every function and method of a module, nested ones included."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def imports(tree: ast.Module, known: set[str]) -> set[str]:
    """Modules of the package that a module imports when it is imported, without imports inside functions."""
    found: set[str] = set()
    nodes: list[ast.AST] = list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, Function) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            found |= names & known
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
        nodes += ast.iter_child_nodes(node)
    return found


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Sets of modules that import each other, by Tarjan's strongly connected components."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
            if target in stack:
                low[node] = min(low[node], low[target])
        if low[node] == index[node]:
            members = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(members) > 1:
                found.append(sorted(members))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def quantiles(values: list[int]) -> dict[str, int]:
    """Median, ninth decile and maximum."""
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered)),
        "p90": ordered[int(0.9 * (len(ordered) - 1))],
        "max": ordered[-1],
    }


def anatomy() -> dict[str, Any]:
    """Every number of this page."""
    paths = sorted(SOURCE.rglob("*.py"))
    sources = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts): path for path in paths}
    known = set(sources)
    function_sizes: list[int] = []
    module_sizes: dict[str, int] = {}
    graph: dict[str, set[str]] = {}
    defined: dict[str, list[str]] = defaultdict(list)
    long_lines: list[str] = []
    for name, path in sources.items():
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        lines = code_lines(source, tree)
        module_sizes[name] = len(lines)
        graph[name] = imports(tree, known) - {name}
        for node in functions(tree):
            function_sizes.append(len(lines & set(range(node.lineno, (node.end_lineno or node.lineno) + 1))))
        for node in tree.body:
            if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
                defined[node.name].append(name)
        long_lines += [
            f"{path.relative_to(SOURCE)}:{number}"
            for number, line in enumerate(source.splitlines(), 1)
            if len(line) > LONGEST_LINE
        ]
    return {
        "code_lines": sum(module_sizes.values()),
        "modules": quantiles([size for size in module_sizes.values() if size > 1])
        | {"count": len(module_sizes)},
        "functions": quantiles(function_sizes) | {"count": len(function_sizes)},
        "largest_modules": sorted(module_sizes.items(), key=lambda item: -item[1])[:5],
        "long_lines": long_lines,
        "circles": circles(graph),
        "defined_twice": {
            name: places for name, places in sorted(defined.items()) if len(places) > 1 and name != "Config"
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write everything as JSON")
    arguments = parser.parse_args()
    found = anatomy()
    print(f"code          {found['code_lines']:,} lines without docstrings and comments")
    for name in ("modules", "functions"):
        size = found[name]
        print(
            f"{name:13} {size['count']:,}: median {size['median']}, p90 {size['p90']}, "
            f"max {size['max']} lines"
        )
    print(
        "largest       "
        + ", ".join(f"{name.removeprefix('frugalclip.')} {size}" for name, size in found["largest_modules"])
    )
    print(f"long lines    {len(found['long_lines'])} of more than {LONGEST_LINE} characters")
    print(
        f"circles       {len(found['circles'])}"
        + "".join(f"\n  {' - '.join(one)}" for one in found["circles"])
    )
    print(f"defined twice {len(found['defined_twice'])}")
    for name, places in found["defined_twice"].items():
        print(f"  {name}: {', '.join(place.removeprefix('frugalclip.') for place in places)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
