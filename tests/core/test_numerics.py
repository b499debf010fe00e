import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frugalclip.core.errors import DataError
from frugalclip.core.numerics import (
    cluster_means,
    evenly_spaced,
    keep_top_k,
    kmeans,
    nearest_centres,
    softmax_regression,
    top_k,
)


def problem(samples: int = 40, width: int = 5, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(samples, width, generator=generator), torch.randint(
        0, classes, (samples,), generator=generator
    )


@pytest.mark.parametrize(
    ("rows", "most", "kept"),
    [(7, 3, [0, 3, 6]), (7, 2, [0, 6]), (7, 1, [0]), (3, 9, [0, 1, 2]), (0, 5, [])],
)
def test_evenly_spaced_rows_begin_and_end_with_the_data(rows: int, most: int, kept: list[int]):
    assert evenly_spaced(np.arange(rows), most).tolist() == kept


@pytest.mark.parametrize("strength", [1e-6, 1e-3, 0.3, 30.0, 1e4])
def test_the_gradient_written_as_loops_is_zero_at_every_strength(strength):
    x, y = problem()
    fit = softmax_regression(x, y, strength=strength)
    chance = fit.logits(x).softmax(1).numpy()
    weight_gradient, bias_gradient = fit.weight.numpy().copy(), np.zeros(3)
    for row, label, p in zip(x.double().numpy(), y.tolist(), chance, strict=True):
        for c in range(3):
            weight_gradient[c] += strength * (p[c] - (c == label)) * row
            bias_gradient[c] += strength * (p[c] - (c == label))
    scale = strength * len(x)
    assert np.abs(weight_gradient).max() < 1e-7 * max(scale, scale**0.5)
    assert np.abs(bias_gradient).max() < 1e-7 * max(scale, scale**0.5)
    entropy = -sum(np.log(p[label]) for p, label in zip(chance, y.tolist(), strict=True))
    assert fit.objective == pytest.approx(
        strength * entropy + 0.5 * float(fit.weight.square().sum()), rel=1e-10
    )
    assert float(fit.bias.mean()) == pytest.approx(0, abs=1e-12)


def test_the_bias_is_free():
    x, y = torch.zeros(10, 2), torch.tensor([0] * 7 + [1] * 3)
    fit = softmax_regression(
        x, y, strength=1e-3
    )  # so strong a penalty would leave no trace of the shares in a penalised bias
    assert fit.logits(torch.zeros(1, 2)).softmax(1)[0].tolist() == pytest.approx([0.7, 0.3], abs=1e-6)


def test_what_cannot_be_fitted_is_named():
    x, y = problem()
    with pytest.raises(DataError, match="no training samples"):
        softmax_regression(x[:0], y[:0], strength=1.0)
    with pytest.raises(DataError, match="labels run from 0 to 2, expected 0 to 1"):
        softmax_regression(x, y, strength=1.0, classes=2)
    with pytest.raises(DataError, match="not finite for row"):
        softmax_regression(x.masked_fill(x > 1, float("nan")), y, strength=1.0)


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(1, 8)
)
def test_top_k_takes_the_first_of_equals(rows, k):
    values, columns = top_k(torch.tensor(rows).float(), k)
    for row, value, column in zip(rows, values.tolist(), columns.tolist(), strict=True):
        expected = sorted(range(6), key=lambda j: (-row[j], j))[:k]
        assert column == expected
        assert value == [row[j] for j in expected]


def test_keeping_the_largest_leaves_zeros_elsewhere():
    scores = torch.tensor([[0.2, 0.7, 0.7, 0.1], [0.0, 0.0, 0.0, -1.0]])
    assert keep_top_k(scores, 1).tolist() == [[0, pytest.approx(0.7), 0, 0], [0, 0, 0, 0]]
    assert keep_top_k(scores, 9).equal(scores)


def test_features_that_all_point_one_way_are_fitted_too():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 4
    features = torch.randn(200, 16, generator=generator, dtype=torch.float64) * torch.logspace(
        0, -3, 16, dtype=torch.float64
    )
    features[:, 9] += 0.01 * labels
    plain = softmax_regression(features, labels, strength=1e3)
    moved = softmax_regression(
        features + 50, labels, strength=1e3, steps=200, tolerance=1e-9
    )  # the bias takes up the shift
    assert moved.gradient < 1e-6
    assert moved.objective == pytest.approx(plain.objective, rel=1e-7)
    assert torch.allclose(moved.weight, plain.weight, atol=1e-3)


def test_more_features_than_samples_are_fitted_on_what_the_samples_span():
    x, y = problem()
    wide = torch.cat([x, torch.zeros(len(x), 2 * len(x))], dim=1)
    fit, narrow = softmax_regression(wide, y, strength=2.0), softmax_regression(x, y, strength=2.0)
    assert fit.objective == pytest.approx(narrow.objective, rel=1e-9)
    assert torch.allclose(fit.weight[:, : x.shape[1]], narrow.weight, atol=1e-6)


def blobs(points: int = 90, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(points, 3, generator=generator, dtype=torch.float64)
        + 8 * torch.eye(3, dtype=torch.float64)[torch.arange(points) % 3]
    )


def lloyd(
    points: list[list[float]], centres: list[list[float]], steps: int
) -> tuple[list[list[float]], list[int], list[float]]:
    """The algorithm as loops; an empty centre stays."""

    def nearest() -> tuple[list[int], float]:
        labels, total = [], 0.0
        for point in points:
            distances = [sum((a - b) ** 2 for a, b in zip(point, centre, strict=True)) for centre in centres]
            labels.append(distances.index(min(distances)))
            total += min(distances)
        return labels, total

    path = []
    for _ in range(steps):
        labels, total = nearest()
        path.append(total)
        members = [
            [p for p, label in zip(points, labels, strict=True) if label == k] for k in range(len(centres))
        ]
        centres = [
            [sum(x) / len(own) for x in zip(*own, strict=True)] if own else old
            for own, old in zip(members, centres, strict=True)
        ]
    labels, total = nearest()
    return centres, labels, [*path, total]


@pytest.mark.parametrize("chunk", [7, 8192])
def test_kmeans_from_given_centres_is_lloyds_algorithm(chunk):
    points = blobs(40)
    start = torch.cat([points[:4], torch.full((1, 3), 99.0, dtype=torch.float64)])  # the last one is nobody's
    found = kmeans(points, 5, start=start, steps=6, chunk=chunk)
    centres, labels, path = lloyd(points.tolist(), start.tolist(), 6)
    assert found.labels.tolist() == labels
    torch.testing.assert_close(found.centres, torch.tensor(centres, dtype=torch.float64), rtol=0, atol=1e-9)
    assert [*found.path, found.objective] == pytest.approx(path, rel=1e-9)
    assert found.centres[4].tolist() == [99, 99, 99]


def test_the_objective_of_kmeans_never_rises_and_the_best_start_is_kept():
    points = blobs()
    found = kmeans(points, 7, steps=15, generator=torch.Generator().manual_seed(3))
    path = [*found.path, found.objective]
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(path)) and path[-1] < path[0]
    generator = torch.Generator().manual_seed(3)
    alone = [kmeans(points, 7, steps=15, generator=generator).objective for _ in range(4)]
    best = kmeans(points, 7, steps=15, restarts=4, generator=torch.Generator().manual_seed(3))
    assert best.objective == pytest.approx(min(alone)) and min(alone) < max(alone)


def test_rounding_does_not_choose_among_starts_that_end_in_the_same_clusters():
    points = torch.randn(6, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    nearly = points + 1e-15
    for seed in range(40):
        one, other = (
            kmeans(x, 5, steps=3, restarts=3, generator=torch.Generator().manual_seed(seed)).labels
            for x in (points, nearly)
        )
        assert one.equal(other)


def test_kmeans_finds_separate_groups_and_moves_with_the_points():
    points = blobs()
    found = kmeans(points, 3, restarts=5, generator=torch.Generator().manual_seed(0))
    assert {tuple(found.labels[i::3].unique().tolist()) for i in range(3)} == {(0,), (1,), (2,)}
    moved = kmeans(points + 50, 3, restarts=5, generator=torch.Generator().manual_seed(0))
    assert moved.labels.equal(found.labels)
    torch.testing.assert_close(moved.centres, found.centres + 50, rtol=0, atol=1e-9)
    assert nearest_centres(points, found.centres, chunk=11).equal(found.labels)


def test_a_random_start_leaves_no_centre_without_points():
    points = torch.cat([torch.zeros(50, 2), torch.tensor([[5.0, 5], [9, 9]])])
    for seed in range(10):
        found = kmeans(points, 3, generator=torch.Generator().manual_seed(seed))
        assert found.objective == pytest.approx(0, abs=1e-9), "most starts have two centres at one place"


def test_as_many_clusters_as_points_and_one_cluster_and_too_many():
    points = blobs(9)
    assert kmeans(points, 9, generator=torch.Generator()).objective == pytest.approx(0, abs=1e-9)
    one = kmeans(points, 1, generator=torch.Generator())
    torch.testing.assert_close(one.centres[0], points.mean(dim=0))
    assert one.objective == pytest.approx((points - points.mean(dim=0)).square().sum().item())
    with pytest.raises(
        DataError, match="9 points cannot form 10 clusters; set the number of clusters to 9 or less"
    ):
        kmeans(points, 10)


def test_cluster_means_match_loops_and_leave_rows_for_unused_labels():
    features, labels = blobs(10), torch.tensor([0, 3, 3, 1, 0, 0, 3, 1, 1, 1])
    means = cluster_means(features, labels, 5)
    for k in range(5):
        own = [features[i].tolist() for i in range(10) if labels[i] == k]
        expected = [sum(x) / len(own) for x in zip(*own, strict=True)] if own else [0, 0, 0]
        assert means[k].tolist() == pytest.approx(expected, abs=1e-12)
    stands_in = torch.arange(15.0, dtype=torch.float64).view(5, 3)
    kept = cluster_means(features, labels, 5, empty=stands_in)
    assert kept[[2, 4]].equal(stands_in[[2, 4]]) and kept[[0, 1, 3]].equal(means[[0, 1, 3]])


def test_back_translation_is_linear_keeps_sums_and_follows_the_numbering():
    images, texts = blobs(30), blobs(30, seed=1)
    labels = kmeans(texts, 4, generator=torch.Generator().manual_seed(0)).labels
    means = cluster_means(images, labels, 6)
    combined = cluster_means(2 * images - 3 * texts, labels, 6)
    torch.testing.assert_close(combined, 2 * means - 3 * cluster_means(texts, labels, 6), rtol=0, atol=1e-12)
    counts = torch.bincount(labels, minlength=6)
    torch.testing.assert_close((counts[:, None] * means).sum(dim=0), images.sum(dim=0), rtol=0, atol=1e-9)
    order = torch.tensor([3, 5, 1, 0, 4, 2])  # new number k is old number order[k]
    torch.testing.assert_close(
        cluster_means(images, order.argsort()[labels], 6), means[order], rtol=0, atol=1e-12
    )


def test_own_labels_on_own_features_give_the_centres_once_settled():
    points = blobs()
    found = kmeans(points, 3, steps=50, restarts=3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cluster_means(points, found.labels, 3), found.centres, rtol=0, atol=1e-9)
