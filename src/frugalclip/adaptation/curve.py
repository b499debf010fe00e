"""The way from the start of a fine-tuning to its end: what is kept of the guard, and what is gained.

Every point is measured on the guard and on the validation rows of the target. Chosen is the point that
reaches most on the target among those where the guard loses no more than the limit; of equal ones, the one
nearest to the start. Without validation rows it is the farthest point within the limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from frugalclip.adaptation.interpolate import mixed_model
from frugalclip.adaptation.normalisation import NormCorrection
from frugalclip.core.types import ImageInput
from frugalclip.models import Model
from frugalclip.training.guard import headline, headline_value
from frugalclip.training.validation import Validator


@dataclass(frozen=True)
class CurvePoint:
    """A model between start and end, measured."""

    alpha: float  # 0: the start, 1: the end
    guard: dict[str, float]  # metrics in percent
    target: dict[str, float] | None  # likewise; None without validation rows


@dataclass(frozen=True)
class CurveData:
    """What a curve is measured on."""

    guard: Validator
    target: Validator | None
    images: Sequence[ImageInput] = ()  # of the training data, for statistics of batch normalisation


@dataclass(frozen=True)
class WeightCurve:
    """The points from start to end, and the one that is chosen."""

    points: list[CurvePoint]
    chosen: int
    data: CurveData
    max_loss: float  # points

    @property
    def point(self) -> CurvePoint:
        """The chosen point."""
        return self.points[self.chosen]

    def to_json(self) -> dict[str, Any]:
        """What `metrics.json` holds of it."""
        sides: dict[str, Validator | None] = {"guard": self.data.guard, "target": self.data.target}
        return {
            "alpha": self.point.alpha,
            "max_loss": self.max_loss,
            **{
                side: None
                if one is None
                else {"headline": headline(one), "rows": len(one.manifest), "chance": _chance(one)}
                for side, one in sides.items()
            },
            "points": [
                {
                    "alpha": one.alpha,
                    "guard": _with_headline(one.guard, self.data.guard),
                    "target": None
                    if one.target is None or self.data.target is None
                    else _with_headline(one.target, self.data.target),
                }
                for one in self.points
            ],
        }


def _chance(validator: Validator) -> dict[str, float]:
    return _with_headline(validator.chance, validator)


def _with_headline(metrics: dict[str, float], validator: Validator) -> dict[str, float]:
    name = headline(validator)
    return metrics | {name: round(headline_value(metrics, name), 4)}


def measure_curve(
    start: Model, end: Model, data: CurveData, *, points: int, max_loss: float
) -> tuple[WeightCurve, Model]:
    """Measure models between two, and choose one.

    Args:
        start: the model before fine-tuning.
        end: the model after it.
        data: what they are measured on.
        points: how many, both ends among them.
        max_loss: points that the guard may lose.

    Returns:
        The curve, and the chosen model.
    """
    correction = NormCorrection(start, end, data.images)
    measured = []
    for place in range(points):
        alpha = place / (points - 1)
        model = model_at(start, end, alpha, correction)
        target = None if data.target is None else data.target.measure(model)
        measured.append(CurvePoint(round(alpha, 6), data.guard.measure(model), target))
    chosen = choose(measured, data, max_loss=max_loss)
    curve = WeightCurve(measured, chosen, data, max_loss)
    return curve, model_at(start, end, chosen / (points - 1), correction)


def model_at(start: Model, end: Model, alpha: float, correction: NormCorrection) -> Model:
    """The model between two; at 0 and 1 one of them, bit for bit."""
    model = mixed_model([end, start], [alpha, 1 - alpha])
    if 0 < alpha < 1 and correction.is_needed:
        correction.apply(model, alpha)
    return model


def choose(points: Sequence[CurvePoint], data: CurveData, *, max_loss: float) -> int:
    """The place of the point that keeps most, see the module."""
    name = headline(data.guard)
    least = headline_value(points[0].guard, name) - max_loss - 1e-9  # rounding is no loss
    allowed = [i for i, one in enumerate(points) if headline_value(one.guard, name) >= least]
    if data.target is None:
        return allowed[-1]
    of_target = headline(data.target)

    def gain(place: int) -> float:
        target = points[place].target
        assert target is not None
        return headline_value(target, of_target)

    return max(allowed, key=lambda place: (gain(place), -place))
