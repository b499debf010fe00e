"""The documentation reads easily: short sentences, short lines, narrow tables, the field's words."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from .docs_pages import BY_MACHINE, ROOT, pages, sentences

MOST_WORDS = 25  # of a sentence, on average over a page
LONGEST_LINE = 110
BANNED = {
    "trunk": r"(?<!\.)\btrunks?\b",
    "lent": r"\blent\b",
    "borrowed": r"\bborrow(?:ed|s|ing)?\b",
    "rows that watch": r"\brows that watch|\bwatching rows?\b",
    "what … says of": r"\bwhat [\w' ]{1,40} says? of\b",
    "pairs saved": r"\bpairs[ -]saved\b",
    "floor": r"\bfloors?\b(?! \d|\()",
}
WRITTEN = [page for page in pages() if page.name not in (*BY_MACHINE, "CHANGELOG.md")]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_sentences_are_short(page: Path):
    found = sentences(page.read_text(encoding="utf-8"))
    mean = sum(len(one.split()) for one in found) / max(1, len(found))
    longest = sorted(found, key=lambda one: -len(one.split()))[:3]
    assert mean < MOST_WORDS, f"{mean:.1f} words on average; shorten: {longest}"


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_lines_are_short(page: Path):
    is_block, long = False, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        is_block ^= line.startswith("```")
        if len(line) > LONGEST_LINE and not (is_block or line.startswith(("|", "![", "["))):
            long.append(f"{page.name}:{number}: {len(line)}")
    assert not long, "\n".join(long)


def banned(name: str, places: Iterable[Path]) -> list[str]:
    """Lines that hold a word which the field has no use for."""
    return [
        f"{name_of(path)}:{number}: {line.strip()[:100]}"
        for path in places
        if path.is_file()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(BANNED[name], line, re.I)
    ]


@pytest.mark.parametrize("name", BANNED)
def test_pages_recipes_and_examples_use_the_words_of_the_field(name: str):
    recipes = (ROOT / "src" / "frugalclip" / "recipes").glob("*.yaml")
    examples = [path for path in (ROOT / "examples").rglob("*.*") if "__pycache__" not in path.parts]
    found = banned(name, [*WRITTEN, *recipes, *examples])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", BANNED)
def test_the_code_uses_the_words_of_the_field(name: str):
    machine = [ROOT / "docs" / page for page in sorted(BY_MACHINE)]
    found = banned(name, [*sorted((ROOT / "src").rglob("*.py")), *machine])
    assert not found, "\n".join(found)
