"""The part of the page of results that tells how right advice was."""

from typing import Any


def advice(found: dict[str, Any]) -> list[str]:
    """Predictions of kinds of data that were left out whole, and races on their runs."""
    races = found["raced"]
    kinds = len({one["data"] for one in found["predictions"]})
    lines = [
        "## Advice",
        "",
        f"`python benchmarks/advise.py`: {found['runs']} runs on {kinds} data sets, whole and as a quarter, "
        "each predicted by the runs on data of other kinds. The interval of the mean is that of the other "
        "runs' values.",
        "",
        "| predictions | `advise` | always the mean |",
        "|---|---|---|",
        f"| mean error, points | {found['error']:.1f} | {found['error_of_the_mean']:.1f} |",
        f"| 80 % interval covers, % | {100 * found['covered']:.0f} | – |",
        f"| width of the interval, points | {found['width']:.1f} | {found['width_of_the_mean']:.1f} |",
        f"| regret of the run predicted best, points | {found['regret']:.1f} | – |",
        "",
        f"With at most a quarter of the time of all runs, races used {100 * races['share_of_time']:.0f} % of "
        f"it and lost {races['regret']:.1f} points to the best run (at most {races['largest_regret']:.1f}). "
        f"They were better than always `pretrained` on {races['better_than_pretrained']} and worse on "
        f"{races['worse_than_pretrained']} of {len(races['races'])}, and better than the longest run that "
        f"fits on {races['better_than_longest']} and worse on {races['worse_than_longest']}.",
        "",
        "| data | pairs | best | race | predicted best | `pretrained` | longest |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in races["races"]:
        own = [
            row
            for row in found["predictions"]
            if (row["data"], row["fraction"]) == (one["data"], one["fraction"])
        ]
        chosen = max(own, key=lambda row: row["predicted"])["value"] if own else float("nan")
        cells = (one["best"], one["value"], chosen, one["pretrained"], one["longest"])
        share = "all" if one["fraction"] == 1 else f"{one['fraction']:g}"
        lines.append(f"| {one['data']} | {share} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    return [*lines, ""]
