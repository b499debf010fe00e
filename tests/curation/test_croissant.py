"""Read back by mlcroissant where it is installed, and checked against the required properties everywhere."""

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import frugalclip
from frugalclip.cli import main
from frugalclip.core.errors import DataError
from frugalclip.curation.croissant import CONFORMS_TO, REQUIRED
from frugalclip.verbs import ledger

from ..verbs.test_curate import drawing


@pytest.fixture
def curated(tmp_path: Path) -> Path:
    """Three rows of four, with a number, a list and a licence."""
    data = tmp_path / "birds"
    data.mkdir()
    lines = ["image,caption,height,license"]
    for number in range(4):
        drawing(number).save(data / f"b{number}.png")
        lines.append(f"b{number}.png,{'bird' if number else ''} {number} here,{number}.5,CC0-1.0")
    (data / "list.csv").write_text("\n".join(lines))
    (tmp_path / "plan.yaml").write_text("stages: [{stage: rules, min_words: 3}]")
    frugalclip.curate(data / "list.csv", plan=tmp_path / "plan.yaml", out=tmp_path / "out")
    return tmp_path / "out"


def test_the_description_has_what_the_specification_requires(curated: Path):
    path, lacking = ledger.croissant(curated, creator="We", url="https://example.org/birds", name="birds")
    found = json.loads(path.read_text())
    assert lacking == [] and set(REQUIRED) <= found.keys()
    assert found["conformsTo"] == CONFORMS_TO and found["license"] == "CC0-1.0"  # all rows name it
    assert "3 of 4 rows" in found["description"]
    (file,) = found["distribution"]
    content = (curated / file["contentUrl"]).read_bytes()
    assert (
        file["sha256"] == hashlib.sha256(content).hexdigest() and file["contentSize"] == f"{len(content)} B"
    )
    (records,) = found["recordSet"]
    columns = pq.read_schema(curated / "manifest.parquet").names
    assert {field["source"]["extract"]["column"] for field in records["field"]} == set(columns)
    kinds = {field["name"]: (field["dataType"], field.get("arrayShape")) for field in records["field"]}
    assert kinds["captions"] == ("sc:Text", "-1") and kinds["height"] == ("sc:Float", None)
    assert records["key"] == {"@id": "rows/id"}


def test_what_nobody_has_said_is_named_and_not_invented(curated: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["ledger", "croissant", str(curated)]) == 0
    assert "requires url, creator" in " ".join(capsys.readouterr().out.split())
    assert not {"url", "creator"} & json.loads((curated / "croissant.json").read_text()).keys()


def test_a_folder_without_a_curation_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no finished curation"):
        ledger.croissant(tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what it reads JSON-LD with
def test_mlcroissant_reads_the_rows(curated: Path):
    reader = pytest.importorskip("mlcroissant")
    path, _ = ledger.croissant(curated, creator="We", url="https://example.org/birds")
    data = reader.Dataset(jsonld=str(path))
    assert not data.metadata.ctx.issues.errors
    rows = {row["rows/id"].decode(): row for row in data.records("rows")}
    table = pq.read_table(curated / "manifest.parquet").to_pylist()
    assert sorted(rows) == sorted(row["id"] for row in table)
    for row in table:
        found = rows[row["id"]]
        assert [text.decode() for text in found["rows/captions"]] == row["captions"]
        assert found["rows/height"] == pytest.approx(float(row["height"]))
        assert found["rows/image_path"].decode() == row["image"]["path"]
