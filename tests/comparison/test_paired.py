"""The paired test: false claims without a difference, power with one, and the arithmetic by hand."""

import math

import numpy as np
import pytest

from frugalclip.comparison.paired import (
    PERCENT,
    FoldOutcomes,
    Pigeonhole,
    common_means,
    estimate,
    holm,
    over_runs,
    paired,
    pigeonhole_interval,
    student_p,
    student_quantile,
    verdict,
)


def block(values, groups=None, weights=None, seeds=None):
    values = np.asarray(values, np.float64)
    ids = np.array([f"i{i:04}" for i in range(values.shape[1])])
    groups = ids if groups is None else np.asarray(groups)
    weights = np.ones(values.shape[1]) if weights is None else np.asarray(weights, np.float64)
    return FoldOutcomes(
        values, groups, weights, ids, tuple(range(len(values))) if seeds is None else tuple(seeds)
    )


def simulate(random, *, runs, families, folds, by_family, by_run, effect):
    """Hits of two arms: families share abilities and favour an arm, runs are better or worse."""
    ability, favour = random.normal(0, 1.5, families), random.normal(0, by_family, families)
    arms: tuple[dict[str, FoldOutcomes], dict[str, FoldOutcomes]] = ({}, {})
    for fold in range(folds):
        here = favour + random.normal(0, by_family / 2, families)
        for arm, sign in zip(arms, (0.5, -0.5), strict=True):
            logits = ability - 0.6 + random.normal(0, by_run, runs)[:, None] + sign * (effect + here)
            arm[str(fold)] = block(random.random((runs, families)) < 1 / (1 + np.exp(-logits)))
    return arms


@pytest.mark.parametrize(("runs", "folds"), [(3, 1), (6, 1), (3, 3)])
@pytest.mark.parametrize(("by_family", "by_run"), [(0.0, 0.0), (0.0, 0.3), (1.0, 0.3)])
def test_no_more_than_the_promised_share_of_false_claims(runs, folds, by_family, by_run):
    random, false = np.random.default_rng(1), 0
    for _ in range(300):
        drawn = simulate(
            random,
            runs=runs,
            families=60,
            folds=folds,
            by_family=by_family,
            by_run=by_run,
            effect=0.0,
        )
        false += (paired(*drawn).p or 0) < 0.05
    assert false / 300 <= 0.07


def test_a_planted_difference_is_found():
    random = np.random.default_rng(2)
    drawn = [
        paired(*simulate(random, runs=3, families=120, folds=3, by_family=0.5, by_run=0.1, effect=0.8))
        for _ in range(60)
    ]
    assert np.mean([found.p < 0.05 and found.value > 0 for found in drawn]) > 0.85
    covered = np.mean(
        [found.interval[0] < np.mean([f.value for f in drawn]) < found.interval[1] for found in drawn]
    )
    assert covered >= 0.9


def test_the_three_components_of_the_variance_are_those_it_was_drawn_with():
    random, found = np.random.default_rng(3), []
    runs, families = 4, 50
    for _ in range(300):
        values = (
            random.normal(0, 0.5, families)
            + random.normal(0, 0.2, runs)[:, None]
            + random.normal(0, 1.0, (runs, families))
        )
        found.append(estimate([block(values)]))
    components = {
        name: np.mean([f.variance[name] for f in found]) for name in ("families", "runs", "residual")
    }
    residual = 1.0 / (runs * families)
    assert components["residual"] == pytest.approx(residual, rel=0.05)
    assert components["families"] == pytest.approx(0.25 / families + residual, rel=0.06)
    assert components["runs"] == pytest.approx(0.04 / runs + residual, rel=0.12)
    true = 0.25 / families + 0.04 / runs + residual
    assert np.var([f.value for f in found]) == pytest.approx(true, rel=0.25)


def test_folds_runs_and_weights_by_hand():
    one = block([[1, 0, 0], [1, 1, 0]], groups=["a", "b", "b"], weights=[2, 1, 1])
    two = block([[0, 0, 1], [0, 1, 1], [1, 1, 1]])
    found = estimate([one, two])
    assert found.value == pytest.approx(((2 / 4 + 3 / 4) / 2 + (1 / 3 + 2 / 3 + 1) / 3) / 2)
    assert (found.runs, found.folds, found.families) == (5, 2, 5)
    assert list(one.means()) == [0.5, 0.75]


def test_only_what_both_have_is_compared():
    arm = block([[1, 1, 1], [0, 1, 1]], seeds=(0, 2))
    reference = block([[0, 0, 1], [0, 0, 0]], seeds=(2, 1))
    both = arm.minus(reference)
    assert both.seeds == (2,)
    assert both.values.tolist() == [[0, 1, 0]]
    assert math.isnan(paired({"x": arm}, {"y": reference}).value)


def test_one_run_cannot_say_and_identical_runs_do_not_differ():
    once = estimate([block([[1, 0, 1, 1]])])
    assert once.interval is None
    assert verdict(once, once.p) == "one seed: cannot say"
    same = block(np.eye(4))
    found = paired({"": same}, {"": same})
    assert (found.value, found.p) == (0.0, 1.0)
    assert verdict(found, found.p) == "not distinguishable"
    always = estimate([block(np.ones((2, 5)))])
    assert always.p == 0.5  # two runs that agree are two coins, however many families


def test_verdicts():
    found = estimate([block(np.random.default_rng(0).random((5, 40)) < 0.8)])
    assert verdict(found, 0.01) == "better"
    assert verdict(found, 0.06) == "not distinguishable"
    worse = estimate([block(-(np.random.default_rng(0).random((5, 40)) < 0.8).astype(float))])
    assert verdict(worse, 0.01) == "worse"


def test_the_bootstrap_agrees_where_there_is_no_residual_and_is_wider_where_there_is_only_that():
    random = np.random.default_rng(4)
    clean = block(random.normal(0.1, 1, 80) + random.normal(0, 0.3, 6)[:, None])
    low, high = pigeonhole_interval([clean], draws=2000)
    found = estimate([clean])
    assert (high - low) / 2 == pytest.approx(1.96 * (found.standard_error or 0), rel=0.08)
    noisy = block(random.normal(0.1, 1, (6, 80)))
    low, high = pigeonhole_interval([noisy], draws=2000)
    assert (high - low) / 2 == pytest.approx(
        1.96 * math.sqrt(3) * noisy.values.std() / math.sqrt(480), rel=0.15
    )


def test_the_same_draws_serve_several_statistics():
    blocks = [block(np.random.default_rng(5).random((3, 20)))]
    shifted = [block(blocks[0].values + 1)]
    holes = Pigeonhole(blocks, draws=50)
    assert np.allclose(holes.means(shifted) - holes.means(blocks), 1)


def test_a_number_of_whole_runs():
    found = over_runs([[1.0, 2.0, 3.0], [5.0, 7.0]])
    assert found.value == pytest.approx(4.0)
    pooled = (2 + 2) / 3
    assert found.standard_error == pytest.approx(math.sqrt(pooled * (1 / 3 + 1 / 2)) / 2)
    assert found.df == 3
    assert over_runs([[1.0], [2.0]]).interval is None


def test_holm_by_hand():
    assert holm([0.01, 0.04, None, 0.03]) == pytest.approx([0.03, 0.06, None, 0.06])
    assert holm([]) == []


@pytest.mark.parametrize(
    ("t", "df", "p"),
    [
        (12.706, 1, 0.05),
        (2.776, 4, 0.05),
        (1.96, 1e6, 0.05),
        (2.0, 10, 0.07338803),
        (31.0, 5, 6.556401703523e-07),
    ],
)
def test_student(t, df, p):
    assert student_p(t, df) == pytest.approx(p, rel=1e-3)  # tables
    assert student_p(-t, df) == student_p(t, df)
    if p == 0.05:
        assert student_quantile(0.95, df) == pytest.approx(t, rel=1e-3)


@pytest.mark.parametrize("hits", [[[100, 100, 100, 0], [100, 100, 100, 100]], [[0, 0, 0, 0], [100, 0, 0, 0]]])
def test_intervals_end_where_percent_ends(hits):
    groups = [f"f{i}" for i in range(4)]
    wide = estimate([block(hits, groups=groups)])
    low, high = estimate([block(hits, groups=groups)], bounds=PERCENT, draws=200).interval or (-1, 101)
    assert wide.interval is not None and (wide.interval[0] < 0 or wide.interval[1] > 100)
    assert 0 <= low <= wide.value <= high <= 100
    assert over_runs([[99.0, 90.0]], bounds=PERCENT).interval == (
        pytest.approx(max(0.0, over_runs([[99.0, 90.0]]).interval[0])),
        100.0,
    )


def test_differences_end_at_a_hundred_points():
    arm = {"": block([[100, 100], [100, 100], [100, 0]], groups=["a", "b"])}
    reference = {"": block([[0, 0], [0, 0], [0, 0]], groups=["a", "b"])}
    low, high = paired(arm, reference).interval or (0.0, 0.0)
    assert -100 <= low < high <= 100


def test_common_means_differ_by_the_paired_difference():
    arm = {"": block([[1, 1, 0], [0, 0, 0], [1, 0, 0]], seeds=(0, 1, 2))}
    reference = {"": block([[0, 1, 0]], seeds=(1,))}
    mine, theirs = common_means(arm, reference)
    assert (mine, theirs) == (0.0, pytest.approx(1 / 3))
    assert paired(arm, reference).value == pytest.approx(mine - theirs)
