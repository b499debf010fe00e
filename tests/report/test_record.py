import math

import pytest

from frugalclip.report.record import read_run


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        ("contrastive: {weight: 0.5, reduction: sum}", math.log(32)),
        ("contrastive: {weight: 1}, sigmoid: {weight: 0}", math.log(32)),
        ("mine: {kind: contrastive}", math.log(32)),
        ("contrastive: {}, sigmoid: {}", None),
        ("sigmoid: {}", None),
    ],
)
def test_the_loss_of_guessing_is_known_for_one_contrastive_objective(make_run, rows, objectives, expected):
    run = make_run(
        rows=rows, evaluations=None, recipe=f"objectives: {{{objectives}}}\nbatch: 32\nsteps: 40\n"
    )
    assert read_run(run).chance_loss() == (None if expected is None else pytest.approx(expected))


def test_the_logged_chance_wins_over_the_batch(make_run, rows):
    rows[-1]["contrastive/chance"] = 2.0
    assert read_run(make_run(rows=rows, evaluations=None)).chance_loss() == 2.0
