"""The results of a comparison from the records of its trials alone, without training.

The content is part of `compare.json` (`docs/formats.md`, "A comparison").
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from frugalclip.comparison.answer import answer
from frugalclip.comparison.curve_summary import summarise_curves
from frugalclip.comparison.design import Design
from frugalclip.comparison.efficiency import estimate_efficiency
from frugalclip.comparison.jobs import Clock, Trial
from frugalclip.comparison.outcomes import baseline_blocks, blocks_of
from frugalclip.comparison.paired import (
    PERCENT,
    Estimate,
    FoldOutcomes,
    common_means,
    eight_digits,
    estimate,
    holm,
    paired,
    verdict,
)

ArmBlocks = Mapping[str, Mapping[str, FoldOutcomes]]  # arm -> fold -> outcomes
COSTS = (
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


def available_clock(trials: Sequence[Trial], wanted: Clock) -> Clock:
    """The wanted clock, or the wall clock if a trial did not record its processor time."""
    known = all("cpu_seconds" in t.training and all("cpu_seconds" in p for p in t.points) for t in trials)
    return wanted if wanted == "wall" or known else "wall"


def summarise(
    trials: Sequence[Trial],
    design: Design,
    *,
    clock: Clock,
    baselines: Mapping[str, Mapping[str, Any]] | None = None,
    draws: int = 2000,
) -> dict[str, Any]:
    """Compare arms.

    Args:
        trials: the finished ones.
        design: what was to be compared; arms without trials keep their row.
        clock: the clock of seconds; see `available_clock`.
        baselines: baseline -> fold -> outcome of every sample on the primary metric.
        draws: of the pigeonhole bootstrap.

    Returns:
        `answer`, `tests`, `baseline_tests`, `metrics`, `curves`, `costs`; `data_efficiency` for several
        fractions.
    """
    whole = [t for t in trials if t.job.fraction == 1.0]
    by_arm = {arm: [t for t in whole if t.arm == arm] for arm in design.names}
    blocks = {
        metric: {arm: blocks_of(runs, metric) for arm, runs in by_arm.items()}
        for metric in design.protocol.metrics
    }
    primary = blocks[design.primary]
    tests = _reference_tests(primary, design, draws=draws)
    means = {arm: estimate(list(own.values())).value for arm, own in primary.items()}
    found = {
        "answer": answer(tests, means, reference=design.reference, primary=design.primary),
        "tests": tests,
        "baseline_tests": _baseline_tests(primary, design, baselines or {}),
        "metrics": {name: _summarise_metric(own, design) for name, own in blocks.items()},
        "curves": summarise_curves(by_arm, design, clock=clock),
        "costs": {arm: _mean_costs(runs) for arm, runs in by_arm.items()},
    }
    if len(design.fractions) > 1:
        found["data_efficiency"] = _summarise_efficiency(trials, design, draws=min(draws, 1000))
    return found


def _reference_tests(blocks: ArmBlocks, design: Design, *, draws: int) -> list[dict[str, Any]]:
    """Every other arm against the reference on the primary metric, with Holm's correction over the arms."""
    found = {arm: paired(blocks[arm], blocks[design.reference], draws=draws) for arm in design.others}
    tests = _with_verdicts(found, {"reference": design.reference, "metric": design.primary})
    for test in tests:
        means = common_means(blocks[test["arm"]], blocks[design.reference])
        test["compared"] = [eight_digits(one) for one in means]
    return tests


def _baseline_tests(
    blocks: ArmBlocks, design: Design, baselines: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Every arm against every baseline on the primary metric, with Holm's correction over the arms."""
    tests = []
    for baseline, outcomes in baselines.items():
        found = {arm: paired(own, baseline_blocks(outcomes, own)) for arm, own in blocks.items()}
        tests += _with_verdicts(found, {"baseline": baseline, "metric": design.primary})
    return tests


def _with_verdicts(found: Mapping[str, Estimate], about: Mapping[str, str]) -> list[dict[str, Any]]:
    adjusted = holm([one.p for one in found.values()])
    return [
        {"arm": arm, **about, **one.as_json(), "p_holm": eight_digits(p), "verdict": verdict(one, p)}
        for (arm, one), p in zip(found.items(), adjusted, strict=True)
    ]


def _summarise_metric(blocks: ArmBlocks, design: Design) -> dict[str, Any]:
    """Means with intervals, by fold, and differences to the reference; only the primary metric is tested."""
    arms = {}
    for arm, own in blocks.items():
        difference = None if arm == design.reference else paired(own, blocks[design.reference]).brief()
        arms[arm] = {
            **estimate(list(own.values()), bounds=PERCENT).brief(),
            "runs": sum(len(b.seeds) for b in own.values()),
            "by_fold": {fold: eight_digits(float(b.means().mean())) for fold, b in own.items()},
            "difference": difference,
        }
    samples = {fold: len(b.ids) for own in blocks.values() for fold, b in own.items()}
    return {"samples": samples, "arms": arms}


def _mean_costs(runs: Sequence[Trial]) -> dict[str, Any]:
    """What the runs of an arm cost: means over runs, null where no run recorded it."""
    costs: dict[str, Any] = {"trials": len(runs)}
    for key in COSTS:
        known = [float(t.training[key]) for t in runs if t.training.get(key) is not None]
        costs[key] = eight_digits(float(np.mean(known))) if known else None
    return costs


def _summarise_efficiency(trials: Sequence[Trial], design: Design, *, draws: int) -> dict[str, Any]:
    """The data efficiency of every arm against the reference on all pairs."""
    reference = [t for t in trials if t.arm == design.reference and t.job.fraction == 1.0]
    arms = {
        arm: _arm_efficiency([t for t in trials if t.arm == arm], reference, design, draws=draws)
        for arm in design.names
    }
    return {"metric": design.primary, "reference": design.reference, "arms": arms}


def _arm_efficiency(
    own: Sequence[Trial], reference: Sequence[Trial], design: Design, *, draws: int
) -> dict[str, Any] | None:
    """The data efficiency of an arm, or None without a run on every fraction and of the reference."""
    by_fraction = {f: [t for t in own if t.job.fraction == f] for f in design.fractions}
    runs = {t.run for t in reference}.intersection(*({t.run for t in ts} for ts in by_fraction.values()))
    if not runs:
        return None
    by_fraction = {f: [t for t in ts if t.run in runs] for f, ts in by_fraction.items()}
    folds = sorted({fold for fold, _ in runs})
    blocks = {f: blocks_of(ts, design.primary) for f, ts in by_fraction.items()}
    pairs = {f: float(np.mean([t.training["training_rows"] for t in ts])) for f, ts in by_fraction.items()}
    target = blocks_of([t for t in reference if t.run in runs], design.primary)
    factor, interval = estimate_efficiency(
        {f: [b[fold] for fold in folds] for f, b in blocks.items()},
        [target[fold] for fold in folds],
        pairs,
        draws=draws,
    )
    return {
        "factor": factor.as_json(),
        "interval": [bound.as_json() for bound in interval] if interval else None,
        "words": f"{factor}" + (f" ({interval[0]} to {interval[1]})" if interval else ""),
        "runs": len(runs),
        "fractions": [
            {"fraction": f, "pairs": pairs[f], **estimate(list(blocks[f].values()), bounds=PERCENT).brief()}
            for f in design.fractions
        ],
    }
