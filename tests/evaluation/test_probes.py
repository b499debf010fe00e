import pytest
import torch

from frugalclip.core.errors import DataError
from frugalclip.evaluation.probes import choose_strength, evaluate_knn, evaluate_probe, knn_votes


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


def test_the_strength_is_large_for_clean_features_and_small_for_noise():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 2
    clean = torch.nn.functional.one_hot(labels).float() * 0.01 + torch.randn(120, 2, generator=generator) * 0.001
    noisy = torch.cat([clean * 100 + torch.randn(120, 2, generator=generator), torch.randn(120, 60, generator=generator)], dim=1)
    assert choose_strength(noisy, labels, classes=2) < 1 < 10 * choose_strength(clean, labels, classes=2)
