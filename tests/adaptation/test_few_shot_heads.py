"""Heads for few examples: the penalised probe against its objective, and its limits."""

import torch

from frugalclip.adaptation.few_shot_heads import HEADS, NearZeroShot, Problem, ZeroShotWeights
from frugalclip.evaluation.classifiers import Examples
from frugalclip.functional import unit


def problem(shots: int, *, scale: float = 20.0, classes: int = 4, dim: int = 12) -> Problem:
    generator = torch.Generator().manual_seed(0)
    centres = unit(torch.randn(classes, dim, generator=generator))
    labels = torch.arange(classes).repeat(shots)
    features = unit(centres[labels] + 0.3 * torch.randn(len(labels), dim, generator=generator))
    zero_shot = ZeroShotWeights(unit(centres + 0.3 * torch.randn(classes, dim, generator=generator)), scale)
    examples = Examples(features, labels)
    return Problem(classes, [(examples, Examples(features[:0], labels[:0]))], zero_shot)


def objective(weights: torch.Tensor, given: Problem, shots: int) -> torch.Tensor:
    """Mean cross-entropy and the squared distance divided by the number of shots, as ProLIP writes it."""
    assert given.zero_shot is not None
    examples = given.splits[0][0]
    logits = given.zero_shot.scale * examples.features.double() @ weights.T
    apart = (weights - given.zero_shot.directions.double()).square().sum()
    return torch.nn.functional.cross_entropy(logits, examples.labels) + apart / shots


def test_the_penalised_probe_is_the_optimum_of_its_objective():
    for shots in (1, 4):
        given = problem(shots)
        assert given.zero_shot is not None
        (score,) = NearZeroShot().fit(given)
        weights = (score(torch.eye(12)).T / given.zero_shot.scale).requires_grad_()
        objective(weights, given, shots).backward()
        assert weights.grad is not None and weights.grad.abs().max() < 1e-4


def test_a_small_scale_stays_at_the_zero_shot_weights():
    given = problem(1, scale=1e-3)
    assert given.zero_shot is not None
    (score,) = NearZeroShot().fit(given)
    assert torch.allclose(score(torch.eye(12)).T / 1e-3, given.zero_shot.directions.double(), atol=1e-3)


def test_every_head_gives_a_score_for_each_class_and_draw():
    given = problem(2)
    features = given.splits[0][0].features
    for head in HEADS:
        scorers = head.fit(given)
        assert [score(features).shape for score in scorers] == [(8, 4)]
        assert head.name and head.about
