"""Does pruning, or training fewer parameters, lower the need for data? On 1/16, 1/4 and all of 24,216 pairs.

Scenes of a drawing style that no model here has seen; every run sees equally many samples. `full` trains
drawn weights. All others begin with the teacher of compress.py, which knows the same names in another style:
all of its weights are trained (`tuned`), low-rank additions to them (`lora`), linear heads over them
(`frozen`), what learned gates leave of it (`pruned`, half the parameters), its first units (`inherited`,
half), or drawn weights of half the size that also learn its affinities (`distilled`). Whatever is trained
learns from pairs by InfoNCE. Peak learning rates are the best of three for every arm alike, on validation
scenes, with a quarter of the pairs and half of the steps.

The data efficiency of an arm is on how many times fewer pairs it reaches `full` on all pairs; beside it
stands the same against `tuned`, which begins where the others do. Outside the fractions measured it is
censored. Expected before the runs: everything that begins with the teacher needs a quarter of the pairs or
less; against `tuned`, none of them needs fewer.

Writes a record for each run into results/need-for-data/ as soon as it has ended, and
results/need-for-data.json. The same command goes on where it was stopped. Trains compress.py's teacher first
if there is none.
Run: FRUGALCLIP_PACKS=... python benchmarks/need_for_data.py [--seeds 3] [--jobs 2] [--predict]
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import compress
import compress_speed
from _common import HERE, best_rate, emoji_data
from _runs import Metric, Run, block, run_all
from compress_arms import Arm, Teacher, student_recipe, teacher_recipe

from frugalclip.comparison.efficiency import estimate_efficiency
from frugalclip.core.config import merge
from frugalclip.core.records import environment, write_json
from frugalclip.data.splits import subset_rows
from frugalclip.sources.open import open_data
from frugalclip.verbs.data_compose import compose
from frugalclip.verbs.embed import embed

RESULT = HERE.parent / "results" / "need-for-data.json"
RECORDS, RUNS = HERE.parent / "results" / "need-for-data", HERE.parent / "runs" / "need-for-data"
STYLE = ["where=is_flag=false,style=twemoji"]
FRACTIONS = {"1/16": 1 / 16, "1/4": 1 / 4, "1": 1.0}
SAMPLES, TUNING_SAMPLES = 24_000, 12_000
RATES, TUNED_ON, TUNING_SEED = (5e-4, 1e-3, 2e-3), "1/4", 100
TEST, VALIDATION = Metric("split=test", "retrieval"), Metric("split=val", "retrieval")
REFERENCES = ("full", "tuned")
COSTS = {  # arm -> a step, in steps of the whole teacher
    "full": 1.0,
    "tuned": 1.0,
    "lora": 1.0,
    "frozen": 0.1,
    "pruned": 0.65,
    "inherited": 0.5,
    "distilled": 0.5,
}
ARMS = tuple(COSTS)


def run_name(arm: str, fraction: str) -> str:
    """`lora-1-4`: what the records of an arm on a share of the pairs are called."""
    return f"{arm}-{fraction.replace('/', '-')}"


def arm_recipe(name: str, teacher: Teacher, *, samples: int, rate: float) -> dict[str, Any]:
    """The recipe of an arm."""
    lengths: dict[str, Any] = {"samples": samples, "rate": rate}
    if name in ("inherited", "pruned"):
        start = "auto" if name == "pruned" else "inherited"
        return student_recipe(Arm(start, "infonce", 0.5), teacher, **lengths)
    if name == "distilled":
        content = student_recipe(Arm("random", "affinity", 0.5), teacher, **lengths)
        return merge(content, {"objectives": {"affinity": {"alpha": 0.5}}})
    content = teacher_recipe(**lengths, views=teacher.views)
    if name == "tuned":
        return content | {"init_from": str(teacher.folder)}
    return (
        content if name == "full" else content | {"model": over_backbones(teacher, with_lora=name == "lora")}
    )


def over_backbones(teacher: Teacher, *, with_lora: bool) -> dict[str, Any]:
    """Both towers of the teacher as backbones under linear heads."""
    config = teacher.model.network.config
    tower = {"kind": "pretrained", "from": str(teacher.folder), "head": {"kind": "mlp", "hidden": 0}}
    lora = {"lora": {"rank": 8}} if with_lora else {}
    image = {"width": config.image.width, "resolution": config.image.resolution} | tower | lora
    text = {"width": config.text.width} | tower | lora
    return {"image": image, "text": text, "dim": config.dim}


def subset(data: Path, fraction: str, *, seed: int) -> Path | None:
    """A manifest of a share of the training pairs, nested for one seed; None for all of them."""
    share = FRACTIONS[fraction]
    if share == 1:
        return None
    path = RUNS / "pairs" / f"{run_name('pairs', fraction)}-{seed}.parquet"
    if not path.is_file():
        rows = open_data(str(data)).where("split=train")
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.take(subset_rows(rows, share, seed=seed)).write(path)
    return path


def make_run(
    arm: str, fraction: str, seed: int, teacher: Teacher, *, rate: float, metric: Metric, tuning: bool = False
) -> Run:
    """One run of an arm on a share of the pairs."""
    data = RUNS / "scenes"
    rows = subset(data, fraction, seed=seed)
    called = run_name(arm, fraction) + (f"-{rate:g}" if tuning else "")
    return Run(
        arm=called,
        seed=seed,
        recipe=arm_recipe(arm, teacher, samples=TUNING_SAMPLES if tuning else SAMPLES, rate=rate),
        data=str(data),
        train="split=train",
        folder=RUNS / "runs" / f"{called}-{seed}",
        record=RECORDS / f"{called}-{seed}.json",
        metrics={"mrr": metric},
        teacher=teacher.digest,
        rows=None if rows is None else str(rows),
    )


def best_rates(teacher: Teacher, *, jobs: int) -> dict[str, dict[str, Any]]:
    """Arm -> rates tried with their validation metric, and the best."""
    settings: dict[str, Any] = {"metric": VALIDATION, "tuning": True}
    runs = [
        make_run(arm, TUNED_ON, TUNING_SEED, teacher, rate=rate, **settings) for arm in ARMS for rate in RATES
    ]
    values = iter([one["metrics"]["mrr"]["mean"] for one in run_all(runs, jobs=jobs)])
    tried = {arm: {f"{rate:g}": next(values) for rate in RATES} for arm in ARMS}
    return {arm: {"tried": one, "rate": best_rate(one)} for arm, one in tried.items()}


def summary(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Values of each arm by fraction, and data efficiencies against both references.

    Args:
        records: named `ARM-FRACTION`.
    """
    blocks = {
        arm: {share: block(records, run_name(arm, name), "mrr")[""] for name, share in FRACTIONS.items()}
        for arm in ARMS
    }
    pairs = {
        share: next(float(one["pairs"]) for one in records if one["arm"] == run_name("full", name))
        for name, share in FRACTIONS.items()
    }
    found: dict[str, Any] = {}
    for arm, by in blocks.items():
        values = {name: float(by[share].means().mean()) for name, share in FRACTIONS.items()}
        found[arm] = {"values": values, "efficiency": {}}
        for reference in REFERENCES:
            own = {share: [one] for share, one in by.items()}
            factor, interval = estimate_efficiency(own, [blocks[reference][1.0]], pairs)
            found[arm]["efficiency"][reference] = {
                **factor.as_json(),
                "words": str(factor),
                "interval": None if interval is None else [one.as_json() for one in interval],
                "verdict": lowers(interval),
            }
    return {"arms": found, "pairs": {name: pairs[share] for name, share in FRACTIONS.items()}}


def lowers(interval: Sequence[Any] | None) -> str:
    """Whether a factor is above 1, by its interval: fewer, more, or not distinguishable."""
    if interval is None:
        return "one seed: cannot say"
    low, high = interval
    if low.value > 1 and low.bound != "<":
        return "needs fewer pairs"
    return "needs more pairs" if high.bound == "<" else "not distinguishable"


def predicted(*, seeds: int, jobs: int) -> str:
    """The hours of all runs, in words; the teacher is compress.py's."""
    step = compress_speed.Costs().step[1.0]
    sample = sum(COSTS.values()) * step * 1.1 / 3600 / jobs
    tuning, runs = sample * TUNING_SAMPLES * len(RATES), sample * SAMPLES * len(FRACTIONS) * seeds
    return (
        f"predicted hours, {jobs} runs at a time: {tuning + runs:.1f} (rates {tuning:.1f}, runs {runs:.1f})"
    )


def main() -> None:
    """Compose, train what is missing, and write the record."""
    chosen = read_options()
    print(predicted(seeds=chosen.seeds, jobs=chosen.jobs), flush=True)
    if chosen.predict:
        return
    plan = HERE / "protocols" / "compress_plan.yaml"
    compose(emoji_data(), plan=plan, out=compress.RUNS / "scenes", scenes=compress.SCENES)
    compose(emoji_data(), STYLE, plan=plan, out=RUNS / "scenes", scenes=compress.SCENES)
    teacher, _ = compress.Benchmark("scenes", jobs=chosen.jobs).teacher()
    features = RUNS / "teacher-features"
    embed(teacher.folder, str(RUNS / "scenes"), out=features, where="split=train")
    teacher = replace(teacher, source=features)
    rates = best_rates(teacher, jobs=chosen.jobs)
    runs = [
        make_run(arm, fraction, seed, teacher, rate=rates[arm]["rate"], metric=TEST)
        for seed in range(chosen.seeds)
        for fraction in FRACTIONS
        for arm in ARMS
    ]
    found = summary(run_all(runs, jobs=chosen.jobs))
    more = {"rates": rates, "seeds": chosen.seeds, "samples": SAMPLES, "environment": environment()}
    write_json(RESULT, found | more)
    show(found)


def show(found: Mapping[str, Any]) -> None:
    """Print values and data efficiencies."""
    for arm, one in found["arms"].items():
        values = ", ".join(f"{name}: {value:.1f}" for name, value in one["values"].items())
        against = "; ".join(
            f"{own['words']} against {reference}, {own['verdict']}"
            for reference, own in one["efficiency"].items()
        )
        print(f"{arm:10} {values}   data efficiency {against}")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each with one thread")
    parser.add_argument("--predict", action="store_true", help="print the hours that it takes, and stop")
    return parser.parse_args()


if __name__ == "__main__":
    main()
