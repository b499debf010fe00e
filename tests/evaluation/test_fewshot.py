import numpy as np
import pyarrow as pa
import pytest
import torch

from frugalclip.data.manifest import image_places, make_manifest
from frugalclip.evaluation import fewshot
from frugalclip.evaluation.fewshot import evaluate_fewshot, few_shot_curve
from frugalclip.evaluation.labelled import labelled_rows
from frugalclip.evaluation.statistics import bootstrap, mean_over_draws, on_the_sample


@pytest.fixture
def problem(tmp_path):
    """Two classes in 30 dimensions, separable with enough examples, in families of two rows.

    `few` has three training rows.
    """
    rows = 120
    names = [f"r{i}" for i in range(rows)]
    label = [
        "few" if i in (0, 2, 4) or 80 <= i < 85 else ("cat" if (i // 2) % 2 else "dog") for i in range(rows)
    ]
    fields = {
        "label": pa.array(label),
        "split": pa.array(["train" if i < 80 else "val" if i < 100 else "test" for i in range(rows)]),
        "family": pa.array([f"f{i // 2}" for i in range(rows)]),
    }
    data = make_manifest(
        ids=names,
        images=image_places(names),
        captions=[[n] for n in names],
        fields=fields,
        root=tmp_path,
        name="rows",
    )
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, 30, generator=generator)
    features[:, 0] += torch.tensor([3.0 if name == "cat" else -3.0 for name in label])
    return data, features


def test_more_shots_help_and_classes_with_fewer_are_named(problem):
    data, features = problem
    labelled = labelled_rows(data, data)
    curve = few_shot_curve(features[labelled.rows], labelled, data, shots=(1, 4, 8), draws=3, seed=0)
    means = [one.hits.mean() for one in curve]
    assert means[-1] > means[0] + 0.05
    assert [one.training_samples for one in curve] == [3, 11, 19]  # the class of three gives what it has
    assert [one.short for one in curve] == [{}, {"few": 3}, {"few": 3}]
    assert curve[0].hits.shape == (3, 20)
    assert len({tuple(row) for row in curve[0].hits.tolist()}) > 1  # the draws differ


def test_shots_are_nested_and_come_from_different_families_first(problem):
    data, _ = problem
    labelled = labelled_rows(data, data)
    codes = data.codes("family")[labelled.rows]
    order = fewshot._order(
        labelled.folds[0].train,
        labelled.labels.numpy(),
        codes,
        data.codes("id")[labelled.rows],
        seed=0,
        draw=0,
    )
    assert set(order.first(2)) < set(order.first(4))
    eight = [place for place in order.first(8) if labelled.names[labelled.labels[place]] == "dog"]
    assert len(eight) == len({int(codes[place]) for place in eight}) == 8
    other = fewshot._order(
        labelled.folds[0].train,
        labelled.labels.numpy(),
        codes,
        data.codes("id")[labelled.rows],
        seed=0,
        draw=1,
    )
    assert set(order.first(2)) != set(other.first(2))


def test_the_result_has_a_metric_for_every_number_of_shots(squares, model):
    result = evaluate_fewshot(model, squares.where("split=test"), squares, where="split=test", shots=(1, 2))
    assert result["metrics"]["top1"] == result["metrics"]["2shot_top1"] == 100
    assert set(result["metrics"]) == set(result["interval"]) == set(result["chance"])
    assert {name.partition("_")[0] for name in result["metrics"]} >= {"1shot", "2shot"}
    assert result["fewshot"]["curve"][1]["classes_with_fewer"] == 4  # one training square of each colour
    assert result["fewshot"]["curve"][1]["fewest"] == {"blue": 1, "green": 1, "red": 1, "white": 1}
    assert result["samples"] == 6


def test_an_interval_over_draws_is_wider_than_one_over_samples_alone():
    random = np.random.default_rng(0)
    hits = (random.random((5, 400)) < np.array([0.2, 0.4, 0.5, 0.6, 0.8])[:, None]).astype(float)
    groups, weights = np.arange(400), np.ones(400)
    statistic = mean_over_draws(hits, groups, weights, seed=0)
    assert on_the_sample(statistic, groups=400) == pytest.approx(hits.mean())
    spread = bootstrap({"x": statistic}, groups=400, draws=400)["x"].std()
    alone = bootstrap(
        {"x": mean_over_draws(hits.mean(0, keepdims=True), groups, weights, seed=0)}, groups=400, draws=400
    )["x"].std()
    assert spread > 3 * alone
    assert alone == pytest.approx(hits.mean(0).std() / 20, rel=0.15)
