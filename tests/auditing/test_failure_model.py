"""The regression of accuracies, its intervals, and the shipped table."""

from dataclasses import replace
from math import comb

import numpy as np
import pytest

from frugalclip.auditing.failing import pairs_needed
from frugalclip.auditing.failure_check import Measured, Scores, auroc, check, failing
from frugalclip.auditing.failure_fit import (
    Outcomes,
    ceiling,
    coverage,
    fit,
    held_out,
    held_out_intervals,
    regression,
)
from frugalclip.auditing.failure_model import NAMES, FailureModel, shipped_model

RANDOM = np.random.default_rng(0)


def planted(outcomes: int = 600, precision: float = 20.0) -> tuple[Outcomes, np.ndarray]:
    """Outcomes whose log odds follow two numbers, in four sources, and the true accuracies."""
    random = np.random.default_rng(1)
    numbers = random.standard_normal((outcomes, len(NAMES)))
    truth = 1 / (1 + np.exp(-(1.2 * numbers[:, 0] - 0.8 * numbers[:, 6])))
    own = random.beta(truth * precision, (1 - truth) * precision)
    images = random.integers(10, 40, outcomes)
    accuracies = random.binomial(images, own) / images
    sources = np.arange(outcomes) % 4
    names = [f"class {row // 8}" for row in range(outcomes)]
    return Outcomes(numbers, accuracies, images, np.arange(outcomes) // 20, sources, names), truth


def test_planted_weights_come_back_and_intervals_hold():
    outcomes, truth = planted()
    model = fit(outcomes)
    assert np.corrcoef(model.accuracy(outcomes.numbers), truth)[0, 1] > 0.97
    weights = np.array(model.weight) / np.array(model.deviation)
    assert weights[0] == pytest.approx(1.2, abs=0.25)
    assert weights[6] == pytest.approx(-0.8, abs=0.25)
    assert 10 < model.precision < 60  # at least 80 % of counts lie inside, so intervals err on the wide side
    assert 0.78 <= coverage(model, held_out(outcomes), outcomes) <= 0.9


def test_held_out_predictions_do_not_see_their_source():
    outcomes, _ = planted()
    changed = outcomes.accuracies.copy()
    changed[outcomes.sources == 0] = 0.0
    other = replace(outcomes, accuracies=changed)
    own = outcomes.sources == 0
    assert held_out(outcomes)[own] == pytest.approx(held_out(other)[own])
    assert held_out(outcomes)[~own] != pytest.approx(held_out(other)[~own])


def test_intervals_are_those_of_the_formula():
    model = replace(shipped_model(), precision=6.0)
    chances = model.distribution(1 / 3, 5)  # beta of 2 and 4
    exact = [comb(5, k) * _beta(k + 2, 5 - k + 4) / _beta(2, 4) for k in range(6)]
    assert chances == pytest.approx(np.cumsum(exact), abs=1e-12)
    low, high = model.interval(1 / 3, 5)
    inside = sum(exact[k] for k in range(round(5 * low), round(5 * high) + 1))
    assert inside >= 0.8


@pytest.mark.parametrize("accuracy", [0.02, 0.3, 0.5, 0.9])
def test_no_other_span_is_shorter_and_holds_as_much(accuracy: float):
    model, images = replace(shipped_model(), precision=6.0), 13
    through = np.r_[0.0, model.distribution(accuracy, images)]
    spans = [(b - a, a, b - 1) for a in range(14) for b in range(a + 1, 15) if through[b] - through[a] >= 0.8]
    low, high = model.interval(accuracy, images)
    length = round(images * (high - low)) + 1
    assert length == min(spans)[0]
    assert (length, round(images * low), round(images * high)) in spans


def test_the_ceiling_rises_with_test_images_and_falls_to_chance_for_equal_classes():
    outcomes, truth = planted()
    few, many = (replace(outcomes, images=np.full(600, n)) for n in (4, 400))
    drawn = [replace(one, accuracies=RANDOM.binomial(one.images, truth) / one.images) for one in (few, many)]
    assert ceiling(drawn[0], draws=5) < 0.9 < ceiling(drawn[1], draws=5)
    equal = replace(few, images=np.full(600, 20), accuracies=RANDOM.binomial(20, np.full(600, 0.5)) / 20)
    assert ceiling(equal, draws=5) < 0.75


def test_intervals_of_the_mean_are_as_short_as_the_others_allow():
    outcomes, _ = planted()
    found = held_out_intervals(outcomes)
    own = outcomes.sources == 0
    others = outcomes.accuracies[~own]
    low, high = found.plain_low[own][0], found.plain_high[own][0]
    assert ((others >= low) & (others <= high)).mean() >= 0.8
    assert high - low <= np.quantile(others, 0.9) - np.quantile(others, 0.1) + 1e-9
    assert (found.high - found.low).mean() < (found.plain_high - found.plain_low).mean()


def _beta(a: int, b: int) -> float:
    return 1 / ((a + b - 1) * comb(a + b - 2, a - 1))


def test_more_images_and_more_precision_narrow_an_interval():
    model = shipped_model()

    def width(**changes: float) -> float:
        low, high = replace(model, precision=changes.get("precision", 10.0)).interval(
            0.5, int(changes.get("images", 20))
        )
        return high - low

    assert width(images=200) < width(images=10)
    assert width(precision=100.0) < width(precision=3.0)


def test_the_table_survives_its_own_json():
    model = shipped_model()
    assert FailureModel.read(model.content()) == model
    assert model.names == NAMES


def test_pairs_needed_follow_the_growth():
    assert pairs_needed(0.5, 10, target=0.4, growth=1.0) == 0
    odds = 0.2 / 0.8  # a growth of 1 multiplies the odds with the count
    assert pairs_needed(0.2, 9, target=0.5, growth=1.0) == round(10 * (1 / odds - 1))
    assert pairs_needed(0.2, 9, target=0.5, growth=0.0) is None
    assert pairs_needed(0.001, 9, target=0.99, growth=0.5) is None


def test_auroc_counts_pairs_and_ties_by_half():
    score = np.array([0.1, 0.4, 0.4, 0.9])
    fails = np.array([True, True, False, False])
    pairs = [(a, b) for a in score[fails] for b in score[~fails]]
    naive = np.mean([1.0 if a < b else 0.5 if a == b else 0.0 for a, b in pairs])
    assert auroc(score, fails) == pytest.approx(naive)
    assert auroc(score, np.zeros(4, dtype=bool)) is None


def test_the_lowest_third_holds_its_ties():
    assert failing(np.array([0, 0, 0, 0.5, 0.9, 1.0])).sum() == 3
    assert failing(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])).sum() == 2


def test_a_check_compares_with_count_and_names():
    y = np.linspace(0, 1, 9)
    scores = Scores(np.clip(y, 0.05, 0.95), RANDOM.permutation(y), np.zeros(9))
    found = check(scores, Measured(y, np.full(9, 20)), replace(shipped_model(), precision=30.0))
    assert found["auroc"]["forecast"] == 1.0
    assert found["auroc"]["text_only"] == 0.5
    assert found["coverage"] == 1.0
    assert [row["fails"] for row in found["rows"]] == [True] * 3 + [False] * 6


def test_regression_is_the_same_in_any_order():
    outcomes, _ = planted(200)
    order = RANDOM.permutation(200)
    weights = regression(outcomes).weight
    assert regression(outcomes.only(order)).weight == pytest.approx(weights)
