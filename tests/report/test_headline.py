from frugalclip.report.headline import bars, conclusion_sentences, headline_metric


def test_the_primary_metric_is_one_with_a_value():
    assert headline_metric({"metrics": {"i2t_r1": 3.0, "t2i_r1": 2.0}}) == "t2i_r1"
    assert headline_metric({"metrics": {"top1": None, "odd": 2.0}}) == "odd"
    assert headline_metric({"metrics": {}}) is None
    assert headline_metric({}) is None


def test_the_bars_are_the_model_then_baselines_from_the_strongest_then_chance(evaluation):
    shown = bars(evaluation, "top1", name="this model")
    assert [(b.label, b.value, b.role) for b in shown] == [
        ("this model", 50.0, "model"),
        ("10 pixel nearest neighbours", 25.0, "baseline"),
        ("pixel nearest neighbour", 20.0, "baseline"),
        ("chance", 16.7, "chance"),
    ]
    assert shown[0].interval == (30.0, 70.0)


def test_a_verdict_says_no_more_than_the_interval_allows(evaluation):
    clear = " ".join(conclusion_sentences(evaluation, "top1"))
    assert "25.0 points above the strongest baseline, 10 pixel nearest neighbours" in clear
    assert "not distinguishable" not in clear.lower()
    evaluation["interval"]["top1"] = [10.0, 70.0]
    unclear = conclusion_sentences(evaluation, "top1")
    assert "chance lies inside the interval: not distinguishable from guessing" in unclear[0]
    assert unclear[1].startswith("Not distinguishable from the strongest baseline")
    evaluation["interval"]["top1"] = [20.0, 24.0]
    evaluation["metrics"]["top1"] = 22.0
    assert conclusion_sentences(evaluation, "top1")[1].startswith("3.0 points below the strongest baseline")
    del evaluation["interval"]["top1"]
    assert "no interval was computed" in conclusion_sentences(evaluation, "top1")[1]


def test_a_metric_without_baselines_says_how_to_get_them(evaluation):
    assert "--baselines" in " ".join(conclusion_sentences(evaluation | {"baselines": {}}, "top1"))


def test_of_a_metric_that_should_be_small_the_least_baseline_is_the_strongest():
    result = {
        "metrics": {"t2i_median_rank": 4.0},
        "baselines": {"pixel_nn_1": {"t2i_median_rank": 9.0}, "pixel_nn_10": {"t2i_median_rank": 6.0}},
    }
    assert [bar.value for bar in bars(result, "t2i_median_rank", name="ours")] == [4.0, 6.0, 9.0]
