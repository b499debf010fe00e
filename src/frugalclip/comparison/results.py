"""Everything that is said of a comparison, from the records of its trials alone; it can be computed again without training anything.

The content is that of `compare.json` (`docs/formats.md`, "A comparison").
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from frugalclip.comparison.curves import Curve, Runs, saved_with_interval, times_sooner
from frugalclip.comparison.paired import Block, Estimate, estimate, holm, over_runs, paired, verdict

Clock = Literal["cpu", "wall"]
GRID = 41  # places at which mean curves are read


@dataclass(frozen=True)
class Trial:
    """The record of one finished trial."""

    arm: str
    rotation: str  # empty without rotation
    fraction: float
    seed: int  # index of the repetition
    metrics: Mapping[str, Any]
    training: Mapping[str, Any]
    points: Sequence[Mapping[str, Any]]  # rows of metrics.jsonl with `evaluation`

    def curve(self, name: str, clock: Clock) -> Curve | None:
        """The watched figure over samples and seconds, or None where it was not measured."""
        key = "cpu_seconds" if clock == "cpu" else "seconds"
        rows = [row for row in self.points if name in row.get("evaluation", {}) and key in row]
        if not rows:
            return None
        return Curve(
            *(
                np.array(column, np.float64)
                for column in zip(
                    *((r["samples_seen"], r[key], r["evaluation"][name]) for r in rows), strict=True
                )
            )
        )

    def seconds(self, clock: Clock) -> float:
        """What the training cost, on a clock."""
        return float(self.training["cpu_seconds" if clock == "cpu" else "seconds"])


@dataclass(frozen=True)
class Plan:
    """What a comparison set out to do."""

    arms: Sequence[str]
    reference: str
    primary: str
    metrics: Sequence[str]
    rotations: Sequence[str]
    seeds: int
    fractions: Sequence[float]
    curve: str


def blocks_of(trials: Sequence[Trial], metric: str) -> dict[str, Block]:
    """Outcomes of one arm on one figure: rotation -> block; samples that every run judged, runs by seed."""
    found: dict[str, Block] = {}
    for rotation in dict.fromkeys(t.rotation for t in trials):
        runs = sorted(
            (t for t in trials if t.rotation == rotation and metric in t.metrics), key=lambda t: t.seed
        )
        if runs:
            found[rotation] = _block([t.metrics[metric]["outcome"] for t in runs], [t.seed for t in runs])
    return found


def baseline_blocks(outcomes: Mapping[str, Mapping[str, Any]], own: Mapping[str, Block]) -> dict[str, Block]:
    """A floor beside an arm: copying has nothing random in it, so every run of the arm is paired with the same outcomes."""
    return {
        rotation: _block([outcomes[rotation]] * len(block.seeds), block.seeds)
        for rotation, block in own.items()
        if rotation in outcomes
    }


def _block(outcomes: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> Block:
    ids = sorted(set.intersection(*(set(o["id"]) for o in outcomes)))
    places = [{name: i for i, name in enumerate(o["id"])} for o in outcomes]
    values = np.array(
        [[100 * o["hit"][place[name]] for name in ids] for o, place in zip(outcomes, places, strict=True)]
    )
    first, place = outcomes[0], places[0]
    weights = np.array([1.0 if first["weight"] is None else first["weight"][place[name]] for name in ids])
    return Block(
        values, np.array([first["group"][place[name]] for name in ids]), weights, np.array(ids), tuple(seeds)
    )


def available_clock(trials: Sequence[Trial], wanted: Clock) -> Clock:
    """The wanted clock, or the wall's where a trial does not know its processor time."""
    known = all("cpu_seconds" in t.training and all("cpu_seconds" in p for p in t.points) for t in trials)
    return wanted if wanted == "wall" or known else "wall"


def summarise(
    trials: Sequence[Trial],
    plan: Plan,
    *,
    clock: Clock,
    baselines: Mapping[str, Mapping[str, Any]] | None = None,
    draws: int = 2000,
) -> dict[str, Any]:
    """Compare arms.

    Args:
        trials: those that are finished.
        plan: what was to be compared; arms without trials keep their row.
        clock: what seconds are; see `available_clock`.
        floors: floor -> rotation -> outcome of every judged sample on the primary figure.
        draws: of the pigeonhole bootstrap.

    Returns:
        `answer`, `tests`, `floor_tests`, `figures`, `curves`, `costs` and, with several fractions, `data_efficiency`.
    """
    whole = [t for t in trials if t.fraction == 1.0]
    by_arm = {arm: [t for t in whole if t.arm == arm] for arm in plan.arms}
    blocks = {
        metric: {arm: blocks_of(runs, metric) for arm, runs in by_arm.items()} for metric in plan.metrics
    }
    tests = _tests(blocks[plan.primary], plan, draws=draws)
    found = {
        "answer": answer(tests, blocks[plan.primary], plan),
        "tests": tests,
        "baseline_tests": _floor_tests(blocks[plan.primary], plan, baselines or {}),
        "metrics": {metric: _metric(blocks[metric], plan) for metric in plan.metrics},
        "curves": _curves(by_arm, plan, clock=clock),
        "costs": {arm: _cost(runs) for arm, runs in by_arm.items()},
    }
    if len(plan.fractions) > 1:
        found["data_efficiency"] = _pairs_saved(trials, plan, draws=min(draws, 1000))
    return found


def _tests(blocks: Mapping[str, Mapping[str, Block]], plan: Plan, *, draws: int) -> list[dict[str, Any]]:
    """Every other arm against the reference on the primary figure, with Holm over the arms."""
    others = [arm for arm in plan.arms if arm != plan.reference]
    found = [paired(blocks[arm], blocks[plan.reference], draws=draws) for arm in others]
    adjusted = holm([f.p for f in found])
    return [
        {
            "arm": arm,
            "reference": plan.reference,
            "metric": plan.primary,
            **as_json(f),
            "p_holm": _rounded(p),
            "verdict": verdict(f, p),
        }
        for arm, f, p in zip(others, found, adjusted, strict=True)
    ]


def _floor_tests(
    blocks: Mapping[str, Mapping[str, Block]], plan: Plan, baselines: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Every arm against every floor on the primary figure, with Holm over the arms."""
    tests = []
    for baseline, outcomes in baselines.items():
        found = [paired(blocks[arm], baseline_blocks(outcomes, blocks[arm])) for arm in plan.arms]
        adjusted = holm([f.p for f in found])
        tests += [
            {
                "arm": arm,
                "baseline": baseline,
                "metric": plan.primary,
                **as_json(f),
                "p_holm": _rounded(p),
                "verdict": verdict(f, p),
            }
            for arm, f, p in zip(plan.arms, found, adjusted, strict=True)
        ]
    return tests


def as_json(found: Estimate) -> dict[str, Any]:
    """An estimate as `compare.json` holds it; what is not known is null."""
    return {
        "value": _rounded(found.value),
        "interval": _pair(found.interval),
        "standard_error": _rounded(found.standard_error),
        "df": _rounded(found.df),
        "p": _rounded(found.p),
        "pigeonhole": _pair(found.pigeonhole),
        "runs": found.runs,
        "families": found.families,
        "rotations": found.rotations,
        "variance": {name: _rounded(v) for name, v in found.variance.items()},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.8g}")


def _pair(interval: Sequence[float] | None) -> list[float | None] | None:
    return None if interval is None else [_rounded(v) for v in interval]


def _brief(found: Estimate) -> dict[str, Any]:
    return {"value": _rounded(found.value), "interval": _pair(found.interval)}


def _metric(blocks: Mapping[str, Mapping[str, Block]], plan: Plan) -> dict[str, Any]:
    """Means with intervals, by rotation, and differences to the reference; only the primary figure is tested."""
    arms = {}
    for arm in plan.arms:
        own = blocks[arm]
        arms[arm] = {
            **_brief(estimate(list(own.values()))),
            "runs": sum(len(b.seeds) for b in own.values()),
            "by_rotation": {rotation: _rounded(float(b.means().mean())) for rotation, b in own.items()},
            "difference": None if arm == plan.reference else _brief(paired(own, blocks[plan.reference])),
        }
    return {"samples": {r: len(b.ids) for own in blocks.values() for r, b in own.items()}, "arms": arms}


def _curves(by_arm: Mapping[str, Sequence[Trial]], plan: Plan, *, clock: Clock) -> dict[str, Any]:
    """Mean curves over samples and seconds, read at equal samples and at equal seconds."""
    curves = {
        arm: {(t.rotation, t.seed): c for t in runs if (c := t.curve(plan.curve, clock)) is not None}
        for arm, runs in by_arm.items()
    }
    every = [c for own in curves.values() for c in own.values()]
    result: dict[str, Any] = {"metric": plan.curve, "clock": clock, "arms": {}}
    if not every:
        return result
    ends = {
        axis: (max(getattr(c, axis)[0] for c in every), min(getattr(c, axis)[-1] for c in every))
        for axis in ("samples", "seconds")
    }
    result |= {"equal_samples": _rounded(ends["samples"][1]), "equal_seconds": _rounded(ends["seconds"][1])}
    reference = curves[plan.reference]
    for arm, own in curves.items():
        entry: dict[str, Any] = (
            {axis: _mean_curve(list(own.values()), axis) for axis in ("samples", "seconds")} if own else {}
        )
        for axis, (low, high) in ends.items():
            entry[f"at_equal_{axis}"] = _read(
                own, reference, arm == plan.reference, lambda c, a=axis, h=high: float(c.at(a, h))
            )
            entry[f"area_{axis}"] = _read(
                own, reference, arm == plan.reference, lambda c, a=axis, lo=low, h=high: c.area(a, lo, h)
            )
            entry[f"points_above_{axis}"] = (
                None if arm == plan.reference else _share_above(own, reference, axis, low, high)
            )
        entry["reach"] = None if arm == plan.reference else _reach(own, reference)
        result["arms"][arm] = entry
    return result


def _mean_curve(curves: Sequence[Curve], axis: str) -> dict[str, Any]:
    low, high = max(getattr(c, axis)[0] for c in curves), min(getattr(c, axis)[-1] for c in curves)
    places = np.linspace(low, high, GRID) if high > low else np.array([high])
    values = np.stack([c.at(axis, places) for c in curves])  # (runs, places)
    rows = (places, values.mean(0), values.min(0), values.max(0))
    return dict(
        zip(
            ("x", "mean", "lowest", "highest"),
            ([_rounded(float(v)) for v in row] for row in rows),
            strict=True,
        )
    )


def _read(own: Runs, reference: Runs, is_reference: bool, number: Any) -> dict[str, Any]:
    """A number of each run: its mean over runs, and the mean of paired differences."""
    value = _brief(over_runs(_grouped({key: number(c) for key, c in own.items()})))
    if is_reference:
        return value | {"difference": None}
    both = {key: number(c) - number(reference[key]) for key, c in own.items() if key in reference}
    return value | {"difference": _brief(over_runs(_grouped(both)))}


def _grouped(values: Mapping[tuple[str, int], float]) -> list[list[float]]:
    finite = {key: v for key, v in values.items() if math.isfinite(v)}
    return [
        [v for (r, _), v in finite.items() if r == rotation]
        for rotation in dict.fromkeys(r for r, _ in finite)
    ]


def _share_above(own: Runs, reference: Runs, axis: str, low: float, high: float) -> float | None:
    """Percent of the common range in which the mean over runs stands above the reference's."""
    keys = [key for key in own if key in reference]
    if not keys:
        return None
    places = np.linspace(low, high, GRID)
    gain = np.mean([own[k].at(axis, places) - reference[k].at(axis, places) for k in keys], axis=0)
    return _rounded(100 * float(np.mean(gain > 0)))


def _reach(own: Runs, reference: Runs) -> dict[str, Any]:
    """How much sooner an arm stands where the reference ends; see `curves.times_sooner`."""
    keys = [key for key in own if key in reference]
    found = times_sooner({k: own[k] for k in keys}, {k: reference[k] for k in keys})
    if found is None:
        return {
            "runs": 0,
            "times_sooner": None,
            "interval": None,
            "seconds": None,
            "reference_seconds": None,
            "reference_whole_seconds": None,
        }
    return {
        "runs": len(keys),
        "times_sooner": _rounded(found.factor) if found.factor else None,  # null: never reached
        "interval": [_rounded(v) if v else None for v in found.interval]
        if found.interval
        else None,  # a null bound: never reached
        "seconds": _rounded(found.seconds),
        "reference_seconds": _rounded(found.reference_seconds),
        "reference_whole_seconds": _rounded(float(np.mean([reference[key].seconds[-1] for key in keys]))),
    }


def _cost(runs: Sequence[Trial]) -> dict[str, Any]:
    """What an arm's runs took: means over runs, null where no run says."""
    keys = (
        "parameters",
        "samples_seen",
        "steps",
        "seconds",
        "cpu_seconds",
        "samples_per_second",
        "peak_memory_bytes",
        "training_rows",
        "evaluations",
    )
    known = {key: [float(t.training[key]) for t in runs if t.training.get(key) is not None] for key in keys}
    return {
        "trials": len(runs),
        **{key: _rounded(float(np.mean(values))) if values else None for key, values in known.items()},
    }


def _pairs_saved(trials: Sequence[Trial], plan: Plan, *, draws: int) -> dict[str, Any]:
    """Factors of every arm, from the runs that exist on every fraction and for the reference on all pairs."""
    metric, arms = plan.primary, dict[str, Any]()
    reference = [t for t in trials if t.arm == plan.reference and t.fraction == 1.0]
    for arm in plan.arms:
        own = [t for t in trials if t.arm == arm]
        keys = {(t.rotation, t.seed) for t in reference}
        keys = keys.intersection(
            *({(t.rotation, t.seed) for t in own if t.fraction == f} for f in plan.fractions)
        )
        if not keys:
            arms[arm] = None
            continue
        kept = [t for t in own if (t.rotation, t.seed) in keys]
        order = sorted({rotation for rotation, _ in keys})
        at = {f: blocks_of([t for t in kept if t.fraction == f], metric) for f in plan.fractions}
        pairs = {
            f: float(np.mean([t.training["training_rows"] for t in kept if t.fraction == f]))
            for f in plan.fractions
        }
        target = blocks_of([t for t in reference if (t.rotation, t.seed) in keys], metric)
        factor, interval = saved_with_interval(
            {f: [b[r] for r in order] for f, b in at.items()}, [target[r] for r in order], pairs, draws=draws
        )
        arms[arm] = {
            "factor": factor.as_json(),
            "interval": [bound.as_json() for bound in interval] if interval else None,
            "words": f"{factor}" + (f" ({interval[0]} to {interval[1]})" if interval else ""),
            "runs": len(keys),
            "fractions": [
                {"fraction": f, "pairs": pairs[f], **_brief(estimate(list(at[f].values())))}
                for f in plan.fractions
            ],
        }
    return {"metric": metric, "reference": plan.reference, "arms": arms}


def answer(tests: Sequence[Mapping[str, Any]], blocks: Mapping[str, Mapping[str, Block]], plan: Plan) -> str:
    """The first sentence of the report."""
    means = {arm: estimate(list(own.values())).value for arm, own in blocks.items()}
    if len(tests) == 1:
        return _sentence(tests[0], means, plan)
    words = {"better": [], "worse": [], "not distinguishable": []}
    rest = []
    for test in tests:
        words.get(test["verdict"], rest).append(test["arm"])
    parts = [
        f"{', '.join(arms)} {'is' if len(arms) == 1 else 'are'} {word}"
        for word, arms in words.items()
        if arms
    ]
    if rest:
        parts.append(
            f"nothing can be said of {', '.join(rest)}: "
            + "; ".join(sorted({t["verdict"] for t in tests if t["arm"] in rest}))
        )
    return f"Against {plan.reference} on {plan.primary}: {'; '.join(parts)}."


def _sentence(test: Mapping[str, Any], means: Mapping[str, float], plan: Plan) -> str:
    arm, reference, output = test["arm"], plan.reference, test["verdict"]
    if test["value"] is None:
        return f"Nothing can be said yet: no run of {arm} and {reference} that could be compared is finished."
    metrics = f"{means[arm]:.1f} % against {means[reference]:.1f} % on {plan.primary}"
    gap = f"{abs(test['value']):.1f} points {'more' if test['value'] >= 0 else 'less'}"
    if test["p_holm"] is None:
        return f"{output[0].upper()}{output[1:]} whether {arm} is better than {reference}: {metrics}, {gap}."
    low, high = test["interval"]
    known = f"{gap}, 95 % interval {low:+.1f} to {high:+.1f}, p = {_p(test['p_holm'])}".replace(
        "-", "\N{MINUS SIGN}"
    )
    if output == "not distinguishable":
        return f"{arm} and {reference} are not distinguishable: {metrics} ({known})."
    return f"{arm} is {output} than {reference}: {metrics} ({known})."


def _p(value: float) -> str:
    return f"{value:.1g}" if value < 0.001 else f"{value:.3f}"
