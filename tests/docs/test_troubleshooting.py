"""The headings of the troubleshooting page are words that the code prints."""

import ast
import re
from pathlib import Path

from .docs_pages import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
NOT_OURS = {"operator torchvision::nms does not exist"}  # words of another library
SYMPTOMS = {"a truncated shard", "a loss that stays at ln(batch)"}  # seen, not printed


def printed_text(file: Path) -> list[str]:
    """The literal texts of a module, without docstrings; `…` stands for a value inside one."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    pieces = {
        id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values
    }
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in pieces:
            texts.append(node.value)
    return texts


def test_headings_are_words_of_messages():
    headings = re.findall(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.M)
    texts = [text for file in (ROOT / "src").rglob("*.py") for text in printed_text(file)]
    unknown = []
    for heading in headings:
        parts = [re.escape(part.strip()) for part in heading.split("…") if part.strip(" ;")]
        pattern = re.compile(".*".join(parts), re.S)
        if heading not in NOT_OURS | SYMPTOMS and not any(pattern.search(text) for text in texts):
            unknown.append(heading)
    assert not unknown, f"no message contains: {unknown}"
