"""The content of compare.json: results, trials with their states, and what repeats the comparison."""

from frugalclip.comparison.arms import Arm
from frugalclip.comparison.design import Design
from frugalclip.comparison.protocol import ProtocolConfig
from frugalclip.comparison.record import comparison_record
from frugalclip.data.manifest import image_places, make_manifest


def outcome(hits):
    ids = [f"i{i}" for i in range(len(hits))]
    return {"id": ids, "group": ids, "hit": hits, "weight": None}


def test_the_record_of_finished_failed_and_waiting_trials(tmp_path, make_trial):
    protocol = ProtocolConfig.model_validate({"data": "rows", "metrics": {"unseen": {"where": "a=b"}}})
    design = Design([Arm("a", command=("x",)), Arm("b", command=("y",))], "a", protocol.resolved(), seeds=2)
    rows = make_manifest(
        ids=["i0"], images=image_places(["0.png"]), captions=[["x"]], root=tmp_path, name="rows"
    )
    record = {
        "metrics": {"unseen": {"value": 50.0, "outcome": outcome([1.0, 0.0])}},
        "training": {"samples_seen": 8, "seconds": 1.0, "notes": ["x"]},
        "code": {"commit": "1"},
    }
    trials = [
        make_trial(tmp_path / "trials" / arm / f"seed-{seed}", arm=arm, seed_index=seed, record=found)
        for arm, seed, found in (("a", 0, record), ("b", 0, record), ("a", 1, None), ("b", 1, None))
    ]
    entry = {
        "chance": 10.0,
        "baselines": {"pixel_nn_1": 20.0},
        "outcomes": {"pixel_nn_1": outcome([0.0, 1.0])},
    }
    found = comparison_record(
        trials,
        design,
        folds=[""],
        everything=rows,
        baselines={"unseen": {"": entry}},
        clock="cpu",
        failures={"trials/a/seed-1": "broken"},
        notes=["split by hand"],
        out=tmp_path,
    )
    assert [(t["arm"], t["status"], t.get("message")) for t in found["trials"]] == [
        ("a", "finished", None),
        ("b", "finished", None),
        ("a", "failed", "broken"),
        ("b", "not run", ""),
    ]
    assert found["trials"][0]["values"] == {"unseen": 50.0}
    assert "notes" not in found["trials"][0]["training"]
    assert (found["frugalclip_compare"], found["reference"], found["folds"]) == (2, "a", [""])
    assert found["clock"] == "wall"  # the trials did not record their processor time
    metric = found["metrics"]["unseen"]
    assert (metric["chance"], metric["baselines"], metric["arms"]["b"]["value"]) == (
        10.0,
        {"pixel_nn_1": 20.0},
        50.0,
    )
    assert found["baseline_tests"][0]["baseline"] == "pixel_nn_1"
    assert found["notes"][0] == "split by hand"
    assert found["data"]["rows"] == 1 and found["protocol"]["data"] == "rows"
