"""What the tests of the documentation read: its pages, their prose and their blocks."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "docs" / "reference"  # written by scripts/reference_pages.py, not in the repository
BY_MACHINE = {"results.md", "recipes.md", "performance.md"}  # tables and lines from records
TASKS = [
    "quick-start.md",
    "data.md",
    "curate.md",
    "audit.md",
    "train.md",
    "choose-a-recipe.md",
    "advise.md",
    "evaluate.md",
    "compare.md",
    "start-from-a-model.md",
    "frozen-backbones.md",
    "finetune.md",
    "compress.md",
    "search-pictures.md",
    "export.md",
    "scenes.md",
]  # in the order in which a new user reads them


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    mark: str  # of the comment above it: slow, e2e, skip, or nothing


def pages() -> list[Path]:
    """Every page that people write, README first."""
    docs = sorted((ROOT / "docs").rglob("*.md"))
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*top, *(path for path in docs if GENERATED not in path.parents)]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    pattern = r"(?:<!-- test: (\w+)[^\n]*-->\n)?^```(\w*)\n(.*?)^```"
    found = re.findall(pattern, page.read_text(encoding="utf-8"), re.M | re.S)
    return [Block(language, text, mark) for mark, language, text in found]


def prose(text: str) -> list[str]:
    """Paragraphs and list items, each on one line, without blocks, tables, headings and addresses."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    units: list[list[str]] = []
    for line in text.splitlines():
        starts = re.match(r"\s*(?:[-*:]|\d+\.)\s+", line)
        if not line.strip() or line.startswith(("|", "#", "!")):
            units.append([])
        elif starts or not units:
            units.append([line[starts.end() :] if starts else line])
        else:
            units[-1].append(line.strip())
    return [" ".join(unit) for unit in units if unit]


def sentences(text: str) -> list[str]:
    """The sentences of a page's prose; a list item without a full stop is one too."""
    return [
        sentence
        for unit in prose(text)
        for sentence in re.split(r"(?<=[a-z0-9)`\]*%][.!?])\s+(?=[A-Z`*\[\"(])", unit)
        if len(sentence.split()) > 2
    ]
