import numpy as np
import pytest

from frugalclip.curation.keepers import Pairs, choose_keepers, search_keepers


def pairs_of(*pairs: tuple[int, int, float]) -> Pairs:
    columns = np.array(pairs, dtype=np.float64).reshape(-1, 3).T
    return Pairs(columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2])


def test_a_chain_of_likenesses_is_split():
    """1 is like 0, and 2 like 1 only: 2 is unlike what stays for 1, so it stays."""
    keepers, similarity = choose_keepers(pairs_of((0, 1, 0.97), (1, 2, 0.97)), np.arange(3))
    assert keepers.tolist() == [0, 0, 2]
    assert similarity[1] == 0.97
    assert np.isnan(similarity[[0, 2]]).all()


def test_the_preferred_row_stays_and_the_most_similar_keeper_is_named():
    pairs = pairs_of((0, 1, 0.9), (1, 2, 0.95), (0, 2, 0.92))
    assert choose_keepers(pairs, np.array([2, 1, 0]))[0].tolist() == [2, 2, 2]
    apart = pairs_of((0, 1, 0.9), (1, 2, 0.95))  # 0 and 2 both stay
    assert choose_keepers(apart, np.array([0, 2, 1]))[0].tolist() == [0, 2, 2]


def test_no_pairs_drop_nothing():
    assert choose_keepers(pairs_of(), np.arange(3))[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_what_stays_is_unlike_each_other_and_a_second_call_drops_nothing(seed: int):
    random = np.random.default_rng(seed)
    near = np.triu(random.random((30, 30)) < 0.1, 1)
    first, second = np.nonzero(near)
    pairs, order = Pairs(first, second, random.random(len(first))), random.permutation(30)
    keepers, _ = choose_keepers(pairs, order)
    stays = keepers == np.arange(30)
    assert not near[np.ix_(stays, stays)].any()
    assert all(
        near[min(row, keeper), max(row, keeper)] for row, keeper in enumerate(keepers) if row != keeper
    )
    assert stays[keepers].all()


@pytest.mark.parametrize("seed", range(20))
def test_a_search_that_finds_few_neighbours_leaves_nothing_to_a_second_call(seed: int):
    """Each row finds its nearest two; a row whose keeper goes later stays, or has another keeper."""
    random, least = np.random.default_rng(seed), 0.8
    points = random.random((60, 2))
    alike = 1 - np.abs(points[:, None] - points[None]).max(axis=2)

    def kept(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        def nearest(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            own = alike[np.ix_(rows[some], rows[some])] - 2 * np.eye(len(some))
            ends, others = np.repeat(np.arange(len(some)), 2), np.argsort(-own, axis=1)[:, :2].reshape(-1)
            return np.divmod(np.unique(np.minimum(ends, others) * 60 + np.maximum(ends, others)), 60)

        order = np.argsort(preference[rows])
        return search_keepers(order, [nearest], lambda a, b: alike[rows[a], rows[b]], least=least)

    preference = random.permutation(60)
    keepers, similarity = kept(np.arange(60))
    stays = np.flatnonzero(keepers == np.arange(60))
    gone = np.setdiff1d(np.arange(60), stays)
    assert np.isin(keepers, stays).all()
    assert (similarity[gone] == alike[gone, keepers[gone]]).all()
    assert (similarity[gone] >= least).all()
    assert (kept(stays)[0] == np.arange(len(stays))).all()
