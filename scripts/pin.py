"""Write requirements-dev.txt from what is installed.

Run it after trying new versions, and commit the result with the reason:

    .venv/bin/python scripts/pin.py

Roots are the core dependencies and every extra of pyproject.toml, without those in LEFT_OUT. GPU packages are
left to torch, because another platform's torch brings other ones.
"""

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = {"ray", "trackio", "wandb"}  # large, and nothing here is tested with them
GPU_ONLY = ("nvidia-", "cuda-", "triton")
HEADER = """\
# What `make` installs: one exact version each, written by scripts/pin.py.
# torch and torchvision are a matching pair. Every extra of pyproject.toml is here,
# except ray and the cloud loggers.
# The GPU packages below torch are left to torch itself.
"""


def roots() -> list[Requirement]:
    """Requirements of the package and its extras, as pyproject.toml has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    return [
        requirement
        for requirement in map(Requirement, lines)
        if canonicalize_name(requirement.name) not in LEFT_OUT
    ]


def needed_by(requirement: Requirement) -> Iterator[Requirement]:
    """Requirements of an installed package that hold on this machine."""
    extras = list(requirement.extras) or [""]
    for inner in map(Requirement, distribution(requirement.name).requires or []):
        if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
            yield inner


def closure(start: list[Requirement]) -> set[str]:
    """Names of everything the requirements need, themselves included."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = list(start)
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key not in seen and not key[0].startswith(GPU_ONLY) and key[0] != "setuptools":
            seen.add(key)
            todo.extend(needed_by(requirement))
    return {name for name, _ in seen}


def main() -> None:
    """Write the file."""
    direct = {canonicalize_name(requirement.name) for requirement in roots()}
    brought = closure(roots()) - direct
    lines = [
        HEADER,
        "# named in pyproject.toml",
        *pins(direct),
        "",
        "# brought in by these",
        *pins(brought),
        "",
    ]
    (ROOT / "requirements-dev.txt").write_text("\n".join(lines))


def pins(names: Iterable[str]) -> list[str]:
    """`name==version` lines, sorted; a local version tag such as +cpu is dropped, as on the index."""
    return [f"{name}=={distribution(name).version.split('+')[0]}" for name in sorted(names)]


if __name__ == "__main__":
    main()
