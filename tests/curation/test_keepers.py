import numpy as np
import pytest

from frugalclip.curation.keepers import Pairs, choose_keepers


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
