"""Shared numerical routines that return the optimum, not an approximation of it."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.core.finite import VectorOrigin, refuse_vectors

FITTED = VectorOrigin("the model", "feature", error=DataError)
ROUNDING = 1e-5  # relative; a sum of squares in float32 is known that well


def evenly_spaced(rows: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of (rows,), evenly spaced: (kept,)."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(np.int64))]


@dataclass(frozen=True)
class SoftmaxRegression:
    """A fitted linear classifier."""

    weight: Tensor  # (classes, width) float64
    bias: Tensor  # (classes,) float64, mean zero: the softmax defines it up to a constant
    objective: float  # C * sum of cross-entropies + half the squared norm of the weight
    gradient: float  # largest entry of the remaining gradient of the objective divided by C * samples

    def logits(self, features: Tensor) -> Tensor:
        """(samples, classes) float64 for features (samples, width)."""
        return features.double() @ self.weight.T + self.bias


def softmax_regression(
    features: Tensor,
    labels: Tensor,
    *,
    strength: float,
    classes: int | None = None,
    start: Tensor | None = None,
    steps: int = 5000,
    tolerance: float = 1e-11,
) -> SoftmaxRegression:
    """L2-regularised softmax regression by L-BFGS in float64, to its optimum.

    Minimises `C * sum CE + 0.5 * ||W||^2` with C = `strength`; the bias is free. The linear probe of CLIP
    (arXiv 2103.00020, A.3) and the objective that scikit-learn's LogisticRegression states. With `start` W0
    the penalty is on the distance, `0.5 * ||W - W0||^2`, and there is no bias.

    Args:
        features: (samples, width).
        labels: (samples,) int64 in [0, classes).
        strength: C; larger means less regularisation.
        classes: default the largest label plus one.
        start: (classes, width) weights that the penalty holds the classifier near to; default zero.
        steps: L-BFGS steps at most; the gradient that is left is returned, so that a caller can tell.
        tolerance: largest entry of the gradient, of the objective divided by C * samples, at which to stop.

    Raises:
        DataError: no samples, labels outside the classes, or features that are not finite.
    """
    classes = int(labels.max()) + 1 if classes is None and len(labels) else classes
    if not len(labels) or classes is None:
        raise DataError(
            "the probe got no training samples; choose rows with a label, such as --where split=train."
        )
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise DataError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, expected 0 to {classes - 1}; "
            "renumber "
            "the classes."
        )
    x = features.detach().double()
    refuse_vectors(x, origin=FITTED)
    if start is None:
        return _fit(x, labels, classes, strength, steps, tolerance)
    offset = x @ start.detach().double().T  # (samples, classes)
    moved = _fit(x, labels, classes, strength, steps, tolerance, offset=offset)
    return replace(moved, weight=moved.weight + start.double())


def _fit(
    x: Tensor,
    labels: Tensor,
    classes: int,
    strength: float,
    steps: int,
    tolerance: float,
    *,
    offset: Tensor | None = None,
) -> SoftmaxRegression:
    """The same optimum in coordinates of about equal curvature, where L-BFGS takes tens of steps.

    Weights W are V P^T on centred features. P rotates to the principal axes of the features and scales each
    by the curvature of loss and penalty there. The bias is free, so centring does not change the optimum, and
    neither does leaving out directions without features. Where an `offset` (samples, classes) is added to the
    logits there is no bias, and nothing is centred.
    """
    samples, has_bias = len(x), offset is None
    mean = x.mean(dim=0) if has_bias else torch.zeros_like(x[0])
    add = (lambda logits: logits) if offset is None else offset.add
    axes, spread = _principal_axes(x - mean)  # (width, rank), (rank,)
    reach = (
        strength * samples / (1 + strength * spread / classes)
    ).sqrt()  # (rank,); the loss curves by about spread / classes
    turn = axes * reach  # (width, rank)
    ones = torch.full_like(x[:, :1], float(has_bias))
    design = torch.cat([(x - mean) @ turn, ones], dim=1)  # (samples, rank + 1)
    penalty = 0.5 * reach.square() / (strength * samples)  # (rank,) of V
    parameters = torch.zeros(
        classes, design.shape[1], dtype=torch.float64, device=x.device, requires_grad=True
    )
    solver = torch.optim.LBFGS(
        [parameters],
        max_iter=steps,
        max_eval=3 * steps,
        history_size=30,
        tolerance_grad=tolerance,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:  # the objective divided by C * samples, so that one tolerance fits every C
        solver.zero_grad()
        value = (
            torch.nn.functional.cross_entropy(add(design @ parameters.T), labels)
            + (penalty * parameters[:, :-1].square()).sum()
        )
        value.backward()
        return value

    with torch.enable_grad():
        # torch types the closure's result as float
        solver.step(closure)  # pyright: ignore[reportArgumentType]
        value = float(closure().detach())
    weight = parameters.detach()[:, :-1] @ turn.T  # (classes, width)
    bias = parameters.detach()[:, -1] - weight @ mean
    wrong = torch.softmax(add(x @ weight.T + bias), dim=1) - torch.nn.functional.one_hot(
        labels, classes
    )  # (samples, classes)
    gradient = max(
        float((wrong.T @ x / samples + weight / (strength * samples)).abs().max()),
        float(wrong.mean(dim=0).abs().max()) if has_bias else 0.0,
    )
    return SoftmaxRegression(weight, bias - bias.mean(), value * strength * samples, gradient)


def _principal_axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """(width, rank) principal axes of the rows of x (samples, width); (rank,) sums of squares along them."""
    if len(x) < x.shape[1]:
        _, values, axes = torch.linalg.svd(x, full_matrices=False)
        return axes.T, values.square()
    values, axes = torch.linalg.eigh(x.T @ x)
    return axes, values.clamp(min=0)


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row; ties go to the first, on every machine and number of threads.

    Args:
        scores: (rows, columns) without NaN.
        k: at most the number of columns.

    Returns:
        (values, columns), each (rows, k), best first.
    """
    k = min(k, scores.shape[1])
    values, columns = torch.topk(scores, k, dim=1)
    last = values[:, -1:]
    inside = (scores > last).sum(1, keepdim=True)  # (rows, 1) entries that are not tied
    tied = scores == last
    wanted = (scores > last) | (tied & (tied.cumsum(1) <= k - inside))  # exactly k in each row
    columns = wanted.nonzero()[:, 1].reshape(-1, k)  # ascending columns
    values = scores.gather(1, columns)
    order = torch.sort(values, dim=1, descending=True, stable=True).indices
    return values.gather(1, order), columns.gather(1, order)


def keep_top_k(scores: Tensor, k: int) -> Tensor:
    """The k largest entries of each row, and zeros elsewhere; ties go to the first.

    Args:
        scores: (rows, columns) without NaN.
        k: entries to keep of each row; a row with fewer columns stays as it is.

    Returns:
        (rows, columns).
    """
    values, columns = top_k(scores, k)
    return torch.zeros_like(scores).scatter(1, columns, values)


@dataclass(frozen=True)
class Clusters:
    """Points assigned to centres."""

    centres: Tensor  # (k, dim) means of their points, not normalised
    labels: Tensor  # (points,) int64 nearest centre of each point
    objective: float  # sum of squared distances to the nearest centre
    path: list[float]  # objective before each update


def kmeans(
    points: Tensor,
    k: int,
    *,
    start: Tensor | None = None,
    steps: int = 20,
    restarts: int = 1,
    generator: torch.Generator | None = None,
    chunk: int = 8192,
) -> Clusters:
    """Lloyd's algorithm with Euclidean distances; the best of several starts.

    A centre that loses all its points keeps its place where `start` is given, so that the path is the
    algorithm's alone; otherwise it moves to the point that is farthest from its own centre. Starts that end
    in the same clusters, in another order, differ by rounding: the first of them is returned.

    Args:
        points: (points, dim).
        k: centres, at most as many as points.
        start: (k, dim) centres to begin with; by default k different points at random.
        steps: updates.
        restarts: starts at random, of which the best is returned.
        generator: of the random starts.
        chunk: points compared with all centres at a time.

    Raises:
        DataError: when there are fewer points than centres, or one is not finite.
    """
    refuse_vectors(points, origin=FITTED)
    if len(points) < k:
        raise DataError(
            f"{len(points):,} points cannot form {k:,} clusters; set the number of clusters to "
            f"{len(points):,} or less."
        )
    lengths = points.square().sum(dim=1)
    best: Clusters | None = None
    for _ in range(1 if start is not None else restarts):
        centres = (
            points[torch.randperm(len(points), generator=generator)[:k]]
            if start is None
            else start.to(points.dtype)
        )
        path = []
        for _ in range(steps):
            labels, distances = _nearest_centres(points, lengths, centres, chunk)
            path.append(float(distances.sum()))
            centres = cluster_means(points, labels, k, empty=centres)
            empty = torch.bincount(labels, minlength=k) == 0
            if start is None and bool(empty.any()):
                centres[empty] = points[distances.topk(int(empty.sum())).indices]
        labels, distances = _nearest_centres(points, lengths, centres, chunk)
        found = Clusters(centres, labels, float(distances.sum()), path)
        if best is None or found.objective < best.objective * (1 - ROUNDING):
            best = found
    assert best is not None
    return best


def nearest_centres(points: Tensor, centres: Tensor, *, chunk: int = 8192) -> Tensor:
    """(points,) int64 nearest of the centres (k, dim) for points (points, dim), `chunk` points at a time."""
    return _nearest_centres(points, points.square().sum(dim=1), centres, chunk)[0]


def _nearest_centres(points: Tensor, lengths: Tensor, centres: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """(points,) nearest centre and squared distance to it."""
    offset = centres.square().sum(dim=1)
    labels, distances = [], []
    for part in points.split(chunk):
        nearest = torch.addmm(offset, part, centres.T, alpha=-2).min(dim=1)  # less the point's squared length
        labels.append(nearest.indices)
        distances.append(nearest.values)
    return torch.cat(labels), (torch.cat(distances) + lengths).clamp(min=0)


def cluster_means(features: Tensor, labels: Tensor, k: int, *, empty: Tensor | None = None) -> Tensor:
    """Mean of the features that carry each label.

    With the labels of one modality and the features of another this is the Prototypical Back Translation of
    ProtoCLIP (arXiv 2206.10996).

    Args:
        features: (points, dim).
        labels: (points,) int64 in [0, k).
        k: labels.
        empty: (k, dim) what stands for a label that nothing carries; by default zeros.

    Returns:
        (k, dim).
    """
    counts = torch.bincount(labels, minlength=k).to(features.dtype)
    sums = features.new_zeros(k, features.shape[1]).index_add_(0, labels, features)
    means = sums / counts.clamp(min=1)[:, None]
    return means if empty is None else torch.where(counts[:, None] > 0, means, empty)
