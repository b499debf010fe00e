"""Classifiers for a few examples of each class, on frozen features, with settings that no search chooses.

Sources: the linear probe of CLIP, arXiv 2103.00020, A.3; a probe that is held near to the zero-shot weights,
after CLAP, arXiv 2312.12730, and ProLIP, arXiv 2410.05270; a residual network, arXiv 2309.17002. ProLIP's
penalty on the squared distance has the weight 1 / shots, which is taken over here. CLAP learns a weight for
each class; ProLIP moves the projection, here the class vectors move, so that the problem is convex.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor

from frugalclip.adaptation.tune import tuned
from frugalclip.core.numerics import softmax_regression
from frugalclip.evaluation.classifiers import Examples
from frugalclip.evaluation.fewshot import fit_probes

Scorer = Callable[[Tensor], Tensor]  # (samples, width) features -> (samples, classes) scores
Split = tuple[Examples, Examples]  # training and validation examples of one draw


@dataclass(frozen=True)
class ZeroShotWeights:
    """The classifier that a text tower gives."""

    directions: Tensor  # (classes, dim) unit vectors
    scale: float  # multiplies cosines


@dataclass(frozen=True)
class Problem:
    """What a head is fitted to."""

    classes: int
    splits: Sequence[Split]  # one a draw
    zero_shot: ZeroShotWeights | None  # None for an encoder without texts


class FewShotHead(ABC):
    """A classifier that is fitted to the examples of each draw."""

    name: str
    about: str
    needs_texts: bool = False

    @abstractmethod
    def fit(self, problem: Problem) -> list[Scorer]:
        """One scorer a draw."""


@final
class ZeroShot(FewShotHead):
    """The class vectors as they are: the baseline."""

    name, about, needs_texts = "zero-shot", "the text tower's class vectors, no example", True

    def fit(self, problem: Problem) -> list[Scorer]:
        assert problem.zero_shot is not None, "needs_texts"
        directions = problem.zero_shot.directions
        return [lambda features: features @ directions.T] * len(problem.splits)


@final
class LinearProbe(FewShotHead):
    """Softmax regression; its strength is chosen on at most four validation rows of each class."""

    name, about = "linear", "a linear probe from zero"

    def fit(self, problem: Problem) -> list[Scorer]:
        fits, _ = fit_probes(problem.splits, classes=problem.classes)
        return [fit.logits for fit in fits]


@final
class NearZeroShot(FewShotHead):
    """Softmax regression with a penalty on the distance of its weights from the zero-shot ones.

    Minimises `mean CE(scale * x W^T) + ||W - W0||^2 / shots`. That is the regression with weights `scale * W`
    and C = scale^2 / (2 * classes), whatever the number of shots.
    """

    name, needs_texts = "near-zero-shot", True
    about = "a linear probe with a penalty on its distance from the zero-shot weights"

    def fit(self, problem: Problem) -> list[Scorer]:
        assert problem.zero_shot is not None, "needs_texts"
        scale, classes = problem.zero_shot.scale, problem.classes
        start = scale * problem.zero_shot.directions
        return [
            softmax_regression(
                *(train.features, train.labels),
                strength=scale**2 / (2 * classes),
                classes=classes,
                start=start,
                steps=1000,
                tolerance=1e-6,
            ).logits
            for train, _ in problem.splits
        ]


@final
class ResidualProbe(FewShotHead):
    """A residual network and a linear layer, trained as `adapt nmtune` does."""

    name, about = "mlp", "a residual network of one hidden layer"

    def fit(self, problem: Problem) -> list[Scorer]:
        return [
            tuned(train, classes=problem.classes, arm="mlp", seed=draw).logits
            for draw, (train, _) in enumerate(problem.splits)
        ]


HEADS: tuple[FewShotHead, ...] = (ZeroShot(), LinearProbe(), NearZeroShot(), ResidualProbe())
