import numpy as np
import pytest

from frugalclip.curation.selection import cluster_places, cluster_quotas, selection_keys

SIZES = np.array([100, 36, 4, 1, 0])


@pytest.mark.parametrize("quota", ["proportional", "sqrt", "equal"])
@pytest.mark.parametrize("target", [0, 1, 5, 37, 140, 141, 500])
def test_quotas_sum_to_the_target_and_ask_no_cluster_for_more_than_it_has(quota: str, target: int):
    quotas = cluster_quotas(SIZES, target, quota)
    assert quotas.sum() == min(target, 141)
    assert ((quotas >= 0) & (quotas <= SIZES)).all()


def test_quotas_follow_sizes_their_roots_or_nothing():
    assert cluster_quotas(np.array([100, 36, 4]), 35, "proportional").tolist() == [25, 9, 1]
    assert cluster_quotas(np.array([100, 36, 4]), 9, "sqrt").tolist() == [5, 3, 1]
    assert cluster_quotas(np.array([100, 36, 4]), 30, "equal").tolist() == [13, 13, 4]


def test_places_are_counted_within_each_cluster():
    labels, keys = np.array([1, 0, 1, 1, 0]), np.array([0.3, 0.1, 0.2, 0.2, 0.0])
    assert cluster_places(labels, keys).tolist() == [2, 1, 0, 1, 0]
    distances, draws = np.array([0.5, 0.1]), np.array([0.9, 0.2])
    assert selection_keys("nearest", distances, draws).tolist() == [0.5, 0.1]
    assert selection_keys("farthest", distances, draws).argmin() == 0
    assert selection_keys("stratified", distances, draws).argmin() == 1
