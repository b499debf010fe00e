"""ALIGN's question: where do four times as many noisy pairs beat a quarter of them that is clean?

On composed scenes 0, 20 or 50 % of the captions are swapped; runs see 24,216 pairs or a quarter of them. On
clip art the noise is that of the crawl: all pairs, a random quarter, and the quarter with the highest
cross-fitted cosines, which is the cleaner one. Every run sees equally many samples. Each of these is trained
by plain InfoNCE, and where there is noise also with label smoothing (ALIGN: 0.1), with the pairwise sigmoid,
and with equal captions as positives. One peak learning rate, that of the benchmark of quarters.

Expected before the runs: four times the pairs with 20 % noise beat a clean quarter, with 50 % they do not;
smoothing and the sigmoid gain with noise, positives only where captions repeat, which is on clip art.

Writes a record for each run into results/more-noise/ as soon as it has ended, and results/more-noise.json.
The same command goes on where it was stopped.
Run: FRUGALCLIP_PACKS=... python benchmarks/more_noise.py [--seeds 3] [--jobs 2] [--only PACK] [--predict]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import quarter
from _common import HERE
from _packs import (
    PACKS,
    RATES,
    TRAIN,
    Pack,
    prepare,
    random_rows,
    read_options,
    recipe,
    seconds_of_a_sample,
    training_rows,
)
from _runs import Run, block, run_all

from frugalclip.comparison.paired import holm, paired, verdict
from frugalclip.core.records import environment, write_json
from frugalclip.data.manifest import Manifest

RESULT = HERE.parent / "results" / "more-noise.json"
RECORDS, RUNS = HERE.parent / "results" / "more-noise", HERE.parent / "runs" / "more-noise"
FEW = 0.25  # share of the pairs that is one; all are four
NOISES = (0.0, 0.2, 0.5)  # planted, on scenes
REMEDIES: dict[str, dict[str, Any]] = {
    "plain": {"contrastive": {"positives": None}},
    "smoothing": {"contrastive": {"positives": None, "smoothing": 0.1}},
    "sigmoid": {"contrastive": None, "sigmoid": {"weight": 1}},
    "positives": {"contrastive": {"positives": "caption"}},
}


@dataclass(frozen=True)
class Cell:
    """Training pairs of some noise and number."""

    noise: str  # percent that is swapped; natural, or cleaner
    pairs: int  # 1 or 4

    @property
    def name(self) -> str:
        """`noise20-x4`."""
        return f"noise{self.noise}-x{self.pairs}"


def cells(pack: Pack) -> list[Cell]:
    """The pairs that are compared on a pack, the cleanest quarter first."""
    if pack.noise == 0:
        return [Cell("cleaner", 1), Cell("natural", 1), Cell("natural", 4)]
    return [Cell(f"{100 * noise:g}", pairs) for noise in NOISES for pairs in (1, 4)]


def arms(pack: Pack) -> list[tuple[Cell, str]]:
    """Every cell by InfoNCE, and where there is noise with each remedy."""
    return [
        (cell, remedy)
        for cell in cells(pack)
        for remedy in REMEDIES
        if remedy == "plain" or cell.noise not in ("0", "cleaner")
    ]


def questions(pack: Pack) -> list[tuple[str, str]]:
    """Names of two arms: more noisy pairs against fewer clean ones, remedies against none, noise at one size.

    All against the plain clean quarter come first.
    """
    clean = f"{cells(pack)[0].name}-plain"
    more = [(f"{cell.name}-{remedy}", clean) for cell, remedy in arms(pack) if cell.pairs == 4]
    cured = [
        (f"{cell.name}-{remedy}", f"{cell.name}-plain") for cell, remedy in arms(pack) if remedy != "plain"
    ]
    return more + cured


def cell_rows(pack: Pack, cell: Cell, seed: int, *, jobs: int) -> Path:
    """A manifest of the training rows of a cell."""
    if cell.noise == "cleaner":
        return quarter.Benchmark(pack, jobs=jobs).rows("clip-top", seed)
    noise = 0.0 if cell.noise == "natural" else float(cell.noise) / 100
    whole = training_rows(pack, RUNS, noise=noise)
    if cell.pairs == 4:
        return whole
    path = RUNS / "rows" / f"{pack.name}-{cell.name}-{seed}.parquet"
    if not path.is_file():
        rows = Manifest.read(whole)
        random_rows(rows, round(FEW * len(rows)), seed=seed).write(path)
    return path


def make_run(pack: Pack, cell: Cell, remedy: str, seed: int, *, jobs: int) -> Run:
    """One run."""
    arm = f"{cell.name}-{remedy}"
    called = f"{pack.name}-{arm}-{seed}"
    content = recipe(pack.architecture, samples=pack.samples, rate=RATES[0], objectives=REMEDIES[remedy])
    return Run(
        arm=arm,
        seed=seed,
        recipe=content,
        data=pack.data,
        train=TRAIN,
        folder=RUNS / "runs" / called,
        record=RECORDS / f"{called}.json",
        metrics=pack.metrics,
        rows=str(cell_rows(pack, cell, seed, jobs=jobs)),
    )


def summary(pack: Pack, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Values of every arm, and the questions with paired differences; Holm over the questions.

    Returns:
        metric -> `arms` (arm -> value) and `questions` (`ARM - REFERENCE` -> value, interval, p, verdict).
    """
    found: dict[str, Any] = {}
    for metric in pack.metrics:
        names = [f"{cell.name}-{remedy}" for cell, remedy in arms(pack)]
        blocks = {name: block(records, name, metric) for name in names}
        estimates = {pair: paired(blocks[pair[0]], blocks[pair[1]]) for pair in questions(pack)}
        ps = holm([one.p for one in estimates.values()])
        found[metric] = {
            "arms": {name: float(own[""].means().mean()) for name, own in blocks.items()},
            "questions": {
                " - ".join(pair): {
                    "value": one.value,
                    "interval": None if one.interval is None else list(one.interval),
                    "p": p,
                    "verdict": verdict(one, p),
                }
                for (pair, one), p in zip(estimates.items(), ps, strict=True)
            },
        }
    return found


def predicted(packs: Sequence[Pack], *, seeds: int, jobs: int) -> str:
    """The hours of all runs, in words; what scores clip art is counted, if it is not there."""
    hours = {
        pack.name: pack.samples
        * seconds_of_a_sample(pack.architecture)
        * (seeds * len(arms(pack)) + (quarter.FOLDS if pack.noise == 0 else 0))
        / 3600
        / jobs
        for pack in packs
    }
    each = ", ".join(f"{name} {one:.1f}" for name, one in hours.items())
    return f"predicted hours, {jobs} runs at a time: {sum(hours.values()):.1f} ({each})"


def main() -> None:
    """Train what is missing, and write the record."""
    chosen = read_options(__doc__)
    packs = [PACKS[name] for name in chosen.only or PACKS]
    print(predicted(packs, seeds=chosen.seeds, jobs=chosen.jobs), flush=True)
    if chosen.predict:
        return
    found: dict[str, Any] = {"seeds": chosen.seeds, "environment": environment(), "packs": {}}
    for pack in packs:
        prepare(pack)
        runs = [
            make_run(pack, cell, remedy, seed, jobs=chosen.jobs)
            for seed in range(chosen.seeds)
            for cell, remedy in arms(pack)
        ]
        found["packs"][pack.name] = summary(pack, run_all(runs, jobs=chosen.jobs))
        show(pack, found["packs"][pack.name])
    write_json(RESULT, found)


def show(pack: Pack, found: Mapping[str, Any]) -> None:
    """Print the answers."""
    for metric, one in found.items():
        print(f"{pack.name}, {metric}")
        for pair, own in one["questions"].items():
            print(f"  {pair}: {own['value']:+.2f} points, {own['verdict']}")


if __name__ == "__main__":
    main()
