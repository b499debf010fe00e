import numpy as np
import pytest
import torch

from frugalclip.core.errors import DataError
from frugalclip.core.numerics import softmax_regression
from frugalclip.evaluation.classifiers import (
    COARSE,
    Examples,
    choose_strength,
    knn_votes,
    linear_probe,
    neighbours,
    search,
)
from frugalclip.evaluation.probes import evaluate_knn, evaluate_probe


@pytest.mark.parametrize("evaluate", [evaluate_probe, evaluate_knn])
def test_learns_from_the_training_rows_alone(squares, model, evaluate):
    result = evaluate(model, squares.where("split=test"), squares, where="split=test")
    assert result["samples"] == 6
    assert result["left_out"] == {
        "without a class of the training rows": 1
    }  # nothing to learn dark blue from
    assert result["metrics"]["top1"] == result["metrics"]["mean_per_class"] == 100
    assert result["chance"] == {"top1": 25, "top5": 100, "mean_per_class": 25}
    assert result[result["task"]]["training_samples"] == 4
    assert result["split"]["test"] == 6
    assert result["split_hash"] == squares.where("split=test").fingerprint()


def test_test_rows_never_train(squares, model):
    with pytest.raises(DataError, match="every split=train row of squares is a test row too"):
        evaluate_knn(model, squares.where("split=train"), squares)


def test_a_model_without_a_pooled_layer_can_be_evaluated_on_its_embedding(squares, model):
    calls = []

    def spy(manifest, *, layer="embedding"):
        calls.append(layer)
        return type(model).image_features(model, manifest)

    model.image_features = spy
    assert evaluate_probe(model, squares.where("split=test"), squares)["probe"]["features"] == "embedding"
    assert (
        evaluate_probe(model, squares.where("split=test"), squares, layer="pooled")["probe"]["features"]
        == "pooled"
    )
    assert calls == ["embedding", "pooled"]


def test_votes_equal_their_formula_written_as_loops():
    generator = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(30, 4, generator=generator), dim=1)
    labels = torch.arange(30) % 3
    votes = knn_votes(unit[:5], unit[5:], labels[5:], classes=3, k=6)
    for row, query in enumerate(unit[:5]):
        nearest = sorted(range(25), key=lambda j: -float(query @ unit[5 + j]))[:6]
        expected = [
            sum(float(torch.exp((query @ unit[5 + j] - 1) / 0.07)) for j in nearest if labels[5 + j] == c)
            for c in range(3)
        ]
        assert votes[row].tolist() == pytest.approx(expected, rel=1e-4)


def noisy_classes(rows: int, *, seed: int = 0) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 2
    features = torch.randn(rows, 30, generator=generator)
    features[:, 0] += 2 * labels
    return Examples(features, labels)


def accuracy(train: Examples, test: Examples, strength: float) -> float:
    fit = softmax_regression(train.features, train.labels, strength=strength, classes=2)
    return float((fit.logits(test.features).argmax(1) == test.labels).double().mean())


def test_no_strength_of_the_coarse_grid_is_better_on_the_validation_rows():
    train, validation = noisy_classes(60), noisy_classes(40, seed=1)
    grid = [accuracy(train, validation, 10.0**power) for power in COARSE]
    assert len(set(grid)) > 1  # it matters
    assert accuracy(train, validation, choose_strength([(train, validation)], classes=2)) >= max(grid)
    assert choose_strength([(train, noisy_classes(0))], classes=2) == 1  # nothing to tune on


def test_the_search_narrows_to_the_best_place_and_prefers_the_smaller_of_equals():
    assert search(lambda place: -abs(place - 1.4), coarse=COARSE, finest=1 / 8) == pytest.approx(1.375)
    assert search(lambda place: float(place >= 2), coarse=COARSE, finest=1 / 8) == 2.0
    assert search(lambda place: 0.0, coarse=COARSE, finest=1 / 8) == -6.0


def test_the_probe_learns_again_from_training_and_validation_rows_together():
    train, validation, test = noisy_classes(40), noisy_classes(40, seed=1), noisy_classes(10, seed=2)
    found = linear_probe(train, validation, test.features, classes=2)
    both = train + validation
    fit = softmax_regression(both.features, both.labels, strength=found.settings["strength"], classes=2)
    assert found.settings["training_samples"] == 80
    torch.testing.assert_close(found.scores, fit.logits(test.features), atol=1e-3, rtol=1e-3)


def test_neighbours_are_as_many_as_served_the_validation_rows_best():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 2
    features = torch.stack([2.0 * labels - 1, torch.ones(300)], dim=1) + 1.5 * torch.randn(
        300, 2, generator=generator
    )
    train, validation = Examples(features[:150], labels[:150]), Examples(features[150:], labels[150:])
    found = neighbours(train, validation, validation.features, classes=2)
    assert found.settings["neighbours"] > 1  # one neighbour follows the noise

    def right(k: int, temperature: float) -> int:
        unit = [torch.nn.functional.normalize(x, dim=1) for x in (validation.features, train.features)]
        return int(
            (
                knn_votes(*unit, train.labels, classes=2, k=k, temperature=temperature).argmax(1)
                == validation.labels
            ).sum()
        )

    assert right(found.settings["neighbours"], found.settings["temperature"]) >= max(
        right(k, 0.07) for k in (1, 3, 5, 10, 20)
    )
    assert (
        neighbours(train, Examples(features[:0], labels[:0]), features[:3], classes=2).settings["neighbours"]
        == 20
    )


def test_intervals_of_classes_use_the_groups_of_the_data(squares, model):
    result = evaluate_probe(model, squares.where("split=test"), squares, group="pair")
    assert (result["interval_over"], result["interval_groups"], result["bootstrap"]["groups"]) == (
        "pair",
        "as requested",
        3,
    )
    assert np.isfinite(result["interval"]["top1"]).all()
