"""Claim: `frugalclip compare` declares at most about one false win in twenty, and finds real differences.

Two arms toss coins. Families of samples have abilities that both arms share and favour one arm; runs are
better or worse by chance. Without a difference every verdict is false. A difference of 0.6 logits (about ten
points) should be found.

`python benchmarks/false_claims.py` prints the table of docs/decisions/0007 and writes
results/benchmarks/false-claims.json, in about a minute.
"""

from pathlib import Path

import numpy as np

from frugalclip.comparison.paired import FoldOutcomes, paired
from frugalclip.core.records import environment, write_json

RESULT = Path(__file__).resolve().parents[1] / "results" / "benchmarks" / "false-claims.json"
# seeds, folds, families, spread over families and over runs (standard deviations of the logit)
SETTINGS = [
    (2, 1, 180, 1.0, 0.3),
    (3, 1, 60, 0.0, 0.0),
    (3, 1, 180, 0.0, 0.3),
    (3, 1, 180, 1.0, 0.3),
    (6, 1, 180, 0.3, 0.1),
    (6, 1, 180, 1.0, 0.3),
    (3, 3, 180, 0.3, 0.1),
    (3, 3, 180, 1.0, 0.3),
    (6, 3, 180, 0.0, 0.0),
    (6, 3, 180, 1.0, 0.3),
]
NULLS, BOOTSTRAPS, EFFECTS = (
    1000,
    200,
    200,
)  # comparisons without a difference, those of them with a bootstrap, and those with one
EFFECT = 0.6  # logits


def arms(
    random: np.random.Generator,
    seeds: int,
    folds: int,
    families: int,
    by_family: float,
    by_run: float,
    effect: float,
) -> list[dict[str, FoldOutcomes]]:
    """Outcomes of two arms: fold -> hits of every run and family, one sample a family."""
    names = np.array([f"f{i:03}" for i in range(families)])
    ability, likes = (random.normal(0, 1.5, families), random.normal(0, by_family, families))
    found: list[dict[str, FoldOutcomes]] = [{}, {}]
    for fold in range(folds):
        here = likes + random.normal(0, by_family / 2, families)
        for arm, side in zip(found, (0.5, -0.5), strict=True):
            logits = ability - 0.6 + random.normal(0, by_run, seeds)[:, None] + side * (effect + here)
            hits = random.random((seeds, families)) < 1 / (1 + np.exp(-logits))
            arm[str(fold)] = FoldOutcomes(
                hits.astype(np.float64), names, np.ones(families), names, tuple(range(seeds))
            )
    return found


def measure(setting: tuple[int, int, int, float, float]) -> dict[str, float]:
    """Shares of false claims and of differences that were found."""
    random = np.random.default_rng(1)
    false = sum((paired(*arms(random, *setting, 0.0)).p or 0) < 0.05 for _ in range(NULLS - BOOTSTRAPS))
    outside = 0
    for _ in range(BOOTSTRAPS):
        one = paired(*arms(random, *setting, 0.0), draws=400)
        assert one.p is not None and one.pigeonhole is not None
        false += one.p < 0.05
        outside += not one.pigeonhole[0] <= 0 <= one.pigeonhole[1]
    found = sum((paired(*arms(random, *setting, EFFECT)).p or 0) < 0.05 for _ in range(EFFECTS))
    return {"false_claims": false / NULLS, "pigeonhole": outside / BOOTSTRAPS, "found": found / EFFECTS}


def main() -> None:
    """Print the table and write the record."""
    rows = []
    print(
        "| seeds x folds, families | family, run | false claims | pigeonhole | found |\n|---|---|---|---|---|"
    )
    for setting in SETTINGS:
        seeds, folds, families, by_family, by_run = setting
        row = measure(setting)
        rows.append(
            {"seeds": seeds, "folds": folds, "families": families, "family": by_family, "run": by_run, **row}
        )
        shares = f"{row['false_claims']:.3f} | {row['pigeonhole']:.3f} | {row['found']:.2f}"
        print(f"| {seeds} x {folds}, {families} | {by_family:g}, {by_run:g} | {shares} |", flush=True)
    write_json(
        RESULT,
        {
            "claim": "false claims at 0.05, and differences found",
            "effect_logits": EFFECT,
            "rows": rows,
            "environment": environment(),
        },
    )


if __name__ == "__main__":
    main()
