"""Versions of the core packages, the pair of torch and torchvision, and the extras."""

import platform
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from typing import Any

from frugalclip.core.errors import FrugalclipError
from frugalclip.diagnosis.findings import ABSENT, BAD, Finding, one_line, version_of

CORE = (
    "torch",
    "numpy",
    "pillow",
    "safetensors",
    "pydantic",
    "pyyaml",
    "typer",
    "rich",
    "pyarrow",
    "tokenizers",
    "ftfy",
)


def examine_versions() -> Iterable[Finding]:
    """Versions of frugalclip, Python and the core packages."""
    own = version_of("frugalclip")
    if own:
        yield Finding("versions", "frugalclip", own)
    else:
        fix = "python -m pip install -e . in the checkout (without it the extras are unknown)"
        yield Finding("versions", "frugalclip", "not installed", BAD, fix)
    yield Finding("versions", "python", f"{platform.python_version()} at {sys.executable}")
    for name in CORE:
        version = version_of(name)
        if version and not version.startswith("unreadable"):
            yield Finding("versions", name, version)
        else:
            fix = f"python -m pip install --force-reinstall {name}"
            yield Finding("versions", name, version or "missing", BAD, fix)


def examine_torch(imports: dict[str, dict[str, Any]]) -> Iterable[Finding]:
    """Whether torch and torchvision import.

    Args:
        imports: from `probe.probe_imports`.
    """
    torch, vision = imports["torch"], imports["torchvision"]
    if "error" in torch:
        fix = "python -m pip install --force-reinstall torch"
        yield Finding("torch", "torch imports", one_line(torch["error"]), BAD, fix)
    else:
        yield Finding("torch", "torch imports", f"{torch['version']}, {torch['build']}")
    version = version_of("torchvision")
    if version is None:
        yield Finding("torch", "torchvision", "not installed (only [timm] needs it)", ABSENT)
    elif "error" in vision:
        fix = _torchvision_fix(version_of("torch"), version)
        yield Finding("torch", "torchvision imports", one_line(vision["error"]), BAD, fix)
    else:
        yield Finding("torch", "torchvision imports", f"{vision['version']}, matches torch")


def _torchvision_fix(torch: str | None, torchvision: str) -> str:
    """Why the pair does not import, and the line that installs the matching torchvision.

    Args:
        torch: version with its build tag, such as `2.14.1+cpu`.
        torchvision: version with its build tag.
    """
    tag, other = (torch or "").partition("+")[2], torchvision.partition("+")[2]
    pair = matching_torchvision(torch or "")
    index = f" --index-url https://download.pytorch.org/whl/{tag}" if tag else ""
    wanted = f"torchvision=={pair}" if pair else "torchvision"
    line = f"python -m pip install --force-reinstall --no-deps {wanted}{index}"
    if tag != other:
        builds = f"torch is the {tag or 'default'} build and torchvision the {other or 'default'} build"
        return f"{builds}, take both from one index: {line}"
    if pair and pair != torchvision.partition("+")[0]:
        return f"torch {torch} goes with torchvision {pair}: {line}"
    return line


def matching_torchvision(torch: str) -> str | None:
    """The torchvision released with a torch: 2.6.0 goes with 0.21.0, 2.14.1 with 0.29.1; None outside 2.x."""
    match = re.match(r"2\.(\d+)\.(\d+)", torch)
    return f"0.{int(match[1]) + 15}.{match[2]}" if match else None


def extras() -> dict[str, list[tuple[str, str | None]]]:
    """Extra -> (distribution, least version) of its packages, by the installed metadata; without `dev`.

    Raises:
        FrugalclipError: if the package is not installed.
    """
    try:
        lines = metadata.requires("frugalclip") or []
    except metadata.PackageNotFoundError as error:
        raise FrugalclipError(
            "frugalclip is not installed; run python -m pip install -e . in the checkout."
        ) from error
    result: dict[str, list[tuple[str, str | None]]] = {}
    for line in lines:
        extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", line)
        name = re.match(r"[\w.-]+", line)
        least = re.search(r">=\s*([\w.]+)", line.partition(";")[0])
        if extra and name and extra[1] != "dev":
            result.setdefault(extra[1], []).append((name[0], least[1] if least else None))
    return result


def examine_extras() -> Iterable[Finding]:
    """Which extras are complete, and which of their packages are missing or too old."""
    try:
        known = extras()
    except FrugalclipError:
        return  # the versions say so
    for extra, packages in known.items():
        have = {name: version_of(name) for name, _ in packages}
        missing = [name for name, version in have.items() if version is None]
        old = [
            f"{name} {have[name]} (needs {least})"
            for name, least in packages
            if have[name] and least and _numbers(have[name]) < _numbers(least)
        ]
        present = ", ".join(f"{name} {version}" for name, version in have.items() if version)
        fix = f"python -m pip install 'frugalclip[{extra}]'"
        if old:
            yield Finding("extras", extra, f"too old: {', '.join(old)}", BAD, fix)
        elif missing:
            value = f"missing {', '.join(missing)}" + (f"; has {present}" if present else "")
            yield Finding("extras", extra, value, ABSENT, fix)
        else:
            yield Finding("extras", extra, present)


def _numbers(version: str | None) -> tuple[int, ...]:
    """The numeric part of a version, for comparing with a least one."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", version or "")[0]))
