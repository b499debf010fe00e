import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frugalclip.evaluation.ranking import chance_ranks, cosine_scores, padded, rank_positives


def by_every_order(scores: list[float], positives: list[int], k: int) -> tuple[float, float]:
    """(share of hits at k, mean rank of the first positive) over all orders of the candidates."""
    hits, ranks = [], []
    for order in itertools.permutations(range(len(scores))):
        ranked = sorted(order, key=lambda j: -scores[j])
        rank = min(ranked.index(p) for p in positives) + 1
        hits.append(rank <= k)
        ranks.append(rank)
    return sum(hits) / len(hits), sum(ranks) / len(ranks)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.data())
def test_hits_and_ranks_are_the_mean_over_every_order_of_ties(scores, data):
    positives = data.draw(st.lists(st.integers(0, len(scores) - 1), min_size=1, max_size=3, unique=True))
    k = data.draw(st.integers(1, 6))
    ranks = rank_positives(lambda rows: torch.tensor([scores]).float(), padded([positives]))
    hits, rank = by_every_order(scores, positives, k)
    assert float(ranks.hits(k)) == pytest.approx(hits, abs=1e-12)
    assert float(ranks.expected()) == pytest.approx(rank, abs=1e-12)


def test_a_collapsed_model_gets_exactly_chance():
    positives = padded([[0], [1, 2], [3, 4, 5], [6]])
    same = torch.ones(4, 3)
    ranks, chance = (
        rank_positives(cosine_scores(same, torch.ones(7, 3)), positives),
        chance_ranks(positives, 7),
    )
    for k in (1, 3, 5, 7):
        assert torch.equal(ranks.hits(k), chance.hits(k))
    assert torch.equal(ranks.expected(), chance.expected())


def test_chance_is_the_hypergeometric_one():
    ranks = chance_ranks(padded([[0], [0, 1, 2]]), 20)
    for k in (1, 5, 10):
        expected = [1 - math.comb(20 - p, k) / math.comb(20, k) for p in (1, 3)]
        assert ranks.hits(k).tolist() == pytest.approx(expected, abs=1e-12)


def test_differences_below_float32_are_ties_and_larger_ones_are_not():
    ranks = rank_positives(
        lambda rows: torch.tensor([[0.5, 0.5 + 2e-7], [0.5, 0.5 + 1e-4]]), padded([[0], [0]])
    )
    assert ranks.hits(1).tolist() == [0.5, 0.0]


def test_chunks_change_nothing():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (50, 9), generator=generator).float()
    positives = padded([[i % 9, (i * 2) % 9] if i % 9 != (i * 2) % 9 else [i % 9] for i in range(50)])
    whole, parts = (rank_positives(lambda rows: scores[rows], positives, chunk=chunk) for chunk in (1000, 7))
    assert torch.equal(whole.hits(2), parts.hits(2))
    assert torch.equal(whole.expected(), parts.expected())
    assert len(rank_positives(lambda rows: scores[rows], padded([]))) == 0
