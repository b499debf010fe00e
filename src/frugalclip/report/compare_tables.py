"""The tables of a comparison as rows of text, which the page and the terminal both show.

Reads the content of `compare.json` and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from frugalclip.core.terminal import Terminal
from frugalclip.evaluation.metrics import metric_name, words
from frugalclip.report.formats import (
    MISSING,
    counted,
    duration,
    is_finite,
    is_interval,
    number,
    percent,
    short_count,
    span,
)

Row = list[Any]
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class ComparisonTable:
    """A table before it is rendered; the first cell of a row names it, and a cell may hold two lines."""

    caption: str
    columns: list[str]
    rows: list[Row]
    foot: str = ""


def points(value: Any) -> str:
    """A difference with its sign: `+4.1`."""
    if not is_finite(value):
        return MISSING
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", MINUS)  # + 0.0: no minus before a zero


def point_span(interval: Any) -> str:
    """The interval of a difference, `+2.0 to +6.2`, or nothing."""
    return " to ".join(points(v) for v in interval) if is_interval(interval) else ""


def p_value(p: Any) -> str:
    """`= 0.031`, `< 0.001`."""
    return MISSING if not is_finite(p) else "< 0.001" if p < 0.001 else f"= {p:.3f}"


def two(first: str, second: str) -> str:
    """A cell of two lines."""
    return f"{first}\n{second}" if second else first


def arm_names(result: Mapping[str, Any]) -> list[str]:
    """The arms, the reference first."""
    names = [arm["name"] for arm in result["arms"]]
    return sorted(names, key=lambda name: name != result["reference"])


def primary_name(result: Mapping[str, Any]) -> str:
    """The primary metric in words: `unseen, top-1 accuracy`."""
    metric = result["metrics"][result["primary"]]
    return f"{result['primary']}, {metric_label(metric)}"


def metric_label(metric: Mapping[str, Any]) -> str:
    """A metric in words, with its pool."""
    name = metric_name(metric["metric"])
    return name[:1].lower() + name[1:] + (", all names" if metric.get("pool") == "all" else "")


def verdict_table(result: Mapping[str, Any]) -> ComparisonTable:
    """Every arm on the primary metric: value, difference, p and verdict, then baselines and chance."""
    metric, tests = result["metrics"][result["primary"]], {test["arm"]: test for test in result["tests"]}
    rows = []
    for name in arm_names(result):
        own, test = metric["arms"][name], tests.get(name)
        value = (
            two(percent(own["value"]), span(own["interval"]) if is_interval(own["interval"]) else "")
            if is_finite(own["value"])
            else "no finished trial"
        )
        if test is None:
            rows.append([name, value, "reference", ""])
            continue
        fewer = test["runs"] and test["runs"] < max(own["runs"], metric["arms"][result["reference"]]["runs"])
        pairs = f"of {counted(test['runs'], 'pair')} of runs" if fewer else ""
        known = ", ".join(filter(None, (point_span(test["interval"]), pairs)))
        difference = two(points(test["value"]), known)
        p = f"p {p_value(test['p_holm'])}" if is_finite(test["p_holm"]) else ""
        rows.append([name, value, difference, two(test["verdict"], p)])
    rows += [[words(name), percent(value), "", "no training"] for name, value in _levels(metric)]
    columns = ["Arm", "Value", f"Difference to {result['reference']}", "Verdict"]
    return ComparisonTable(f"{primary_name(result)}: percent, 95 % intervals", columns, rows, _how(result))


def _how(result: Mapping[str, Any]) -> str:
    test = next(iter(result["tests"]), None)
    if test is None or not test["runs"]:
        return ""
    folds = f" in {test['folds']} folds" if test["folds"] > 1 else ""
    kind = "independent" if result["independent_seeds"] else "paired"
    return (
        f"{test['runs']} {kind} runs{folds}, {test['families']:,} families of samples. "
        "Intervals and p treat both runs and families as random samples. "
        "p is corrected over the arms (Holm), and a verdict needs p below 0.05."
    )


def _levels(metric: Mapping[str, Any]) -> list[tuple[str, float]]:
    baselines = sorted(metric.get("baselines", {}).items(), key=lambda item: -item[1])
    return [*baselines, *([("chance", metric["chance"])] if is_finite(metric.get("chance")) else [])]


def metrics_table(result: Mapping[str, Any]) -> ComparisonTable:
    """Every arm on every metric; only differences on the primary one are tested."""
    names = list(result["metrics"])
    rows = []
    for arm in arm_names(result):
        row: Row = [arm]
        for name in names:
            own = result["metrics"][name]["arms"][arm]
            row.append(two(percent(own["value"]), _gap(own["difference"])))
        rows.append(row)
    levels = list(dict.fromkeys(level for name in names for level, _ in _levels(result["metrics"][name])))
    rows += [
        [words(level), *(percent(dict(_levels(result["metrics"][name])).get(level)) for name in names)]
        for level in levels
    ]
    foot = (
        f"Below each value its difference to {result['reference']} with a 95 % interval. "
        f"Only the primary metric, {result['primary']}, is tested."
    )
    return ComparisonTable("Percent", ["Arm", *names], rows, foot)


def fold_table(result: Mapping[str, Any]) -> ComparisonTable | None:
    """The primary metric by fold, where there are several."""
    folds = result["folds"]
    if len(folds) < 2:
        return None
    metric = result["metrics"][result["primary"]]
    rows = [
        [arm, *(percent(metric["arms"][arm]["by_fold"].get(fold)) for fold in folds)]
        for arm in arm_names(result)
    ]
    return ComparisonTable(f"{primary_name(result)}, by held-out value", ["Arm", *folds], rows)


def baseline_table(result: Mapping[str, Any]) -> ComparisonTable | None:
    """Every arm against the baselines, or None where there are none."""
    tests = {(test["arm"], test["baseline"]): test for test in result["baseline_tests"]}
    baselines = list(dict.fromkeys(baseline for _, baseline in tests))
    if not baselines:
        return None
    rows = []
    for arm in arm_names(result):
        found = [tests[arm, baseline] for baseline in baselines]
        rows.append(
            [
                arm,
                *(
                    two(points(test["value"]), f"{point_span(test['interval'])} {test['verdict']}".strip())
                    for test in found
                ),
            ]
        )
    caption = f"{primary_name(result)}: points above each baseline"
    foot = (
        "Baselines copy the words of the nearest training images; differences are paired by sample. "
        "A verdict needs p below 0.05, corrected over the arms (Holm)."
    )
    return ComparisonTable(caption, ["Arm", *map(words, baselines)], rows, foot)


def curve_table(result: Mapping[str, Any]) -> ComparisonTable | None:
    """The metric of the validation set at equal samples and at equal seconds, read from the same runs."""
    curves = result["curves"]
    if "equal_samples" not in curves:
        return None
    rows = []
    for arm in arm_names(result):
        own = curves["arms"][arm]
        row: Row = [arm]
        for axis in ("samples", "seconds"):
            at = own[f"at_equal_{axis}"]
            row.append(two(percent(at["value"]), _gap(at["difference"])))
        area = own["area_samples"]
        row.append(two(percent(area["value"]), _gap(area["difference"])))
        row.append(
            two(_share(own["points_above_samples"]), f"{_share(own['points_above_seconds'])} over seconds")
            if own["reach"]
            else ""
        )
        row.append(reach_words(own["reach"]) if own["reach"] else "reference")
        rows.append(row)
    at = f"At {short_count(curves['equal_samples'])} samples", f"At {duration(curves['equal_seconds'])}"
    columns = [
        "Arm",
        *at,
        "Area under the curve",
        "Points above the reference",
        "Time to the reference's end",
    ]
    kind = "processor seconds" if curves["clock"] == "cpu" else "wall seconds"
    foot = (
        f"{metric_name(curves['metric'].partition('/')[2])} on the validation set; seconds are {kind}. "
        "Both columns read the same runs. At equal seconds a slower arm has not ended its learning-rate "
        "schedule, which counts against it; --seconds gives every arm a whole schedule of that length."
    )
    return ComparisonTable(f"{curves['metric']} during training, percent", columns, rows, foot)


def _gap(difference: Mapping[str, Any] | None) -> str:
    if not difference or not is_finite(difference["value"]):
        return ""
    low_high = point_span(difference["interval"])
    return f"{points(difference['value'])} ({low_high})" if low_high else points(difference["value"])


def _share(value: Any) -> str:
    return f"{value:.0f} %" if is_finite(value) else MISSING


def reach_words(reach: Mapping[str, Any]) -> str:
    """How much sooner an arm reaches the final value of the reference.

    Returns:
        `3.10 × sooner` above its interval `2.20 × sooner to 4.40 × sooner`, or `never reached`.
    """
    if not reach["runs"]:
        return MISSING
    interval = reach["interval"]
    bounds = " to ".join(_sooner(v) for v in interval) if interval else ""
    return two(_sooner(reach["times_sooner"]), bounds if interval != [None, None] else "")


def _sooner(factor: Any) -> str:
    if not is_finite(factor):
        return "never reached"
    return f"{factor:.2f} × sooner" if factor >= 1 else f"{1 / factor:.2f} × later"


def data_efficiency_table(result: Mapping[str, Any]) -> ComparisonTable | None:
    """How many times fewer pairs an arm needs, and the metric on every fraction."""
    efficiency = result.get("data_efficiency")
    if not efficiency:
        return None
    columns = ["Arm", "Data efficiency", *(_share_of_pairs(f) for f in result["fractions"])]
    rows = []
    for arm in arm_names(result):
        own = efficiency["arms"][arm]
        if own is None:
            rows.append([arm, "not trained on every fraction", *("" for _ in result["fractions"])])
            continue
        interval = (
            " to ".join(bound_words(b) for b in own["interval"])
            if own["interval"]
            else "one seed: no interval"
        )
        values = [two(percent(f["value"]), f"{number(round(f['pairs']))} pairs") for f in own["fractions"]]
        rows.append([arm, two(bound_words(own["factor"]), interval), *values])
    foot = (
        f"On how many times fewer pairs an arm reaches the value of {efficiency['reference']} on all pairs "
        f"({efficiency['metric']}), with a 95 % interval. "
        "> and < mark factors outside the measured fractions: nothing is extrapolated. "
        "Runs on every fraction see equally many samples."
    )
    return ComparisonTable(f"Data efficiency against {efficiency['reference']}", columns, rows, foot)


def _share_of_pairs(fraction: float) -> str:
    return "All pairs" if fraction == 1 else f"{Fraction(fraction).limit_denominator(1000)} of the pairs"


def bound_words(bound: Mapping[str, Any]) -> str:
    """`2.10 ×`, `> 8.00 ×`."""
    return f"{bound['bound']} {bound['value']:.2f} ×".strip()


def cost_table(result: Mapping[str, Any]) -> ComparisonTable:
    """What a run of each arm costs, averaged over its runs."""
    columns = [
        "Arm",
        "Parameters",
        "Samples seen",
        "Seconds",
        "CPU seconds",
        "Samples/s",
        "Peak memory",
        "Points",
        "Runs",
    ]
    rows = []
    for arm in arm_names(result):
        cost = result["costs"][arm]
        memory = cost.get("peak_memory_bytes")
        rows.append(
            [
                arm,
                short_count(cost["parameters"]),
                short_count(cost["samples_seen"]),
                *(
                    f"{cost[key]:,.1f}" if is_finite(cost[key]) else MISSING
                    for key in ("seconds", "cpu_seconds")
                ),
                number(round(cost["samples_per_second"]))
                if is_finite(cost["samples_per_second"])
                else MISSING,
                f"{memory / 2**20:,.0f} MiB" if is_finite(memory) else MISSING,
                number(cost["evaluations"]),
                cost["trials"],
            ]
        )
    return ComparisonTable("Cost of a run", columns, rows)


def print_comparison(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the answer and the tables."""
    console = console or Terminal()
    if not console.is_terminal:  # a file has room for wide rows
        console = Terminal(width=max(console.width, 132), file=console.file)
    console.print(Text(str(result["answer"]), style="bold"), soft_wrap=True)
    first = (verdict_table(result), baseline_table(result), metrics_table(result), fold_table(result))
    for one in (*first, curve_table(result), data_efficiency_table(result), cost_table(result)):
        if one is not None:
            console.print(_rich(one))
            if one.foot:
                console.print(Text(one.foot, style="dim"), soft_wrap=True)
    failed = [trial for trial in result["trials"] if trial["status"] == "failed"]
    for trial in failed[:5]:
        console.print(Text(f"failed: {trial['folder']}: {trial['message']}", style="red"), soft_wrap=True)
    for note in result["notes"]:
        console.print(Text(note, style="yellow"), soft_wrap=True)


def _rich(found: ComparisonTable) -> Table:
    table = Table(title=found.caption, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(found.columns):
        is_words = place == 0 or column == "Verdict"
        least = len("distinguishable") if column == "Verdict" else None
        table.add_column(column, justify="left" if is_words else "right", min_width=least, overflow="fold")
    for row in found.rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return table


def unfinished(trials: Sequence[Mapping[str, Any]]) -> str:
    """`3 of 36 trials failed, 5 have not run`, or nothing."""
    failed, waiting = (sum(t["status"] == status for t in trials) for status in ("failed", "not run"))
    parts = [f"{failed:,} of {len(trials):,} trials failed"] if failed else []
    parts += [f"{waiting:,} of {len(trials):,} have not run"] if waiting else []
    return ", ".join(parts)
