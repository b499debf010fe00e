"""Mean curves of arms over samples and seconds, and what they show at equal samples and at equal seconds."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from frugalclip.comparison.curves import Curve, Runs, times_sooner
from frugalclip.comparison.design import Design
from frugalclip.comparison.jobs import Clock, Trial
from frugalclip.comparison.paired import PERCENT, POINTS, eight_digits, over_runs

GRID = 41  # places at which mean curves are read
AXES = ("samples", "seconds")


def summarise_curves(
    by_arm: Mapping[str, Sequence[Trial]], design: Design, *, clock: Clock
) -> dict[str, Any]:
    """The curves of all arms, read from the same runs at equal samples and at equal seconds.

    Args:
        by_arm: arm -> trials on all pairs.
        design: names the reference and the metric of the curves.
        clock: the clock of seconds.
    """
    name = design.protocol.curve
    curves = {
        arm: {t.run: c for t in runs if (c := t.curve(name, clock)) is not None}
        for arm, runs in by_arm.items()
    }
    every = [c for own in curves.values() for c in own.values()]
    result: dict[str, Any] = {"metric": name, "clock": clock, "arms": {}}
    if not every:
        return result
    common = {axis: _common_range(every, axis) for axis in AXES}
    result |= {f"equal_{axis}": eight_digits(high) for axis, (_, high) in common.items()}
    reference = curves[design.reference]
    for arm, own in curves.items():
        is_reference = arm == design.reference
        entry: dict[str, Any] = {axis: _mean_curve(list(own.values()), axis) for axis in AXES} if own else {}
        for axis, (low, high) in common.items():
            entry |= _read_axis(own, None if is_reference else reference, axis, low, high)
        result["arms"][arm] = entry | {"reach": None if is_reference else _reach(own, reference)}
    return result


def _common_range(curves: Sequence[Curve], axis: str) -> tuple[float, float]:
    """Where all curves were measured."""
    return max(getattr(c, axis)[0] for c in curves), min(getattr(c, axis)[-1] for c in curves)


def _mean_curve(curves: Sequence[Curve], axis: str) -> dict[str, Any]:
    low, high = _common_range(curves, axis)
    places = np.linspace(low, high, GRID) if high > low else np.array([high])
    values = np.stack([c.at(axis, places) for c in curves])  # (runs, places)
    rows = (places, values.mean(0), values.min(0), values.max(0))
    lists = ([eight_digits(float(v)) for v in row] for row in rows)
    return dict(zip(("x", "mean", "lowest", "highest"), lists, strict=True))


def _read_axis(own: Runs, reference: Runs | None, axis: str, low: float, high: float) -> dict[str, Any]:
    """Value at the end of the common range, area below the curve, and share of it above the reference."""
    return {
        f"at_equal_{axis}": _mean_of(own, reference, lambda c: float(c.at(axis, high))),
        f"area_{axis}": _mean_of(own, reference, lambda c: c.area(axis, low, high)),
        f"points_above_{axis}": None if reference is None else _share_above(own, reference, axis, low, high),
    }


def _mean_of(own: Runs, reference: Runs | None, number: Callable[[Curve], float]) -> dict[str, Any]:
    """A number of each run: its mean over runs, and the mean of paired differences."""
    value = over_runs(_by_fold({key: number(c) for key, c in own.items()}), bounds=PERCENT).brief()
    if reference is None:
        return value | {"difference": None}
    both = {key: number(c) - number(reference[key]) for key, c in own.items() if key in reference}
    return value | {"difference": over_runs(_by_fold(both), bounds=POINTS).brief()}


def _by_fold(values: Mapping[tuple[str, int], float]) -> list[list[float]]:
    finite = {key: v for key, v in values.items() if math.isfinite(v)}
    folds = dict.fromkeys(fold for fold, _ in finite)
    return [[v for (own, _), v in finite.items() if own == fold] for fold in folds]


def _share_above(own: Runs, reference: Runs, axis: str, low: float, high: float) -> float | None:
    """Percent of the common range in which the mean over runs is above the reference's."""
    keys = [key for key in own if key in reference]
    if not keys:
        return None
    places = np.linspace(low, high, GRID)
    gain = np.mean([own[k].at(axis, places) - reference[k].at(axis, places) for k in keys], axis=0)
    return eight_digits(100 * float(np.mean(gain > 0)))


def _reach(own: Runs, reference: Runs) -> dict[str, Any]:
    """How much sooner an arm reaches the final value of the reference; see `curves.times_sooner`."""
    names = ("times_sooner", "interval", "seconds", "reference_seconds", "reference_whole_seconds")
    keys = [key for key in own if key in reference]
    found = times_sooner({k: own[k] for k in keys}, {k: reference[k] for k in keys})
    if found is None:
        return {"runs": 0, **dict.fromkeys(names)}
    bounds = [eight_digits(v) if v else None for v in found.interval] if found.interval else None
    values = (
        eight_digits(found.factor) if found.factor else None,  # null, here and as a bound: never reached
        bounds,
        eight_digits(found.seconds),
        eight_digits(found.reference_seconds),
        eight_digits(float(np.mean([reference[key].seconds[-1] for key in keys]))),
    )
    return {"runs": len(keys), **dict(zip(names, values, strict=True))}
