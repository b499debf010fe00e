"""`audit groups`: a model's metric by a field."""

import json
from pathlib import Path

import pytest

from frugalclip.core.errors import DataError
from frugalclip.verbs.audit_groups import audit_groups, show

from .test_evaluate import folder, make_model  # noqa: F401  (a fixture)


@pytest.mark.parametrize(("task", "metric"), [("zeroshot", "top1"), ("retrieval", "t2i_r1")])
def test_a_metric_by_a_field(folder: Path, task: str, metric: str, capsys):  # noqa: F811
    out = folder.parent / "groups.json"
    options = {"label_field": "label", "least": 1, "draws": 20, "json": out}
    field = "split" if task == "zeroshot" else "label"
    found = audit_groups(make_model(), data=folder, field=field, task=task, **options)
    assert found == json.loads(out.read_text())
    assert found["metric"] == metric
    assert {one["value"] for one in found["groups"]} == (
        {"train", "test"} if task == "zeroshot" else {"red", "green", "blue"}
    )
    show(found)
    assert "by chance in" in capsys.readouterr().out


def test_an_unknown_field_is_named(folder: Path):  # noqa: F811
    with pytest.raises(DataError, match="has no field 'splt'"):
        audit_groups(make_model(), data=folder, field="splt")
