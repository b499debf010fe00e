"""Architectures of open_clip under names of the tests' own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest


@pytest.fixture
def known(tmp_path: Path) -> Callable[[str, dict[str, Any]], str]:
    """Makes an architecture known to open_clip by a name, as a user's own would be."""

    def add(name: str, config: dict[str, Any]) -> str:
        (tmp_path / "configs").mkdir(exist_ok=True)
        (tmp_path / "configs" / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(tmp_path / "configs" / f"{name}.json")
        return name

    return add
