"""A quarter of the pairs against all: composed scenes with 30 % swapped captions, and a crawl of clip art.

Every arm but `all` trains on exactly a quarter of the training rows. `random` draws them, `clip-top` takes
the highest cosines, `quarter` is TL;DR's choice among the better aligned half. Scores are cross-fitted: each
half of the rows is scored by a CLIP that was trained on the other half. With one seed also: `free` (TL;DR
without alignment, as the ready plan `quarter`), `stratified` (at random within clusters), `captioner` (codes
of a captioner that was trained on the rows), `metaclip` (balanced words), `semdedup` (rows that repeat others
least, by a model's features), and the main arms in another architecture. Runs of `-epochs` see each pair as
often as `all` does, so a quarter of the samples.

Peak learning rates are the best of three on validation rows, tuned alike for `all` and for `quarter`, whose
rate all quarters take. Metrics are those of clean test rows: the reciprocal rank of retrieval, and naming the
background (scenes) or the category (clip art).

Expected before the runs: on scenes, where noise is planted, `quarter` and `clip-top` are above `all` at equal
samples, and `quarter` above `random` everywhere; on clip art `quarter` is level with `all`. At equal epochs
all quarters lose to `all`, and take a quarter of its time.

Writes a record for each run into results/quarter/ as soon as it has ended, and results/quarter.json. The same
command goes on where it was stopped.
Run: FRUGALCLIP_PACKS=... python benchmarks/quarter.py [--seeds 3] [--jobs 2] [--only PACK] [--predict]
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import yaml
from _common import HERE, best_rate
from _packs import (
    PACKS,
    RATES,
    TRAIN,
    Architecture,
    Pack,
    prepare,
    random_rows,
    read_options,
    recipe,
    seconds_of_a_sample,
    training_rows,
)
from _runs import Metric, Run, block, run_all

import frugalclip
from frugalclip.comparison.paired import holm, paired, verdict
from frugalclip.core.numerics import kmeans
from frugalclip.core.random import generator, uniform
from frugalclip.core.records import environment, write_json
from frugalclip.curation.outputs import MANIFEST
from frugalclip.curation.run import stage_files
from frugalclip.data.manifest import Manifest
from frugalclip.data.tables import read_parquet

RESULT = HERE.parent / "results" / "quarter.json"
RECORDS, RUNS = HERE.parent / "results" / "quarter", HERE.parent / "runs" / "quarter"
KEEP, TUNING_SEED, FOLDS = 0.25, 100, 2
MAIN = ("all", "random", "clip-top", "quarter")
SCREENED = ("free", "stratified", "captioner", "metaclip", "semdedup")  # one seed
ROWS_A_CLUSTER = 50  # of SemDeDup
SCORES = {"stage": "clip_score", "fraction": 1}
TLDR = {"stage": "tldr", "keep": KEEP}
PLANS: dict[str, list[dict[str, Any]]] = {
    "clip-top": [{**SCORES, "fraction": KEEP}],
    "quarter": [SCORES, {**TLDR, "alignment": "clip_score"}],
    "free": [TLDR],
    "stratified": [{**TLDR, "strategy": "stratified"}],
    "captioner": [SCORES, {**TLDR, "alignment": "clip_score", "model": "captioner"}],
    "metaclip": [{"stage": "balance", "tail_share": 0.15, "unmatched": "keep"}],
}
DEMANDS = (("quarter", "all"), ("quarter", "random"))


class Benchmark:
    """Runs on one pack.

    Args:
        pack: the data.
        jobs: runs at a time.
    """

    def __init__(self, pack: Pack, *, jobs: int) -> None:
        self.pack, self.jobs = pack, jobs

    def run(
        self,
        arm: str,
        seed: int,
        rows: Path,
        content: Mapping[str, Any],
        *,
        metrics: Mapping[str, Metric] | None = None,
    ) -> Run:
        """A run on some training rows; its metrics are those of the pack."""
        called = f"{self.pack.name}-{arm}-{seed}"
        return Run(
            arm=arm,
            seed=seed,
            recipe=content,
            data=self.pack.data,
            train=TRAIN,
            folder=RUNS / "runs" / called,
            record=RECORDS / f"{called}.json",
            metrics=metrics or self.pack.metrics,
            rows=str(rows),
        )

    def scorers(self) -> list[Path]:
        """Run directories of models that were each trained without a part of the rows, and a captioner."""
        whole = Manifest.read(training_rows(self.pack, RUNS))
        fold = (uniform(0, "benchmarks/fold", whole.codes("id").view(np.uint64), 1)[:, 0] * FOLDS).astype(int)
        runs = []
        for number in range(FOLDS):
            path = RUNS / "rows" / f"{self.pack.name}-fold{number}.parquet"
            if not path.is_file():
                whole.take(np.flatnonzero(fold == number)).write(path)
            content = recipe(self.pack.architecture, samples=self.pack.samples, rate=RATES[0])
            validation = {"retrieval": self.pack.validation}
            runs.append(self.run(f"fold{number}", 0, path, content, metrics=validation))
        run_all(runs, jobs=self.jobs)
        return [run.folder for run in runs]

    def captioner(self) -> Path:
        """The run directory of a captioner of all rows."""
        out = RUNS / "captioners" / self.pack.name
        rows, steps = training_rows(self.pack, RUNS), self.pack.samples // 32
        words = [f"data={rows}", f"data.where={TRAIN}", "data.validation=none", "epochs=null", "threads=1"]
        frugalclip.train(
            "tldr-captioner", [*words, "batch=32", f"steps={steps}"], out=out, resume=out.is_dir()
        )
        return out

    def rows(self, arm: str, seed: int) -> Path:
        """A manifest of the rows of an arm, exactly a quarter but for `all`."""
        whole = training_rows(self.pack, RUNS)
        path = RUNS / "rows" / f"{self.pack.name}-{arm}-{seed}.parquet"
        if arm == "all" or path.is_file():
            return whole if arm == "all" else path
        every = Manifest.read(whole)
        number = round(KEEP * len(every))
        if arm == "random":
            chosen = random_rows(every, number, seed=seed)
        elif arm == "semdedup":
            chosen = every.take(self.unlike_rows(every, number, seed=seed))
        else:
            chosen = self.curated(arm, seed, whole, number)
        chosen.write(path)
        return path

    def unlike_rows(self, every: Manifest, number: int, *, seed: int) -> np.ndarray:
        """(number,) rows that SemDeDup (arXiv 2303.09540) would drop last."""
        found = frugalclip.load(self.scorers()[0]).image_features(every)
        clusters = max(1, len(found.rows) // ROWS_A_CLUSTER)
        labels = kmeans(found.features, clusters, generator=generator(seed, "benchmarks/semdedup")).labels
        repeats = semantic_repeats(found.features.numpy(), labels.numpy())
        return np.sort(found.rows[np.argsort(repeats, kind="stable")[:number]])

    def curated(self, arm: str, seed: int, whole: Path, number: int) -> Manifest:
        """The rows that the plan of an arm keeps."""
        folder = RUNS / "chosen" / f"{self.pack.name}-{arm}-{seed}"
        plan = folder.with_suffix(".yaml")
        plan.parent.mkdir(parents=True, exist_ok=True)
        plan.write_text(yaml.safe_dump({"seed": seed, "stages": [self.stage(one) for one in PLANS[arm]]}))
        frugalclip.curate(whole, plan=plan, out=folder, resume=folder.is_dir())
        if arm != "metaclip":
            kept = Manifest.read(folder / MANIFEST)
            assert len(kept) == number, f"{arm} kept {len(kept):,} rows, expected {number:,}"
            return kept
        table = read_parquet(stage_files(folder)["balance"], advice="delete it")
        probability = dict(zip(table["id"].to_pylist(), table["value"].to_pylist(), strict=True))
        every = Manifest.read(whole)
        return weighted_rows(every, [probability[id] or 0.0 for id in every.ids], number, seed=seed)

    def stage(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """An entry of a plan, with the models that it reads."""
        if settings["stage"] == "clip_score":
            return {**settings, "model": [str(path.resolve()) for path in self.scorers()]}
        if settings.get("model") == "captioner":
            return {**settings, "model": str(self.captioner().resolve())}
        return dict(settings)

    def rates(self) -> dict[str, dict[str, Any]]:
        """`all` and `quarter` -> rates tried with their validation metric, and the best; half the length."""
        validation = {"retrieval": self.pack.validation}
        runs = [
            self.run(
                f"tuning-{arm}-{rate:g}",
                TUNING_SEED,
                self.rows(arm, 0),
                recipe(self.pack.architecture, samples=self.pack.samples // 2, rate=rate),
                metrics=validation,
            )
            for arm in ("all", "quarter")
            for rate in RATES
        ]
        values = iter([one["metrics"]["retrieval"]["mean"] for one in run_all(runs, jobs=self.jobs)])
        tried = {arm: {f"{rate:g}": next(values) for rate in RATES} for arm in ("all", "quarter")}
        return {arm: {"tried": one, "rate": best_rate(one)} for arm, one in tried.items()}

    def runs(self, rates: Mapping[str, Mapping[str, Any]], *, seeds: int) -> list[Run]:
        """All runs, those of the first seed first."""
        found = []
        for arm, seed, kind in schedule(seeds):
            pack, rate = self.pack, rates["all" if arm == "all" else "quarter"]["rate"]
            architecture = other(pack.architecture) if kind == "other" else pack.architecture
            samples = round(KEEP * pack.samples) if kind == "epochs" else pack.samples
            content = recipe(architecture, samples=samples, rate=rate)
            found.append(self.run(f"{arm}-{kind}" if kind else arm, seed, self.rows(arm, seed), content))
        return found


def weighted_rows(rows: Manifest, weights: Sequence[float], number: int, *, seed: int) -> Manifest:
    """So many rows, drawn by id with probabilities in proportion to their weights (Efraimidis & Spirakis)."""
    draws = uniform(seed, "benchmarks/weighted", rows.codes("id").view(np.uint64), 1)[:, 0]
    keys = np.log(np.maximum(draws, 1e-300)) / np.maximum(np.asarray(weights), 1e-12)
    return rows.take(np.sort(np.argsort(-keys, kind="stable")[:number]))


def semantic_repeats(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How like each row is to one of its cluster that SemDeDup prefers: those farther from the centre.

    Args:
        vectors: (rows, dim) unit vectors.
        labels: (rows,) cluster of each.

    Returns:
        (rows,) largest cosine, -1 for the row that is preferred to all others.
    """
    result = np.full(len(vectors), -1.0)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(vectors[rows] @ vectors[rows].mean(axis=0), kind="stable")]
        cosines = np.tril(vectors[rows] @ vectors[rows].T + 2, -1) - 2  # to rows before; -2: none
        result[rows[1:]] = cosines[1:].max(axis=1)
    return result


def other(architecture: Architecture) -> Architecture:
    """The second architecture."""
    return "convolutions" if architecture == "transformers" else "transformers"


def schedule(seeds: int) -> list[tuple[str, int, str]]:
    """Arm, seed and kind of every run: "" at equal samples, equal `epochs`, or the `other` architecture."""
    first = [(arm, 0, "") for arm in SCREENED] + [(arm, 0, "other") for arm in MAIN]
    main = [(arm, seed, "") for seed in range(seeds) for arm in MAIN]
    return main + [(arm, seed, "epochs") for seed in range(seeds) for arm in MAIN[1:]] + first


def summary(records: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> dict[str, Any]:
    """Values of each arm and paired differences of all arms from `all` and from `random`.

    Args:
        records: of one pack.
        metrics: names, the primary one first.

    Returns:
        `arms` (metric -> arm -> value, seeds), `differences` (metric -> arms -> value, interval, p after Holm
        over the demands, verdict), `seconds` (arm -> mean CPU seconds).
    """
    names = list(dict.fromkeys(one["arm"] for one in records))
    found: dict[str, Any] = {"arms": {}, "differences": {}}
    for metric in metrics:
        blocks = {name: block(records, name, metric) for name in names}
        found["arms"][metric] = {
            name: {"value": float(own[""].means().mean()), "seeds": len(own[""].seeds)}
            for name, own in blocks.items()
        }
        pairs = [*DEMANDS, *(pair for pair in _asides(names) if pair not in DEMANDS)]
        found["differences"][metric] = _differences(blocks, pairs)
    found["seconds"] = {
        name: fmean(one["cpu_seconds"] for one in records if one["arm"] == name) for name in names
    }
    return found


def _asides(names: Sequence[str]) -> list[tuple[str, str]]:
    """Every arm against `all` and `random`, in its architecture."""
    of_kind = {name: "-other" if name.endswith("-other") else "" for name in names}
    return [
        (name, f"{reference}{kind}")
        for reference in ("all", "random")
        for name, kind in of_kind.items()
        if name != f"{reference}{kind}" and f"{reference}{kind}" in of_kind
    ]


def _differences(blocks: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """`ARM - REFERENCE` -> paired difference in points over the seeds that both have."""
    estimates = {pair: paired(blocks[pair[0]], blocks[pair[1]]) for pair in pairs}
    ps = holm([estimates[pair].p for pair in DEMANDS])
    corrected = dict(zip(DEMANDS, ps, strict=True))
    return {
        " - ".join(pair): {
            "value": one.value,
            "interval": None if one.interval is None else list(one.interval),
            "p": corrected.get(pair, one.p),
            "verdict": verdict(one, corrected.get(pair, one.p)),
        }
        for pair, one in estimates.items()
    }


def predicted(packs: Sequence[Pack], *, seeds: int, jobs: int) -> str:
    """The hours of all runs, in words; curation and reading images are not counted."""
    lines, total = [], 0.0
    for pack in packs:
        own, second = (seconds_of_a_sample(one) for one in (pack.architecture, other(pack.architecture)))
        lengths = {"": own, "epochs": KEEP * own, "other": second}
        before = own * (FOLDS + len(RATES)) + seconds_of_a_sample("transformers")  # folds, rates, captioner
        hours = pack.samples * (sum(lengths[kind] for *_, kind in schedule(seeds)) + before) / 3600 / jobs
        lines.append(f"{pack.name} {hours:.1f}")
        total += hours
    return f"predicted hours, {jobs} runs at a time: {total:.1f} ({', '.join(lines)})"


def main() -> None:
    """Choose rows, train what is missing, and write the record."""
    chosen = read_options(__doc__)
    packs = [PACKS[name] for name in chosen.only or PACKS]
    print(predicted(packs, seeds=chosen.seeds, jobs=chosen.jobs), flush=True)
    if chosen.predict:
        return
    found: dict[str, Any] = {"seeds": chosen.seeds, "environment": environment(), "packs": {}}
    for pack in packs:
        prepare(pack)
        benchmark = Benchmark(pack, jobs=chosen.jobs)
        rates = benchmark.rates()
        records = run_all(benchmark.runs(rates, seeds=chosen.seeds), jobs=chosen.jobs)
        found["packs"][pack.name] = {**summary(records, list(pack.metrics)), "rates": rates}
        show(pack, found["packs"][pack.name])
    write_json(RESULT, found)


def show(pack: Pack, found: Mapping[str, Any]) -> None:
    """Print values, the demands and the seconds saved."""
    for metric, arms in found["arms"].items():
        print(
            f"{pack.name}, {metric}: " + ", ".join(f"{arm} {one['value']:.2f}" for arm, one in arms.items())
        )
        for pair in DEMANDS:
            one = found["differences"][metric][" - ".join(pair)]
            span = "" if one["interval"] is None else " ({:+.2f} to {:+.2f})".format(*one["interval"])
            print(f"  {' - '.join(pair)}: {one['value']:+.2f}{span} points, {one['verdict']}")
    seconds = found["seconds"]
    print(f"  seconds at equal epochs: {seconds['quarter-epochs']:,.0f} of {seconds['all']:,.0f}")


if __name__ == "__main__":
    main()
