"""Claim: a recipe is not distinguishable from itself; at most two of twenty comparisons have a winner.

Every comparison trains `clip-small` for a short while under two names, with three seeds each, on two styles
of the shipped pairs, and evaluates unseen concepts of the third. Finished trials are not trained again.
Run: python benchmarks/same_recipe.py [--pairs 20] [--jobs 2]
"""

from pathlib import Path
from typing import Any

from _common import options, record

from frugalclip.comparison.protocol import read_protocol
from frugalclip.core.records import read_json
from frugalclip.verbs.compare import compare

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "runs" / "same-recipe"
SHORT = ["samples=3072", "model.image.resolution=16", "objectives.contrastive.positives=[concept,caption]"]


def verdict(number: int, *, seeds: int, jobs: int) -> dict[str, Any]:
    """Train one pair and read the verdict of its comparison."""
    names = [f"{letter}{number:02}" for letter in "ab"]
    out = OUT / f"pair-{number:02}"
    metrics = {"unseen": {"where": "{split},is_flag=false", "primary": True}}
    protocol = read_protocol(
        HERE / "protocols" / "sample.yaml", {"folds": ["twemoji"], "points": 2, "metrics": metrics}
    )
    compare(
        [*(f"{name}:clip-small" for name in names), *SHORT],
        out=out,
        seeds=seeds,
        protocol=protocol,
        jobs=jobs,
    )
    test = read_json(out / "compare.json")["tests"][0]
    return {
        "pair": number,
        **{key: test[key] for key in ("value", "interval", "p", "verdict")},
        "wins": test["verdict"] in ("better", "worse"),
    }


def main() -> None:
    """Run the pairs that are missing and count."""
    chosen = options(__doc__ or "", "same-recipe", pairs=20, seeds=3, jobs=2)
    found = [verdict(number, seeds=chosen.seeds, jobs=chosen.jobs) for number in range(chosen.pairs)]
    wins = sum(one["wins"] for one in found)
    content = {"pairs": found, "seeds": chosen.seeds, "recipe": "clip-small", "settings": SHORT}
    record(chosen.json, content, [("winners declared", wins, 2, "at most")])


if __name__ == "__main__":
    main()
