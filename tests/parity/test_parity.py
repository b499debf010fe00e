"""Every parity array is met by our own public functions: one test a file, whatever files the folder holds.

The folder is FRUGALCLIP_PARITY_DIR, else `arrays` beside this file. A file belongs to the family whose
pattern in the folder's own `families.json` matches its whole name. A family's check is the function
`check_<family>` in one of the files of `families/`. What the arrays mean, and the tolerances, stand in the
docstrings of the checks.
"""

import importlib.util
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
VARIABLE = "FRUGALCLIP_PARITY_DIR"


def folder() -> Path:
    return Path(os.environ.get(VARIABLE) or HERE / "arrays")


def checks() -> dict[str, Callable[[Path], None]]:
    """Family -> its check."""
    found: dict[str, Callable[[Path], None]] = {}
    for path in sorted((HERE / "families").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"parity_{path.stem}", path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name, value in vars(module).items():
            if name.startswith("check_"):
                family = name.removeprefix("check_")
                assert family not in found, f"{path.name} and another file both check {family}"
                found[family] = value
    return found


def arrays(place: Path) -> list[Path]:
    """Every file that must be met."""
    if not place.is_dir():
        return []
    return sorted(
        p for p in place.iterdir() if p.is_file() and p.suffix != ".md" and p.name != "families.json"
    )


def family_of(path: Path) -> str:
    """The one family whose pattern matches the file's whole name."""
    index = path.with_name("families.json")
    assert index.is_file(), f"{index} is missing; copy families.json beside the arrays"
    families = json.loads(index.read_text(encoding="utf-8"))
    found = [entry["family"] for entry in families if re.fullmatch(entry["pattern"], path.name)]
    assert len(found) == 1, f"{path.name} matches {len(found)} families {found}, expected one"
    return found[0]


def match(path: Path) -> None:
    """Fail unless the file's family has a check and the check passes."""
    known = checks()
    family = family_of(path)
    assert family in known, (
        f"{path.name} is of the family {family}, which has no check in tests/parity/families"
    )
    known[family](path)


@pytest.mark.parametrize("path", arrays(folder()), ids=lambda path: path.stem)
def test_matches(path: Path):
    match(path)


def test_the_folder_holds_arrays():
    assert arrays(folder()), (
        f"{folder()} is missing or holds no array; "
        f"unset {VARIABLE} or point it at a folder with arrays and families.json"
    )


def test_a_file_of_no_family_or_without_a_check_fails_and_is_named(tmp_path: Path):
    entries = [{"family": "later", "pattern": r"later_\w+\.npz"}]
    (tmp_path / "families.json").write_text(json.dumps(entries), encoding="utf-8")
    for name, complaint in (
        ("other_1.npz", "other_1.npz matches 0 families"),
        ("later_1.npz", "later_1.npz is of the family later, which has no check"),
    ):
        (tmp_path / name).touch()
        with pytest.raises(AssertionError, match=re.escape(complaint)):
            match(tmp_path / name)
    assert [path.name for path in arrays(tmp_path)] == ["later_1.npz", "other_1.npz"]
    assert arrays(tmp_path / "absent") == []
