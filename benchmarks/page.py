"""Write docs/performance.md from the records in results/benchmarks.

Run: python benchmarks/page.py (`make bench` does, after the benchmarks)
"""

import json
from pathlib import Path
from typing import Any

from _common import RESULTS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
PEERS = {  # record: (title, peer)
    "step-32px": ("Training step", "open_clip's model and loss with AdamW, same sizes"),
    "gradient-cache": ("Gradient cache, 4 parts", "our own step without it"),
    "tiled-loss": ("Tiled losses", "the shortest PyTorch code of each loss"),
    "decoding": ("Decoding JPEG", "Pillow: open, convert, resize"),
    "data-check": ("Checking a data set", "the clock"),
    "embedding": ("Embedding through packaged encoders", "the clock"),
    "objectives": ("Published sums, 64 patches", "a step of our own CLIP"),
    "stored-teachers": ("Stored teachers", "a step of the same towers without a teacher"),
    "compress-speed": ("Students of half the size", "their teacher"),
    "search-100k": ("Search in an index of 100,000 rows", "the clock; scipy's product for words"),
    "search": ("Search in an index", "the clock; scipy's product for words"),
    "curate": ("Curation of a million rows", "the clock; datasketch"),
    "serve": ("Serving an index", "the clock"),
    "time-to-accuracy": ("Time to an accuracy", "open_clip, as tuned in docs/results.md"),
}
HEAD = """# Performance

Written by `python benchmarks/page.py` from the records in `results/benchmarks/`. `make bench` measures
again. Times are CPU time on one thread, medians of arms that ran in turn in one process. Only ratios within
one run are claims. The limit is the best rate of a matrix product, or of the decoder alone, in the same run.
"""


def metric(value: float) -> str:
    return f"{value:.1e}" if value < 1e-2 else f"{value:.2f}"


def rows(name: str, found: dict[str, Any]) -> list[str]:
    """A table row for each goal of a record."""
    title, peer = PEERS[name]
    lines = []
    for goal in found["goals"]:
        met = (
            goal["reached"] >= goal["goal"] if goal["way"] == "at least" else goal["reached"] <= goal["goal"]
        )
        wanted = f"{goal['way']} {metric(goal['goal'])}"
        cells = (title, goal["what"], peer, metric(goal["reached"]), wanted, "yes" if met else "**no**")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def limits(name: str, found: dict[str, Any]) -> list[str]:
    """How far a benchmark is from what the machine can do."""
    shares = found.get("share_of_limit", {})
    return [
        f"- {PEERS[name][0]}, {what}: {share:.0%} of the measured limit" for what, share in shares.items()
    ]


def main() -> None:
    """Write the page."""
    records = {
        name: json.loads((RESULTS / f"{name}.json").read_text())
        for name in PEERS
        if (RESULTS / f"{name}.json").is_file()
    }
    lines = [HEAD, "| what | metric | peer | reached | goal | met |", "|---|---|---|---|---|---|"]
    lines += [line for name, found in records.items() for line in rows(name, found)]
    lines += [
        "",
        "Distance to the machine's limit:",
        "",
        *(line for name, found in records.items() for line in limits(name, found)),
        "",
        "Machines:",
        "",
    ]
    for name, found in records.items():
        about = found["environment"]
        commit = str(about["commit"])[:9]
        lines.append(f"- {PEERS[name][0]}: {about['device']}, {about['threads']} thread, commit {commit}")
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
