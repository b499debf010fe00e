"""The first sentence of a report: the verdicts in words."""

from collections.abc import Mapping, Sequence
from typing import Any

_ROUNDING = 1e-6  # of values that are written with eight digits


def answer(
    tests: Sequence[Mapping[str, Any]], means: Mapping[str, float], *, reference: str, primary: str
) -> str:
    """The verdicts of a comparison in one sentence.

    Args:
        tests: of every arm but the reference, as `compare.json` holds them.
        means: arm -> percent on the primary metric.
        reference: name of an arm.
        primary: name of the metric.
    """
    if len(tests) == 1:
        return _two_arms(tests[0], means, reference, primary)
    verdicts: dict[str, list[str]] = {"better": [], "worse": [], "not distinguishable": []}
    undecided = []
    for test in tests:
        verdicts.get(test["verdict"], undecided).append(test["arm"])
    parts = [
        f"{', '.join(arms)} {'is' if len(arms) == 1 else 'are'} {word}"
        for word, arms in verdicts.items()
        if arms
    ]
    if undecided:
        reasons = sorted({t["verdict"] for t in tests if t["arm"] in undecided})
        parts.append(f"undecided for {', '.join(undecided)}: {'; '.join(reasons)}")
    return f"Against {reference} on {primary}: {'; '.join(parts)}."


def _two_arms(test: Mapping[str, Any], means: Mapping[str, float], reference: str, primary: str) -> str:
    arm, found = test["arm"], test["verdict"]
    if test["value"] is None:
        return f"Undecided: no pair of runs of {arm} and {reference} has finished."
    mine, theirs = test["compared"]  # of the pairs that the difference is of
    values = f"{mine:.1f} % against {theirs:.1f} % on {primary}"
    if abs(mine - means[arm]) > _ROUNDING or abs(theirs - means[reference]) > _ROUNDING:
        runs = "1 run" if test["runs"] == 1 else f"{test['runs']} runs"
        values += f", on the {runs} that both have finished"
    gap = f"{abs(test['value']):.1f} points {'more' if test['value'] >= 0 else 'less'}"
    if test["p_holm"] is None:
        return f"{found[0].upper()}{found[1:]} whether {arm} is better than {reference}: {values}, {gap}."
    low, high = test["interval"]
    interval = f"95 % interval {low:+.1f} to {high:+.1f}, p = {_p(test['p_holm'])}"
    known = f"{gap}, {interval}".replace("-", "\N{MINUS SIGN}")
    if found == "not distinguishable":
        return f"{arm} and {reference} are not distinguishable: {values} ({known})."
    return f"{arm} is {found} than {reference}: {values} ({known})."


def _p(value: float) -> str:
    return f"{value:.1g}" if value < 0.001 else f"{value:.3f}"
