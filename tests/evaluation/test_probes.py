import numpy as np
import pytest
import torch

from frugalclip.core.errors import DataError
from frugalclip.core.numerics import softmax_regression
from frugalclip.core.random import uniform
from frugalclip.evaluation.probes import HELD_OUT, choose_strength, evaluate_knn, evaluate_probe, knn_votes


@pytest.mark.parametrize("evaluate", [evaluate_probe, evaluate_knn])
def test_learns_from_the_training_rows_alone(squares, model, evaluate):
    result = evaluate(model, squares.where("split=test"), squares, where="split=test")
    assert result["samples"] == 6
    assert result["left_out"] == {"without a class of the training rows": 1}  # nothing to learn dark blue from
    assert result["metrics"]["top1"] == result["metrics"]["mean_per_class"] == 100
    assert result["chance"] == {"top1": 25, "top5": 100, "mean_per_class": 25}
    assert result[result["task"]]["training_samples"] == 4


def test_judged_rows_are_never_learned_from(squares, model):
    with pytest.raises(DataError, match="every split=train row of squares is judged too"):
        evaluate_knn(model, squares.where("split=train"), squares)


def test_votes_equal_their_formula_written_as_loops():
    generator = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(30, 4, generator=generator), dim=1)
    labels = torch.arange(30) % 3
    votes = knn_votes(unit[:5], unit[5:], labels[5:], classes=3, k=6)
    for row, query in enumerate(unit[:5]):
        nearest = sorted(range(25), key=lambda j: -float(query @ unit[5 + j]))[:6]
        expected = [sum(float(torch.exp((query @ unit[5 + j] - 1) / 0.07)) for j in nearest if labels[5 + j] == c) for c in range(3)]
        assert votes[row].tolist() == pytest.approx(expected, rel=1e-4)


def test_no_strength_of_the_coarse_grid_is_better_on_the_held_out_rows():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % 2
    features = torch.randn(80, 30, generator=generator)
    features[:, 0] += 2 * labels
    is_out = torch.from_numpy(uniform(0, "probe", np.arange(80), 1)[:, 0] < HELD_OUT)

    def accuracy(strength: float) -> float:
        fit = softmax_regression(features[~is_out], labels[~is_out], strength=strength)
        return float((fit.logits(features[is_out]).argmax(1) == labels[is_out]).double().mean())

    grid = [accuracy(10.0**power) for power in (-6, -4, -2, 0, 2, 4)]
    assert len(set(grid)) > 1  # it matters
    assert accuracy(choose_strength(features, labels, classes=2)) >= max(grid)
    assert choose_strength(features[:1], labels[:1], classes=2) == 1  # nothing to hold out
