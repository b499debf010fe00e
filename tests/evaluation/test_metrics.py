import pytest

from frugalclip.evaluation.metrics import (
    in_percent,
    in_unit,
    larger_is_better,
    metric_name,
    primary_metric,
    words,
)


@pytest.mark.parametrize(
    ("metric", "name", "short"),
    [
        ("top1", "Top-1 accuracy", "Top-1"),
        ("t2i_r5", "Text → image, recall at 5", "Text → image R@5"),
        ("i2t_median_rank", "Image → text, median rank", "Image → text, median rank"),
        ("generalised_top5", "Top-5 accuracy, all names", "Top-5, all names"),
        ("mean_per_class", "Mean over classes", "Class mean"),
        ("1shot_top1", "Top-1 accuracy, 1 shot", "Top-1, 1 shot"),
        ("16shot_mean_per_class", "Mean over classes, 16 shots", "Class mean, 16 shots"),
        ("i2t_r1_64_words", "Image → text, recall at 1, 64 words of each", "Image → text R@1, 64 words"),
        ("brand_new", "Brand new", "Brand new"),
    ],
)
def test_metrics_have_names(metric, name, short):
    assert (metric_name(metric), metric_name(metric, short=True)) == (name, short)


def test_baselines_are_nearest_neighbours_in_words():
    assert words("pixel_nn_1") == "pixel nearest neighbour"
    assert words("pixel_nn_10") == "10 pixel nearest neighbours"


def test_ranks_and_counts_are_no_percentages():
    assert [in_percent(m) for m in ("top1", "t2i_median_rank", "loss", "non_zeros")] == [
        True,
        False,
        False,
        False,
    ]
    assert (in_unit("top1", 0.5), in_unit("t2i_median_rank", 0.5)) == (50, 0.5)


def test_ranks_and_losses_should_be_small():
    assert [larger_is_better(m) for m in ("t2i_r1", "i2t_median_rank", "loss")] == [True, False, False]


def test_the_primary_metric_is_the_most_important_else_the_first():
    assert primary_metric({"i2t_r1": 3.0, "t2i_r1": 2.0}) == "t2i_r1"
    assert primary_metric({"odd": 2.0, "even": 1.0}) == "odd"
    assert primary_metric({}) is None
