"""Every link of the documentation leads somewhere, to a heading where it names one."""

import re
import sys
from pathlib import Path

import pytest

from .docs_pages import GENERATED, ROOT, pages

sys.path.insert(0, str(ROOT / "scripts"))
import reference_pages


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """The reference pages by the paths that they have on the site."""
    written = reference_pages.write_pages(tmp_path_factory.mktemp("reference"))
    return {GENERATED / path.name: path.read_text(encoding="utf-8") for path in written}


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as the site and code hosts make them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def links(text: str) -> list[str]:
    """Addresses inside this repository."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [one for one in found if not re.match(r"[a-z]+:", one)]


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path, generated: dict[Path, str]):
    faults = []
    for link in links(page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if target not in generated and not target.exists():
            faults.append(f"{link}: there is no {name}")
        elif anchor:
            text = generated[target] if target in generated else target.read_text(encoding="utf-8")
            if anchor not in anchors(text):
                faults.append(f"{link}: {target.name} has no heading {anchor}")
    assert not faults, "\n".join(faults)


def test_every_page_is_on_the_site():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in pages():
        folder = str(page.parent.relative_to(ROOT))
        if folder in ("docs", "docs/methods") and page != ROOT / "docs" / "index.md":
            name = str(page.relative_to(ROOT / "docs").with_suffix(""))
            assert re.search(rf"^{re.escape(name)}$", index, re.M), (
                f"{name} is in no toctree of docs/index.md"
            )


def test_no_page_has_the_name_of_one_that_the_site_makes_itself():
    """Such a page is overwritten without a word: a page on search was, once."""
    names = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert not names & {"search.md", "genindex.md", "modindex.md", "py-modindex.md"}


def test_the_reference_covers_the_code(generated: dict[Path, str]):
    import frugalclip
    from frugalclip.objectives.base import known_objectives

    commands, settings, python = (
        generated[GENERATED / f"{name}.md"] for name in ("commands", "settings", "python")
    )
    for verb in ("train", "compare", "data convert", "recipes show", "evaluate", "import"):
        assert f"`frugalclip {verb}`" in commands
    for name in known_objectives():
        assert f"`objectives.{name}`" in settings
    for name in frugalclip.__all__:
        assert name.startswith("_") or f"`frugalclip.{name}`" in python
    assert "| `lr` | number | `0.001` | peak learning rate |" in settings
