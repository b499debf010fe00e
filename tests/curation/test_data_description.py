"""What a card needs of the data: hash, licences of files and rows, and the curation behind it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import frugalclip
from frugalclip.curation.data_description import describe_data
from frugalclip.sources.open import open_data


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Six pictures in a table with licences, the first two of the same bytes."""
    rows = ["image,caption,license"]
    for i, licence in enumerate(["CC0-1.0", "CC0-1.0", "CC-BY-4.0", "", "CC0-1.0", "CC0-1.0"]):
        noise = np.random.default_rng(max(i, 1)).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,picture number {i},{licence}")
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "LICENSE.txt").write_text("as you like")
    return tmp_path / "rows.csv"


def test_licences_of_rows_and_files_are_found(table: Path):
    found = describe_data(str(table), open_data(table))
    assert found["hash"] == open_data(table).fingerprint()
    assert found["licences"]["rows"] == {"CC0-1.0": 4, "CC-BY-4.0": 1, "not named": 1}
    assert found["licences"]["files"] == ["LICENSE.txt"]
    assert found["curation"] is None


def test_the_summary_of_the_ledger_is_that_of_the_curation(table: Path, tmp_path: Path):
    frugalclip.curate(table, plan="dedup", out=tmp_path / "kept")
    manifest = tmp_path / "kept" / "manifest.parquet"
    found = describe_data(str(manifest), open_data(manifest))["curation"]
    assert (found["rows"], found["kept"]) == (6, 5)
    dropped = {reason: n for stage in found["stages"] for reason, n in stage["dropped"].items()}
    assert dropped == {"same-bytes": 1}
    (tmp_path / "kept" / "summary.json").write_text('{"of": "another program"}')
    assert describe_data(str(manifest), open_data(manifest))["curation"] is None


def test_the_sample_names_its_licences():
    assert describe_data("sample", open_data("sample"))["licences"]["files"] == ["LICENSES.md"]
