"""Baselines of a comparison: measured once, shared by metrics of one task, averaged over folds."""

import pytest
from PIL import Image

from frugalclip.comparison import baselines as module
from frugalclip.comparison.baselines import baseline_outcomes, fold_baselines, mean_baselines
from frugalclip.comparison.folds import make_folds
from frugalclip.comparison.protocol import ProtocolConfig
from frugalclip.data.manifest import image_places, make_manifest

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


@pytest.fixture
def rows(tmp_path):
    names = [f"{colour}-{style}" for style in ("ink", "oil") for colour in COLOURS]
    for name in names:
        Image.new("RGB", (24, 24), COLOURS[name.partition("-")[0]]).save(tmp_path / f"{name}.png")
    return make_manifest(
        ids=names,
        images=image_places([f"{name}.png" for name in names]),
        captions=[[name.partition("-")[0]] for name in names],
        fields={"style": [name.partition("-")[2] for name in names]},
        root=tmp_path,
        name="rows",
    )


def test_they_are_measured_once_and_averaged_over_folds(rows, tmp_path, monkeypatch):
    metrics = {"naming": {"where": "style!=null"}, "finding": {"where": "style!=null", "task": "retrieval"}}
    settings = {"hold_out": "style", "validation": "none", "metrics": metrics}
    protocol = ProtocolConfig.model_validate(settings).resolved()
    folds = make_folds(rows, protocol)
    found = fold_baselines(folds, rows, protocol, tmp_path / "out")
    assert set(found["naming"]) == set(found["finding"]) == {"ink", "oil"}
    means = mean_baselines(found["naming"])
    assert means["chance"] == pytest.approx(100 / 3, abs=1e-4)
    assert means["baselines"]["pixel_nn_1"] == 100  # the same colour in the other style
    outcomes = baseline_outcomes(found["naming"])
    assert outcomes["pixel_nn_1"]["ink"]["hit"] == [1.0] * 3
    assert "outcomes" not in found["finding"]["ink"]  # only the primary metric is tested

    def never(*_args):
        raise AssertionError("measured again")

    monkeypatch.setattr(module, "_measure", never)
    assert fold_baselines(folds, rows, protocol, tmp_path / "out") == found
