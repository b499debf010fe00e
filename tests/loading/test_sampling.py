import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugalclip.core.errors import DataError
from frugalclip.core.random import uniform
from frugalclip.data.manifest import Manifest, concatenate, image_places, make_manifest
from frugalclip.loading.sampling import TURN, Order, Steps, epoch_draws, epoch_order, sampling_weights

ROWS = np.array([3, 4, 8, 11, 12, 20, 21])


def manifest_of(weights: list[float | None] | None, **fields: list[object]) -> Manifest:
    count = len(weights) if weights is not None else len(next(iter(fields.values())))
    ids = [f"r{row}" for row in range(count)]
    return make_manifest(
        ids=ids,
        images=image_places(ids),
        captions=[["x"]] * count,
        weights=weights,
        fields=fields,
        root=Path(),
        name="pairs",
    )


def test_without_weights_the_order_is_what_it_always_was():
    counters = np.stack([ROWS, np.full(len(ROWS), 4)], axis=1)
    expected = ROWS[
        np.argsort(uniform(9, "order", counters, 1)[:, 0], kind="stable")
    ]  # written out: the order is part of the numerics
    assert epoch_order(ROWS, seed=9, epoch=4).tolist() == expected.tolist()
    for weights in (None, np.full(7, 0.1), np.full(7, 3e300)):
        draws = epoch_draws(ROWS, weights, seed=9, epoch=4)
        assert draws.rows.tolist() == expected.tolist()
        assert not draws.turns.any()


def test_known_orders_do_not_move():
    assert epoch_order(np.arange(10), seed=0, epoch=0).tolist() == [8, 3, 0, 2, 7, 4, 6, 9, 5, 1]
    weighted = epoch_draws(np.arange(6), np.array([4.0, 1, 1, 1, 0.5, 0.5]), seed=0, epoch=1)
    assert (weighted.rows.tolist(), weighted.turns.tolist()) == ([1, 0, 2, 0, 3, 0], [0, 0, 0, 2, 0, 1])


@pytest.mark.parametrize("seed", range(3))
def test_every_epoch_is_within_one_draw_of_the_expectation(seed: int):
    weights = np.random.default_rng(seed).pareto(1.0, size=200) + 1e-3
    rows = np.arange(0, 400, 2)
    expected = 200 * weights / weights.sum()
    total = np.zeros(200)
    for epoch in range(400):
        draws = epoch_draws(rows, weights, seed=seed, epoch=epoch)
        assert len(draws.rows) == 200
        counts = np.bincount(draws.rows // 2, minlength=200)
        assert (counts >= np.floor(expected)).all()
        assert (counts <= np.floor(expected) + 1).all()
        total += counts
    # a draw beyond the certain ones is a coin of probability p: 5 standard deviations of the mean of 400
    p = expected - np.floor(expected)
    assert (np.abs(total / 400 - expected) < 5 * np.sqrt(p * (1 - p) / 400) + 1e-9).all()


def test_certain_draws_are_certain_and_turns_count_them():
    weights = np.array(
        [2, 2, 2, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    )  # their sum is their number: these are the expectations
    epochs = [epoch_draws(np.arange(9), weights, seed=0, epoch=epoch) for epoch in range(20)]
    for draws in epochs:
        counts = np.bincount(draws.rows, minlength=9)
        assert (counts[:3] == 2).all()
        assert counts[3:].sum() == 3
        for row in range(9):
            assert sorted(draws.turns[draws.rows == row].tolist()) == list(range(counts[row]))
    assert len({frozenset(draws.rows.tolist()) for draws in epochs}) > 5  # not the same three every time


def test_epochs_do_not_depend_on_what_was_wanted_before():
    weights = np.random.default_rng(0).random(30)
    rows = np.arange(0, 30, 3)
    order = Order(rows, weights, seed=5)
    ahead = [order.epoch(epoch) for epoch in range(4)]
    for epoch in (3, 1, 2):
        again = Order(rows, weights, seed=5).epoch(epoch)
        assert again.rows.tolist() == ahead[epoch].rows.tolist()
        assert again.rows.tolist() == epoch_draws(rows, weights[rows], seed=5, epoch=epoch).rows.tolist()
    assert ahead[0].rows.tolist() != ahead[1].rows.tolist()
    assert ahead[0].rows.tolist() != Order(rows, weights, seed=6).epoch(0).rows.tolist()


def test_neighbours_are_not_tied_to_each_other():
    """In a fixed order, systematic sampling never draws two neighbours of expectation 1/2 in one epoch."""
    weights = np.tile([1.0, 1.0, 4.0], 20)  # expectations 1/2, 1/2, 2
    both = sum(
        np.bincount(epoch_draws(np.arange(60), weights, seed=0, epoch=epoch).rows, minlength=60)[:2].tolist()
        == [1, 1]
        for epoch in range(200)
    )
    assert 25 < both < 75  # about a quarter


def test_one_row_may_outweigh_all():
    draws = epoch_draws(np.arange(5), np.array([1e300, 1e-300, 1e-300, 1e-300, 1e-300]), seed=0, epoch=0)
    assert draws.rows.tolist() == [0] * 5
    assert sorted(draws.turns.tolist()) == [0, 1, 2, 3, 4]
    assert TURN > 2**31


def test_the_recipe_chooses_the_weights():
    manifest = manifest_of([1, 0, None], score=[0.5, 2, 3], word=["a", "b", "c"], gap=[1, None, 2])
    weights = {name: sampling_weights(manifest, name) for name in ("auto", "score")}
    assert weights["auto"].tolist() == [1, 0, 1]  # pyright: ignore[reportOptionalMemberAccess]
    assert weights["score"].tolist() == [0.5, 2, 3]  # pyright: ignore[reportOptionalMemberAccess]
    assert sampling_weights(manifest, "none") is None
    assert sampling_weights(manifest_of(None, score=[1.0]), "auto") is None
    with pytest.raises(DataError, match="no field 'scor'; did you mean 'score'"):
        sampling_weights(manifest, "scor")
    with pytest.raises(DataError, match=r"'word' of pairs holds string, expected numbers; name another"):
        sampling_weights(manifest, "word")
    with pytest.raises(
        DataError,
        match=r"'gap' of pairs cannot weigh its samples: r1 has null, expected a finite .* \(1 are not\)",
    ):
        sampling_weights(manifest, "gap")
    with pytest.raises(DataError, match="every weight of pairs is 0"):
        sampling_weights(manifest_of([0, 0]), "auto")


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_what_is_no_weight_is_refused_where_it_enters(tmp_path: Path, value: float):
    manifest = manifest_of([1, value])
    with pytest.raises(
        DataError, match=r"r1 has .*expected a finite number of at least 0.*data.weights=none"
    ):
        sampling_weights(manifest, "auto")
    with pytest.raises(DataError, match="r1 has"):
        manifest.write(tmp_path / "m.parquet")
    good = manifest_of([1, 2])
    good.write(tmp_path / "m.parquet")
    table = Manifest.read(tmp_path / "m.parquet").table
    bad = table.set_column(table.column_names.index("weight"), "weight", pa.array([1, value]))
    pq.write_table(bad, tmp_path / "bad.parquet")
    with pytest.raises(DataError, match="r1 has"):
        Manifest.read(tmp_path / "bad.parquet")


def test_a_manifest_without_weights_joined_to_one_with_them_counts_as_one():
    joined = concatenate([manifest_of([0.25, 0.5]), manifest_of(None, score=[1, 1])])
    assert joined.weights().tolist() == [0.25, 0.5, 1, 1]


def test_steps_of_processes_are_the_slices_of_one():
    order = Order(np.arange(26), None, seed=0)
    whole = Steps(order, batch=6, rank=0, world=1)
    halves = [Steps(order, batch=3, rank=rank, world=2) for rank in (0, 1)]
    assert whole.per_epoch == halves[0].per_epoch == 4
    places = [list(itertools.islice(steps.places(3), 3)) for steps in (whole, *halves)]
    assert places == [
        [(0, 18), (1, 0), (1, 6)],
        [(0, 18), (1, 0), (1, 6)],
        [(0, 21), (1, 3), (1, 9)],
    ]
