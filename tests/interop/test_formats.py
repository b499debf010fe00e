"""A foreign model format is a file of the package and needs no other line."""

import sys
from pathlib import Path

import pytest

from frugalclip import interop
from frugalclip.core.errors import ModelError
from frugalclip.interop.formats import foreign_formats
from frugalclip.models import load

OWN = """
from frugalclip.interop.foreign import ForeignFormat

FOREIGN_FORMAT = ForeignFormat("mine", "mine:FILE", lambda source: 1 / 0)
"""


def test_a_new_format_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert {"open_clip", "hf"} <= foreign_formats().keys()
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.setattr(interop, "__path__", [*interop.__path__, str(tmp_path)])
    foreign_formats.cache_clear()
    try:
        assert foreign_formats()["mine"].form == "mine:FILE"
        with pytest.raises(ModelError, match="mine:file cannot be read \\(division by zero\\)"):
            load("mine:file")
    finally:
        sys.modules.pop("frugalclip.interop.mine", None)
        foreign_formats.cache_clear()
