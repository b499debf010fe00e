from frugalclip.evaluation.ranking import TIE_RULE
from frugalclip.evaluation.results import EvaluatedRows, with_provenance


def test_a_result_has_its_metrics_first_and_everything_they_depend_on(squares, model):
    chosen = squares.where("split=test")
    result = with_provenance(
        "mine",
        {
            "metrics": {"top1": 100 / 3},
            "interval": {"top1": [0.1234567, 50]},
            "chance": {},
            "samples": 7,
            "prompts": None,
            "pool": "all",
        },
        model,
        EvaluatedRows.of(chosen, "split=test"),
        baselines={"pixel_nn_1": {"top1": 1 / 3}, "about": {"training": "squares"}},
    )
    assert result == {
        "task": "mine",
        "metrics": {"top1": 33.333333},
        "interval": {"top1": [0.123457, 50]},
        "chance": {},
        "baselines": {"pixel_nn_1": {"top1": 0.333333}},
        "baselines_about": {"training": "squares"},
        "samples": 7,
        "split_hash": chosen.fingerprint(),
        "prompts": None,
        "preprocess": {"size": 8},
        "tie_rule": TIE_RULE,
        "model": "colours",
        "data": "squares",
        "where": "split=test",
        "pool": "all",
    }


def test_without_baselines_nothing_is_told_about_them(squares, model):
    content = {"metrics": {}, "interval": {}, "chance": {}, "samples": 0, "prompts": None}
    result = with_provenance("mine", content, model, EvaluatedRows("two packs", "0" * 16, None))
    assert result["baselines"] == {} and "baselines_about" not in result
    assert (result["data"], result["where"]) == ("two packs", None)
