"""The section of the results page about classes that fail."""

from typing import Any

COLUMNS = (
    "predicted from the others",
    "runs",
    "classes",
    "AUROC",
    "ceiling",
    "pairs alone",
    "mentions alone",
    "names alone",
    "in the interval",
    "width",
    "width of the mean's",
)
BASELINES = ("log_count", "mentions", "text_only")


def table(record: dict[str, Any]) -> list[str]:
    """One row for each source, all of them first."""
    rows = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for name, own in record["held_out"].items():
        aurocs = own["auroc"]
        shares = [aurocs["forecast"], own["ceiling"], *(aurocs[way] for way in BASELINES)]
        cells = [name, str(own["runs"]), str(own["classes"]), *(f"{share:.2f}" for share in shares)]
        cells += [f"{100 * own[key]:.0f}" for key in ("coverage", "width", "width_of_mean")]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def mending(found: dict[str, Any]) -> str:
    """What the check of `pairs needed` found."""
    if not found["classes"]:
        return "`pairs needed` has not been checked."
    shares = {key: f"{found[key]:.0%}" for key in ("within_a_factor_of_two", "too_few", "too_many")}
    return (
        f"Pairs needed, of {found['classes']} classes that were mended: right within a factor of two for "
        f"{shares['within_a_factor_of_two']}, too few for {shares['too_few']}, more than twice too many for "
        f"{shares['too_many']}."
    )


def failing_classes(record: dict[str, Any]) -> list[str]:
    """The section."""
    return [
        "## Classes that will fail",
        "",
        f"`python benchmarks/failing_classes.py`: recipe `{record['recipe']}`, each source of pictures "
        "predicted from runs on the others. AUROC of the lowest third, mean over runs; intervals of 80 %, in "
        "percent and points.",
        "",
        *table(record),
        "",
        mending(record["pairs_needed"]),
        "",
    ]
