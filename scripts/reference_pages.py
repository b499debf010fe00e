"""Write the reference pages of the documentation from the code: settings, commands, Python functions.

    .venv/bin/python scripts/reference_pages.py [FOLDER]

`make docs` runs this before the site is built. The pages are not in the repository: the code is their source.
"""

import inspect
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import frugalclip
from frugalclip.cli import app
from frugalclip.core.reference import REQUIRED, SECTION, Section, sections
from frugalclip.data.manifest import Manifest
from frugalclip.models.model import Model
from frugalclip.objectives import base
from frugalclip.objectives.base import find_objective, known_objectives
from frugalclip.training.recipe import Recipe

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
OBJECTIVE_PATH = "objectives.NAME"
EXTENSION = (base.Objective, base.ObjectiveConfig, base.Needs, base.Features, base.ObjectiveOutput)


def settings_page() -> str:
    """Every key of a recipe."""
    lines = [
        "# Recipe settings",
        "",
        "Every key that a recipe may hold, read from the classes that check it. `NAME` stands for a name of",
        "your own. `frugalclip recipes show RECIPE` prints the values of one recipe in the same words.",
        "",
    ]
    found = [one for one in sections(Recipe) if one.path != OBJECTIVE_PATH]
    for section in _distinct(found):
        lines += section_lines(section, section.path or "Top level")
    lines += ["## Objectives", "", "Each objective is one file; its name is its key under `objectives:`.", ""]
    for name in known_objectives():
        objective = find_objective(name)
        for section in sections(objective.Config, f"objectives.{name}"):
            about = first_sentence(inspect.getdoc(sys.modules[objective.__module__]) or "")
            title = about if section.path == f"objectives.{name}" else section.title
            lines += section_lines(Section(section.path, section.kind, title, section.settings), section.path)
    return "\n".join(lines).rstrip() + "\n"


def _distinct(found: list[Section]) -> Iterator[Section]:
    """Sections without those that two routes reach."""
    seen: set[tuple[str, str]] = set()
    for section in found:
        if (section.path, section.kind) not in seen:
            seen.add((section.path, section.kind))
            yield section


def section_lines(section: Section, heading: str) -> list[str]:
    """A heading, a sentence, and a table of settings."""
    kind = f", `kind: {section.kind}`" if section.kind else ""
    level = "##" if "." not in section.path or not section.path else "###"
    lines = [f"{level} `{heading}`{kind}" if section.path else f"## {heading}", "", section.title, ""]
    if section.settings:
        lines += ["| key | unit or choices | default | meaning |", "|---|---|---|---|"]
    for one in section.settings:
        key = one.name.removeprefix(section.path).lstrip(".")
        default = one.default if one.default in (REQUIRED, SECTION) else f"`{one.default}`"
        cells = (f"`{key}`", one.unit, default, one.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return [*lines, ""]


def commands_page() -> str:
    """Every verb of the command line with its options."""
    lines = [
        "# Commands",
        "",
        "Every verb and option, read from the command line itself. `frugalclip VERB --help` prints the same.",
        "Add `--debug` anywhere to see the traceback of an error.",
        "",
        "Exit codes: 0 done, 1 a fault of frugalclip, 2 the input cannot be used, 3 bad data was found,",
        "130 interrupted.",
        "",
    ]
    program: Any = typer.main.get_command(app)
    for name, command in program.commands.items():
        lines += command_lines(f"frugalclip {name}", command)
    return "\n".join(lines).rstrip() + "\n"


def command_lines(path: str, command: Any) -> list[str]:
    """One verb, and those below it."""
    lines = [f"## `{path}`", "", inspect.cleandoc(command.help or ""), ""]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and "--help" not in one.opts]
    if not getattr(command, "commands", None) or arguments or options:
        words = [f"{one.metavar or one.name.upper()}" for one in arguments]
        lines += ["```text", " ".join([path, *words, *(["[OPTIONS]"] if options else [])]), "```", ""]
    if arguments or options:
        lines += ["| word | meaning | default |", "|---|---|---|"]
        lines += [parameter_row(one) for one in [*arguments, *options]]
        lines += [""]
    for name, inner in getattr(command, "commands", {}).items():
        lines += command_lines(f"{path} {name}", inner)
    return lines


def parameter_row(parameter: Any) -> str:
    """One line of the table of a verb."""
    if parameter.param_type_name == "argument":
        word = parameter.metavar or parameter.name.upper()
    else:
        metavar = "" if parameter.is_flag else f" {parameter.metavar or choices(parameter)}"
        word = f"{parameter.opts[0]}{metavar}"
    default = parameter.default
    is_plain = isinstance(default, str | int | float) and not isinstance(default, bool)
    shown = "required" if parameter.required else f"`{default}`" if is_plain else ""
    return f"| `{word}` | {parameter.help or ''} | {shown} |".replace("a|b", "a\\|b")


def choices(parameter: Any) -> str:
    """The words that an option takes."""
    found = typing.get_args(parameter.type_descriptor.annotation)
    return "/".join(map(str, found)) or "VALUE"


def python_page() -> str:
    """Every public function, the classes they give back, and what an objective of one's own derives from."""
    lines = [
        "# Python functions",
        "",
        "The verbs of the command line are functions of the package. They print nothing but progress and",
        "return typed records.",
        "",
    ]
    for name in sorted(frugalclip.__all__):
        if not name.startswith("_"):
            lines += function_lines(f"frugalclip.{name}", getattr(frugalclip, name))
    lines += ["## Model", "", "What `frugalclip.load` returns.", ""]
    for name in ("encode_image", "encode_text", "words", "dim", "fingerprint"):
        if hasattr(Model, name):
            lines += function_lines(f"Model.{name}", getattr(Model, name), level="###")
    lines += ["## Manifest", "", first_sentence(inspect.getdoc(Manifest) or ""), ""]
    for name in ("where", "take", "captions", "field", "fingerprint", "write", "read"):
        lines += function_lines(f"Manifest.{name}", getattr(Manifest, name), level="###")
    lines += ["## Writing an objective", "", "Everything is in `frugalclip.objectives.base`.", ""]
    for one in EXTENSION:
        lines += class_lines(one)
    return "\n".join(lines).rstrip() + "\n"


def function_lines(name: str, value: Any, *, level: str = "##") -> list[str]:
    """Signature and docstring of one function or property."""
    if isinstance(value, property):
        return [f"{level} `{name}`", "", *docstring_lines(value.fget), ""]
    signature = re.sub(r"'|(?:collections\.abc|pathlib|typing)\.", "", str(inspect.signature(value)))
    lines = [f"{level} `{name}`", "", "```text", *wrapped(f"{name}{signature}"), "```", ""]
    return [*lines, *docstring_lines(value), ""]


def wrapped(signature: str) -> list[str]:
    """A signature, one argument a line where it is long."""
    if len(signature) <= 80:
        return [signature]
    opening, _, rest = signature.partition("(")
    inside, arrow, result = rest.rpartition(") -> ")
    parts = re.split(r", (?=\*|\w+:)", inside) if arrow else [rest]
    return [f"{opening}(", *(f"    {part}," for part in parts), f"){' -> ' + result if arrow else ''}"]


def class_lines(value: type) -> list[str]:
    """A class with its fields and public methods."""
    lines = [f"### `{value.__name__}`", "", inspect.getdoc(value) or "", ""]
    for name, member in vars(value).items():
        if inspect.isfunction(member) and not name.startswith("_") and member.__doc__:
            arguments = str(inspect.signature(member)).replace("'", "")
            lines.append(f"- `{name}{arguments}`: {first_sentence(inspect.getdoc(member) or '')}")
    return [*lines, ""]


def docstring_lines(value: Any) -> list[str]:
    """A docstring in Google's form as Markdown: its sections become lists."""
    lines: list[str] = []
    for line in (inspect.getdoc(value) or "").splitlines():
        heading = re.fullmatch(r"(Args|Returns|Raises|Yields):", line)
        entry = re.match(r"    ([\w*]+): (.*)", line)
        if heading:
            lines += [f"**{ {'Args': 'Arguments'}.get(heading[1], heading[1]) }**", ""]
        elif entry:
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        elif line.startswith("     "):
            lines.append("  " + line.strip())
        else:
            lines.append(line.strip())
    return lines


def first_sentence(text: str) -> str:
    """The first paragraph on one line."""
    return text.split("\n\n")[0].replace("\n", " ")


PAGES = {"settings.md": settings_page, "commands.md": commands_page, "python.md": python_page}


def write_pages(folder: Path) -> list[Path]:
    """Write every page into a folder, and give their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")
    return [folder / name for name in PAGES]


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
