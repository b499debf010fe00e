"""The sections of docs/results.md on small models: results/compress.json and results/need-for-data.json."""

from collections.abc import Mapping, Sequence
from typing import Any

STARTS = {
    "random": "drawn weights",
    "inherited": "first units of the teacher",
    "auto": "units chosen by learned gates",
    "staged": "first units, over 75 and 50 %",
    "staged-auto": "learned gates, over 75 and 50 %",
    "whole": "the teacher itself, trained on",
}
LOSSES = {"infonce": "InfoNCE", "affinity": "affinity", "features": "the teacher's embeddings"}
NEEDS = {
    "full": "all weights, drawn",
    "tuned": "all weights of the teacher",
    "lora": "low-rank additions to the teacher",
    "frozen": "linear heads over the teacher",
    "pruned": "half of the teacher by learned gates",
    "inherited": "half of the teacher, its first units",
    "distilled": "half the size, drawn, taught by the teacher",
}


def arm_in_words(arm: str) -> str:
    """`50 %, first units of the teacher, affinity`."""
    size, _, family = arm.partition("-")
    start, _, loss = family.rpartition("-")
    return f"{size} %, {STARTS[start]}, {LOSSES[loss]}"


def with_interval(found: Mapping[str, Any], digits: int = 1) -> str:
    """`95.1 (92.0 to 98.2)`."""
    low_high = found["interval"]
    within = f" ({low_high[0]:.{digits}f} to {low_high[1]:.{digits}f})" if low_high else ""
    return f"{found['value']:.{digits}f}{within}"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def compress(found: Mapping[str, Any]) -> list[str]:
    """Students beside their teacher: metrics, claims of the paper, steps and goals."""
    lines = [
        "## Compression: students of one teacher",
        "",
        f"`python benchmarks/compress.py`: {found['seeds']} seeds. Teachers are trained there, on composed "
        "scenes and on emoji with a style held out; a student's share is of both towers' parameters without "
        "token embedding. On scenes the metric is the mean reciprocal rank of retrieval in both directions, "
        "in percent. On emoji it is top 1 of concepts of the style held out. Peak rates on validation "
        f"scenes, one seed, half the length: {_rates(found['rates'])}.",
        "",
    ]
    for name in ("scenes", "emoji"):
        if name in found:
            lines += _arms(name, found[name])
    lines += _claims(found["scenes"]["claims"])
    lines += _sooner(found["scenes"]["sooner"])
    return [*lines, *_goals(found["goals"])]


def _rates(rates: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('-', ' + ')} {one['rate']:g} (of {', '.join(one['tried'])})"
        for name, one in rates.items()
    )


def _arms(name: str, found: Mapping[str, Any]) -> list[str]:
    metrics = found["metrics"]
    heads = [f"{metric} | % of the teacher" for metric in metrics]
    teacher = [f"{one['teacher']:.1f} | 100" for one in metrics.values()]
    lengths = found["samples"]
    lines = [
        f"On {name} ({lengths['teacher']:,} samples of the teacher, {lengths['student']:,} of each student):",
        "",
        "| " + " | ".join(["student", "parameters", *heads]) + " |",
        "|---|---|" + "---|---|" * len(metrics),
        "| teacher | – | " + " | ".join(teacher) + " |",
    ]
    first, guessed = next(iter(metrics.values()))["arms"], found["baselines"]
    for baseline in next(iter(guessed.values())):
        cells = [f"{guessed[metric][baseline]:.1f} | –" for metric in metrics]
        lines.append(f"| *{baseline.replace('_', ' ')}* | – | " + " | ".join(cells) + " |")
    for arm in first:
        cells = [
            f"{one['arms'][arm]['value']:.1f} | {with_interval(one['arms'][arm]['of the teacher'])}"
            for one in metrics.values()
        ]
        size = f"{first[arm]['parameters']['towers'] / 1e6:.2f} M"
        lines.append(f"| {arm_in_words(arm)} | {size} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _claims(claims: Mapping[str, Any]) -> list[str]:
    rows = [
        f"| {what} | {with_interval(one, 2)} | {_number(one['p_holm'], '.3f')} | {one['verdict']} |"
        for what, one in claims.items()
    ]
    return ["| the paper's order, on scenes | points | p | verdict |", "|---|---|---|---|", *rows, ""]


def _sooner(sooner: Mapping[str, Any]) -> list[str]:
    rows = [
        f"| {arm_in_words(arm)} | " + " | ".join(_number(v, ".2f") for v in one.values()) + " |"
        for arm, one in sooner.items()
    ]
    return [
        "Costs of drawn weights and InfoNCE over those of each student until it has the former's final value "
        "on validation scenes; a dash: not every seed reached it.",
        "",
        "| student | steps | arithmetic | with the teacher's forward pass |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _goals(goals: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        f"| {one['what']} | {one['goal']:g} | {_number(one['reached'], '.3g')} "
        f"| {'reached' if one['is_met'] else '**not reached**'} |"
        for one in goals
    ]
    return ["| demanded | at least | measured | |", "|---|---|---|---|", *rows, ""]


def need_for_data(found: Mapping[str, Any]) -> list[str]:
    """Values on shares of the pairs, and data efficiencies."""
    pairs = found["pairs"]
    lines = [
        "## Does a smaller model need fewer pairs?",
        "",
        f"`python benchmarks/need_for_data.py`: {found['seeds']} seeds, {found['samples']:,} samples a run; "
        "scenes of a drawing style that the teacher has not seen, mean reciprocal rank in percent. The data "
        "efficiency is on how many times fewer pairs an arm reaches the reference on all pairs, with its "
        "95 % interval. `frozen` and low-rank arms train few parameters, the last three half of them.",
        "",
        "| trained | "
        + " | ".join(f"{number:,.0f} pairs" for number in pairs.values())
        + " | against drawn weights | verdict | against the teacher tuned | verdict |",
        "|---|" + "---|" * (len(pairs) + 4),
    ]
    for arm, one in found["arms"].items():
        cells = [f"{value:.1f}" for value in one["values"].values()]
        for own in one["efficiency"].values():
            cells += [_factor(own), own["verdict"]]
        lines.append(f"| {NEEDS[arm]} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _factor(own: Mapping[str, Any]) -> str:
    if own["interval"] is None:
        return own["words"]
    bounds = " to ".join(f"{one['bound']} {one['value']:.2f}".strip() for one in own["interval"])
    return f"{own['words']} ({bounds})"
