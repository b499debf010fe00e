"""Small and fast without losing it: students of 50, 25 and 8.9 % of a CLIP, beside their teacher.

Teachers are trained here: one on 24,216 composed scenes with one caption each, one on emoji with a style
held out. Students see equally many samples. Scenes are not augmented, so that the teacher encodes them once,
into a store; on emoji it encodes every step's crops. Peak learning rates are the best of three for every kind
of arm alike, on validation scenes, at half the length; emoji arms take those rates. The metric of scenes is
the reciprocal rank of retrieval, mean of both directions, among 2,208 test scenes. On emoji it is top 1 of
seen concepts in the style held out; unseen concepts are too few to show 5 % and have their interval only.

Expected before the runs, as the paper reports: inheritance and affinity first, drawn weights and InfoNCE
last; learned gates above the rule; stages above one shot. A claim that the runs contradict is refuted.

Writes a record for each run into results/compress/ as soon as it has ended, and results/compress.json. The
same command goes on where it was stopped. compress_speed.py measures how fast the students are.
Run: FRUGALCLIP_PACKS=... python benchmarks/compress.py [--seeds 3] [--jobs 2] [--only NAME ...] [--predict]
"""

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import compress_speed
import numpy as np
from _common import HERE, best_rate, emoji_data
from _runs import Metric, Run, baselines, beside, block, digest, reached, run_all, share_of
from compress_arms import HALF, RATES, SMALLER, Arm, Teacher, student_recipe, teacher_recipe
from compress_page import with_interval

from frugalclip.comparison.paired import Estimate, holm, paired, verdict
from frugalclip.core.records import environment, read_json, write_json
from frugalclip.models import load
from frugalclip.sources.open import open_data
from frugalclip.verbs.data_compose import compose
from frugalclip.verbs.embed import embed

RESULT = HERE.parent / "results" / "compress.json"
RECORDS, RUNS = HERE.parent / "results" / "compress", HERE.parent / "runs" / "compress"
SCENES = 27_500  # 24,216 to train on, 1,076 to choose by, 2,208 to report
SAMPLES = {"scenes": {"teacher": 160_000, "student": 96_000}, "emoji": {"teacher": 96_000, "student": 48_000}}
TEACHER_RATE, POINTS, TUNING_SEED = 1.5e-3, 12, 100
STYLE = "twemoji"  # held out
METRICS: dict[str, dict[str, Metric]] = {
    "scenes": {"mrr": Metric("split=test", "retrieval")},
    "emoji": {
        "seen": Metric(f"split=train,style={STYLE},is_flag=false", "zeroshot", "name", "family"),
        "unseen": Metric(f"split=test,style={STYLE},is_flag=false", "zeroshot", "name", "family"),
    },
}
PRIMARY = {"scenes": "mrr", "emoji": "seen"}
VALIDATION = {"scenes": Metric("split=val", "retrieval"), "emoji": None}
TRAIN = {"scenes": "split=train", "emoji": f"split=train,style!={STYLE}"}
VIEWS: dict[str, dict[str, Any]] = {"scenes": {"main": "none"}, "emoji": {"main": "clip"}}
CLAIMS = {  # what the paper reports: name -> (better arm, worse arm)
    "inheritance and affinity above drawn weights and InfoNCE": (
        "50-inherited-affinity",
        "50-random-infonce",
    ),
    "inheritance above drawn weights, both by affinity": ("50-inherited-affinity", "50-random-affinity"),
    "inheritance above drawn weights, both by InfoNCE": ("50-inherited-infonce", "50-random-infonce"),
    "affinity above InfoNCE, both inherited": ("50-inherited-affinity", "50-inherited-infonce"),
    "affinity above InfoNCE, both drawn": ("50-random-affinity", "50-random-infonce"),
    "affinity above the teacher's embeddings, both drawn": ("50-random-affinity", "50-random-features"),
    "inheritance and affinity above the teacher's embeddings": (
        "50-inherited-affinity",
        "50-random-features",
    ),
    "learned gates above the rule, 50 %": ("50-auto-affinity", "50-inherited-affinity"),
    "learned gates above the rule, 25 %": ("25-auto-affinity", "25-inherited-affinity"),
    "stages above one shot, by rule": ("25-staged-affinity", "25-inherited-affinity"),
    "stages above one shot, by gates": ("25-staged-auto-affinity", "25-auto-affinity"),
    "25 %: inheritance and affinity above drawn weights and InfoNCE": (
        "25-inherited-affinity",
        "25-random-infonce",
    ),
}
DEMANDS = {"50-": (95.0, 90.0), "25-": (90.0, 85.0)}  # least percent of the teacher: value, lower bound
SOONER, SOONER_AIM = 1.4, 7.8


class Benchmark:
    """Teacher and students on one data set.

    Args:
        name: scenes or emoji.
        jobs: runs at a time.
    """

    def __init__(self, name: str, *, jobs: int) -> None:
        self.name, self.jobs = name, jobs
        self.data = str(RUNS / "scenes") if name == "scenes" else emoji_data()
        self.samples = SAMPLES[name]

    def run(
        self, arm: str, seed: int, recipe: Mapping[str, Any], *, tuning: bool = False, teacher: str = ""
    ) -> Run:
        """A run of this data set; while rates are tuned it is measured on validation rows."""
        folder = f"{self.name}-tuning" if tuning else f"{self.name}-runs"
        validation = VALIDATION[self.name]
        chosen = {PRIMARY[self.name]: validation} if tuning and validation else METRICS[self.name]
        return Run(
            arm=arm,
            seed=seed,
            recipe=recipe,
            data=self.data,
            train=TRAIN[self.name],
            folder=RUNS / folder / f"{arm}-{seed}",
            record=RECORDS / f"{folder.removesuffix('-runs')}-{arm}-{seed}.json",
            metrics=chosen,
            validation=None if tuning else validation,
            points=1 if tuning or not validation else POINTS,
            teacher=teacher,
        )

    def teacher_run(self) -> Run:
        """The run of the teacher."""
        views = VIEWS[self.name]
        recipe = teacher_recipe(samples=self.samples["teacher"], rate=TEACHER_RATE, views=views)
        run = self.run("teacher", 0, recipe)
        if run.record.is_file() and not run.folder.is_dir():
            run.record.unlink()  # of another machine: students need the weights, which may differ there
        return run

    def teacher(self) -> tuple[Teacher, dict[str, Any]]:
        """Train the teacher, or load it, and store its features where views do not change; its record too."""
        run = self.teacher_run()
        found = run_all([run], jobs=1)[0]
        source = run.folder
        if self.name == "scenes":
            source = RUNS / "scenes-teacher-features"
            embed(run.folder, self.data, out=source, where=TRAIN[self.name])
        return Teacher(run.folder, digest(run.folder), load(run.folder), source, VIEWS[self.name]), found

    def rates(self, arms: Sequence[Arm], teacher: Teacher) -> dict[str, dict[str, Any]]:
        """Family -> rates tried with their validation metric, and the best: one seed, half the length.

        A rate that was tried stays tried when the teacher is trained again: its weights differ between
        machines in their last digits, its recipe does not.
        """
        families = {arm.tuned_as for arm in arms}
        tuned = [arm for arm in HALF if arm.family in families]
        samples = self.samples["student"] // 2
        runs = [
            self.run(
                f"{arm.family}-{rate:g}",
                TUNING_SEED,
                student_recipe(arm, teacher, samples=samples, rate=rate),
                tuning=True,
                teacher=teacher.digest,
            )
            for rate in RATES
            for arm in tuned
        ]
        runs = [replace(one, teacher=one.recorded_teacher or one.teacher) for one in runs]
        found = {one["arm"]: one["metrics"]["mrr"]["mean"] for one in run_all(runs, jobs=self.jobs)}
        each = {arm.family: {f"{rate:g}": found[f"{arm.family}-{rate:g}"] for rate in RATES} for arm in tuned}
        return {name: {"tried": one, "rate": best_rate(one)} for name, one in each.items()}

    def students(
        self, arms: Sequence[Arm], teacher: Teacher, rates: Mapping[str, Mapping[str, Any]], *, seeds: int
    ) -> list[Run]:
        """The runs of every arm, first those of the first seed."""
        return [
            self.run(
                arm.name,
                seed,
                student_recipe(
                    arm, teacher, samples=self.samples["student"], rate=rates[arm.tuned_as]["rate"]
                ),
                teacher=teacher.digest,
            )
            for seed in range(seeds)
            for arm in arms
        ]

    def baselines(self) -> dict[str, dict[str, float]]:
        """Metric -> chance and copies of the nearest training images, measured once."""
        record = RECORDS / f"{self.name}-baselines.json"
        if not record.is_file():
            data = open_data(self.data)
            metrics = METRICS[self.name].items()
            write_json(record, {name: baselines(data, TRAIN[self.name], one) for name, one in metrics})
        return read_json(record)

    def groups(self, metric: str) -> np.ndarray | None:
        """(samples,) concept families, drawn together in the tests; None for scenes, each by itself."""
        chosen = METRICS[self.name][metric]
        if chosen.group is None:
            return None
        return np.array([str(one) for one in open_data(self.data).where(chosen.where).field(chosen.group)])


def summary(
    records: list[dict[str, Any]],
    teacher: Mapping[str, Any],
    metric: str,
    *,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """Values, shares of the teacher and tests of the paper's claims.

    Args:
        records: of students.
        teacher: its record.
        metric: name of the metric.
        groups: (samples,) what is drawn together.
    """
    names = list(dict.fromkeys(one["arm"] for one in records))
    blocks = {name: block(records, name, metric, groups=groups) for name in names}
    whole = block([teacher], "teacher", metric, groups=groups)
    arms = {
        name: {
            "value": float(own[""].means().mean()),
            "seeds": len(own[""].seeds),
            "of the teacher": _brief(share_of(own, beside(whole, own))),
            "parameters": _parameters(records, name),
        }
        for name, own in blocks.items()
    }
    return {
        "teacher": teacher["metrics"][metric]["mean"],
        "arms": arms,
        "claims": claims({name: one for name, one in blocks.items() if one}),
    }


def claims(blocks: Mapping[str, Any]) -> dict[str, Any]:
    """Claim -> paired difference in points, p after Holm over all claims, and the verdict."""
    there = {what: pair for what, pair in CLAIMS.items() if all(name in blocks for name in pair)}
    found = {what: paired(blocks[better], blocks[worse]) for what, (better, worse) in there.items()}
    ps = holm([one.p for one in found.values()])
    words = {"better": "confirmed", "worse": "refuted"}
    return {
        what: {
            **_brief(one),
            "p_holm": p,
            "arms": list(there[what]),
            "verdict": words.get(verdict(one, p), verdict(one, p)),
        }
        for (what, one), p in zip(found.items(), ps, strict=True)
    }


def _brief(found: Estimate) -> dict[str, Any]:
    return {"value": found.value, "interval": None if found.interval is None else list(found.interval)}


def _parameters(records: Iterable[Mapping[str, Any]], arm: str) -> dict[str, int]:
    size = next(one["size"] for one in records if one["arm"] == arm)
    return {"towers": size["towers"], "token_embedding": size["parameters"]["token_embedding"]}


def sooner(records: list[dict[str, Any]], teacher: Mapping[str, Any]) -> dict[str, Any]:
    """How many times fewer steps each distilled arm takes to the final value of drawn weights and InfoNCE.

    Values are those of validation scenes. `arithmetic` counts forward and backward of the student, and with
    the teacher once a sample its forward pass besides; learning gates costs a step of the whole teacher.

    Returns:
        arm -> `steps`, `arithmetic` and `with teacher`, each a factor, mean over seeds; null: not reached.
    """
    found: dict[str, Any] = {}
    by = {(one["arm"], one["seed"]): one for one in records}
    for (arm, seed), one in by.items():
        scratch = by.get((f"{arm.partition('-')[0]}-random-infonce", seed))
        if scratch is None or one is scratch or not one["curve"]:
            continue
        step = reached(one["curve"], scratch["curve"][-1]["value"])
        found.setdefault(arm, []).append(None if step is None else factors(one, scratch, teacher, step=step))
    return {arm: _means(each) for arm, each in found.items()}


def factors(
    one: Mapping[str, Any], scratch: Mapping[str, Any], teacher: Mapping[str, Any], *, step: float
) -> dict[str, float]:
    """Costs of the from-scratch run over those of a run until a step."""
    student, whole = _forward(one), _forward(teacher)
    gated = one["curve"][0]["step"] if "auto" in one["arm"] else 0.0  # until the gates are cut, at most
    own = 3 * (student * (step - gated) + whole * gated)
    theirs = 3 * _forward(scratch) * scratch["steps"]
    taught = 0.0 if "infonce" in one["arm"] else whole * step
    return {
        "steps": scratch["steps"] / step,
        "arithmetic": theirs / own,
        "with teacher": theirs / (own + taught),
    }


def _forward(one: Mapping[str, Any]) -> float:
    return sum(one["size"]["gflops"].values())


def _means(each: list[dict[str, float] | None]) -> dict[str, float | None]:
    """Harmonic means over seeds, so that they are ratios of mean costs; None where a seed never got there."""
    names = ("steps", "arithmetic", "with teacher")
    if None in each:
        return dict.fromkeys(names)
    return {name: len(each) / math.fsum(1 / one[name] for one in each if one) for name in names}


def goals(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is demanded of students on scenes, and what was reached."""
    scenes = found["scenes"]
    listed: list[tuple[str, float | None, float]] = []
    for size, (value, low) in DEMANDS.items():
        inheriting = {n: one for n, one in scenes["arms"].items() if n.startswith(size) and "random" not in n}
        if inheriting:
            best = max(inheriting, key=lambda name: inheriting[name]["of the teacher"]["value"])
            share = inheriting[best]["of the teacher"]
            listed.append((f"{best}: percent of the teacher", share["value"], value))
            listed.append((f"{best}: its lower bound", share["interval"] and share["interval"][0], low))
    first = next(iter(CLAIMS))
    if claim := scenes["claims"].get(first):
        listed.append((f"{first}: lower bound, points", claim["interval"] and claim["interval"][0], 0.0))
    if sooner_by := scenes["sooner"].get("50-inherited-affinity"):
        for name in ("steps", "with teacher"):
            what = f"from-scratch cost over 50-inherited-affinity's (aim {SOONER_AIM}): {name}"
            listed.append((what, sooner_by[name], SOONER))
    return [
        {"what": what, "reached": reached_, "goal": goal, "is_met": reached_ is not None and reached_ >= goal}
        for what, reached_, goal in listed
    ]


def show(found: Mapping[str, Any]) -> None:
    """Print values, claims and goals."""
    for name in ("scenes", "emoji"):
        for metric, one in (found.get(name) or {}).get("metrics", {}).items():
            print(f"{name}, {metric}: teacher {one['teacher']:.1f}")
            for arm, own in one["arms"].items():
                share = with_interval(own["of the teacher"])
                print(f"  {arm:26} {own['value']:5.1f}   {share} % of the teacher")
            for what, claim in one["claims"].items():
                print(f"  {what}: {with_interval(claim)}, {claim['verdict']}")
    for goal in found["goals"]:
        value = "unknown" if goal["reached"] is None else f"{goal['reached']:.3g}"
        print(
            f"goal: {goal['what']} at least {goal['goal']:g}: {value}",
            "reached" * goal["is_met"] or "NOT reached",
        )


def main() -> None:
    """Compose, train what is missing, and write the record."""
    chosen = read_options()
    compose(emoji_data(), plan=HERE / "protocols" / "compress_plan.yaml", out=RUNS / "scenes", scenes=SCENES)
    arms = {"scenes": [*HALF, *SMALLER], "emoji": HALF}
    lengths: dict[str, Any] = {"seeds": chosen.seeds, "jobs": chosen.jobs}
    print(compress_speed.predicted(arms, SAMPLES, tuned=HALF, rates=len(RATES), **lengths), flush=True)
    if chosen.predict:
        return
    names = ("scenes",) if chosen.skip_emoji else ("scenes", "emoji")
    benchmarks = [Benchmark(name, jobs=chosen.jobs) for name in names]
    run_all([own.teacher_run() for own in benchmarks], jobs=chosen.jobs)
    found: dict[str, Any] = {}
    rates: dict[str, dict[str, Any]] = {}
    for name, own in zip(names, benchmarks, strict=True):
        teacher, record = own.teacher()
        listed = [arm for arm in arms[name] if not chosen.only or arm.name in chosen.only]
        rates = rates or own.rates(listed, teacher)
        records = run_all(own.students(listed, teacher, rates, seeds=chosen.seeds), jobs=chosen.jobs)
        metrics = {
            metric: summary(records, record, metric, groups=own.groups(metric)) for metric in METRICS[name]
        }
        found[name] = {"metrics": metrics, **metrics[PRIMARY[name]], "sooner": sooner(records, record)}
        found[name] |= {"samples": SAMPLES[name], "baselines": own.baselines()}
    content = {**found, "rates": rates, "seeds": chosen.seeds, "environment": environment()}
    content["goals"] = goals(content)
    write_json(RESULT, content)
    show(content)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each with one thread")
    parser.add_argument("--only", nargs="*", default=[], help="names of arms, such as 50-inherited-affinity")
    parser.add_argument("--skip-emoji", action="store_true", help="scenes alone")
    parser.add_argument("--predict", action="store_true", help="print the hours that it takes, and stop")
    return parser.parse_args()


if __name__ == "__main__":
    main()
