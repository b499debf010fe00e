"""`audit predict`: classes of a data set before training, and a check against a model."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from frugalclip.cli import main
from frugalclip.core.errors import DataError, FrugalclipError, UsageError
from frugalclip.data.manifest import CAPTIONS, Manifest
from frugalclip.sources.open import open_data
from frugalclip.verbs.audit_predict import audit_predict

from .test_evaluate import make_model

CLASSES = ["animals & nature", "food & drink", "objects", "smileys & emotion"]


def training_data(*, silent: str, rare: str) -> Manifest:
    """Drawings whose captions name their category, all but one; of another category only five."""
    rows = open_data("sample", where="split=train,style=noto,is_flag=false")
    labels = np.array([str(value).lower() for value in rows.field("category")])
    kept = np.isin(labels, CLASSES)
    kept[np.flatnonzero(labels == rare)[5:]] = False
    rows, labels = rows.take(np.flatnonzero(kept)), labels[kept]
    captions = [
        [text if label == silent else f"{text}, {label}" for text in own]
        for own, label in zip(rows.captions(), labels, strict=True)
    ]
    table = rows.table
    for column, values in (("captions", captions), ("category", labels.tolist())):
        place = table.column_names.index(column)
        kind = CAPTIONS if column == "captions" else table.schema.field(column).type
        table = table.set_column(place, column, pa.array(values, kind))
    return Manifest(table, rows.root, rows.name)


@pytest.fixture(scope="module")
def data() -> Manifest:
    return training_data(silent="food & drink", rare="smileys & emotion")


def test_classes_that_captions_do_not_name_and_rare_ones_come_first(data: Manifest):
    found = audit_predict(data, classes=CLASSES, label_field="category")
    assert [one["accuracy"] for one in found["classes"]] == sorted(
        one["accuracy"] for one in found["classes"]
    )
    by_name: Mapping[str, dict] = {one["name"]: one for one in found["classes"]}
    assert {one["name"] for one in found["classes"][:2]} == {"food & drink", "smileys & emotion"}
    silent, rare = by_name["food & drink"], by_name["smileys & emotion"]
    assert {"kind": "unmentioned", "value": 0.0} in silent["reasons"]
    assert {"kind": "rare", "value": 5} in rare["reasons"]
    assert (rare["count"], silent["mentioned"]) == (5, 0)
    for one in found["classes"]:
        low, high = one["interval"]
        assert 0 <= low <= high <= 100
        assert 0 <= one["risk"] <= 1
    assert found["classes"][-1]["pairs_needed"] == 0


def test_a_target_sets_what_fails(data: Manifest):
    low, high = (audit_predict(data, classes=CLASSES, label_field="category", target=t) for t in (5, 95))
    assert all(a["risk"] < b["risk"] for a, b in zip(low["classes"], high["classes"], strict=True))
    assert high["limit"] == 95


def test_captions_tell_where_no_field_does(data: Manifest):
    found = audit_predict(data, classes=CLASSES)
    assert found["rows_found_by"] == "captions and keywords that name them"
    count = {one["name"]: one["count"] for one in found["classes"]}
    assert count["food & drink"] < count["objects"]


def test_a_prediction_is_checked_by_what_evaluate_wrote(data: Manifest, tmp_path: Path, capsys):
    expected = {
        one["name"]: one["accuracy"]
        for one in audit_predict(data, classes=CLASSES, label_field="category")["classes"]
    }
    measured = [{"name": name, "top1": value, "samples": 30} for name, value in expected.items()]
    (tmp_path / "found.json").write_text(json.dumps({"per_class": measured}))
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    data.write(tmp_path / "train.parquet")
    words = [str(tmp_path / "train.parquet"), "--classes", str(tmp_path / "classes.txt")]
    words += ["--label-field", "category", "--check", str(tmp_path / "found.json")]
    words += ["--json", str(tmp_path / "out.json"), "--report", str(tmp_path / "page.html")]
    assert main(["audit", "predict", *words]) == 0
    told = capsys.readouterr().out
    assert "captions do" in told  # the table breaks lines
    assert "Lowest third of 4 measured classes, AUROC: forecast 1.00" in told
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["check"]["coverage"] == 1.0
    assert written["check"]["bias"] == pytest.approx(0, abs=1e-9)
    page = (tmp_path / "page.html").read_text()
    assert "How the prediction fared" in page
    assert "food &amp; drink" in page


def test_a_prediction_is_checked_by_a_model(data: Manifest, tmp_path: Path):
    make_model().save(tmp_path / "model")
    test = data.take(np.arange(0, len(data), 8))
    found = audit_predict(data, classes=CLASSES, label_field="category", check=tmp_path / "model", test=test)
    assert sum(row["images"] for row in found["check"]["rows"]) == len(test)


def test_a_class_without_rows_is_expected_to_fail(data: Manifest):
    found = audit_predict(data, classes=[*CLASSES, "volcano"], label_field="category")
    (one,) = (one for one in found["classes"] if one["name"] == "volcano")
    assert one["count"] == 0
    assert one["accuracy"] <= np.median([own["accuracy"] for own in found["classes"]])


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"target": 100}, UsageError, "between 0 and 100"),
        ({"images": 0}, UsageError, "at least 1"),
        ({"test": "sample"}, UsageError, "--check RUN"),
        ({"check": "runs/first"}, UsageError, "--test PATH"),
        ({"classes": ["objects", "Objects", "food & drink"]}, DataError, "expected 3 or more"),
        ({"classes": ["alpha", "beta", "gamma"]}, DataError, "no row of"),
        ({"label_field": "categori"}, FrugalclipError, "category"),
    ],
)
def test_what_does_not_fit_says_what_to_do(data: Manifest, options: dict, kind: type[Exception], words: str):
    with pytest.raises(kind, match=words):
        audit_predict(data, **{"classes": CLASSES, "label_field": "category"} | options)


OVER = '{"per_class": [{"name": "objects", "top1": 400, "samples": 3}]}'


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"per_class": 3}', '{"per_class": [{"name": "objects"}]}', OVER]
)
def test_a_file_that_evaluate_did_not_write_is_refused(data: Manifest, tmp_path: Path, text: str):
    (tmp_path / "found.json").write_text(text)
    with pytest.raises(FrugalclipError, match=r"found\.json"):
        audit_predict(data, classes=CLASSES, label_field="category", check=tmp_path / "found.json")
