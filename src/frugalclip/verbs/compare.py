"""`frugalclip compare`: which recipe is better on this data, at this budget, and is the difference more than luck?

Every trial is a process and a run directory of its own, and is kept: calling the same line again goes on where it stopped, more seeds or more
arms add to what is there, and all that is said can be computed anew from the trials.
"""

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from frugalclip.comparison.arms import Arm, equal_arms, read_arms
from frugalclip.comparison.jobs import (
    PlannedTrial,
    Samples,
    calibration,
    failures,
    own_samples,
    plan_trials,
    slug,
    write,
)
from frugalclip.comparison.metrics import SampledMetric
from frugalclip.comparison.protocol import (
    Division,
    ProtocolConfig,
    divisions,
    fill_environment,
    read_protocol,
)
from frugalclip.comparison.queue import TrialExit, cores, run_tasks
from frugalclip.comparison.results import Clock, Plan, Trial, available_clock, summarise
from frugalclip.core.config import dump_yaml
from frugalclip.core.errors import RecipeError, TrainingError, known_names
from frugalclip.core.locks import held
from frugalclip.core.records import RunDirectory, environment, read_json, write_atomically, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.data.splits import parse_fractions
from frugalclip.evaluation.baselines import Neighbours
from frugalclip.evaluation.metrics import words
from frugalclip.report.compare import write_comparison_report
from frugalclip.report.compare_tables import print_comparison
from frugalclip.sources.open import open_data

FORMAT = 1
SCREENING = 3  # seeds below which nothing should be claimed
CALIBRATION_STEPS, CALIBRATION_SAMPLES = 24, 6144  # of an arm with a recipe, and of one without


def compare(
    arms: Sequence[str],
    *,
    out: str | Path,
    seeds: int = 3,
    samples: int | None = None,
    seconds: float | None = None,
    fractions: str | Sequence[float] | None = None,
    whole: Sequence[str] = (),
    data: str | None = None,
    protocol: str | Path | ProtocolConfig | None = None,
    rotate: str | None = None,
    on: str | None = None,
    reference: str | None = None,
    jobs: int = 1,
    clock: Literal["auto", "cpu", "wall"] = "auto",
    independent_seeds: bool = False,
) -> dict[str, Any]:
    """Train several arms with several seeds and say which is better.

    Args:
        arms: recipes by name or path, or `NAME:RECIPE`; arm files with a command; and `key=value` overrides of every recipe.
        out: folder of the comparison; called again it goes on, and only trains what is missing.
        seeds: repetitions of every arm; 3 to screen, 6 to claim.
        samples: samples that every run sees; default each recipe's own length.
        seconds: seconds of every run instead: each arm's speed is measured first and gives its number of samples.
        fractions: such as `1/8,1/4,1`: train on parts of the pairs too, and say how many times fewer pairs an arm needs.
        whole: arms that are trained on all pairs only, such as a costly reference, whose figure there is all that pairs saved ask for.
        data: the data set, instead of the protocol's or the recipes'.
        protocol: YAML file that says which rows train and which figures are judged; default the data's own validation part.
        rotate: field of which every value is left out of training in turn, and judged.
        on: part that the protocol's figures are judged on, such as validation.
        reference: arm that the others are compared with; default the first.
        jobs: trials at a time.
        clock: what seconds are: processor time, or the wall's; auto takes the processor's on a CPU and the wall's on a GPU.
        independent_seeds: give each arm randomness of its own; arms that do the same always get it.

    Returns:
        The content of `compare.json` (docs/formats.md).

    Raises:
        RecipeError, DataError, TrainingError: one sentence with the next command.
    """
    if samples is not None and seconds is not None:
        raise RecipeError("--samples and --seconds are both given; keep the one that shall be equal.")
    console, place = Console(), Path(out)
    found = read_arms(arms)
    settings = _protocol(found, protocol, data=data, rotate=rotate, on=on)
    reference = _one_of(found, reference, option="--reference") or found[0].name
    only_whole = {_one_of(found, name, option="--whole") for name in whole}
    path = fill_environment(settings.data or "")
    everything = open_data(path, columns=settings.columns or None)
    parts = divisions(everything, settings)
    shares = parse_fractions(
        fractions if isinstance(fractions, str) else ",".join(map(str, fractions or [1]))
    )
    _check_folder(place)
    twins = equal_arms(found)
    independent = independent_seeds or twins is not None
    common: dict[str, Any] = {
        "arms": found,
        "everything": everything,
        "divisions": parts,
        "protocol": settings,
        "independent": independent,
    }
    lengths = _lengths(found, parts, samples)
    is_stopped = False
    if seconds is not None:
        first = plan_trials(
            place,
            **common,
            seeds=1,
            fractions=[1.0],
            samples=dict.fromkeys(lengths, CALIBRATION_SAMPLES),
            check=False,
        )
        rates = _rates(first, place, console=console, clock=_wanted(clock))
        lengths = {key: max(1, round(seconds * rates[key[0]])) for key in lengths}
    planned = plan_trials(place, **common, seeds=seeds, fractions=shares, samples=lengths)
    planned = [one for one in planned if one.fraction == 1 or one.arm.name not in only_whole]
    write_atomically(place / "protocol.yaml", dump_yaml(settings.model_dump(mode="json")))
    console.print("Measuring what copying from the nearest training pictures reaches …", highlight=False)
    baselines = _baselines(parts, everything, settings, place)
    is_stopped = not _train(planned, place, jobs=jobs, console=console, primary=settings.primary)
    notes = list(parts[0].notes)
    if twins:
        notes.append(
            f"{twins[0]} and {twins[1]} are the same recipe (an A/A comparison), so every arm has randomness of its own."
        )
    plan = Plan(
        arms=[arm.name for arm in found],
        reference=reference,
        primary=settings.primary,
        metrics=list(settings.metrics),
        rotations=[part.rotation or "" for part in parts],
        seeds=seeds,
        fractions=shares,
        curve=settings.curve,
    )
    error_policy = {"samples": samples, "seconds": seconds, "independent_seeds": independent, "jobs": jobs}
    result = _result(
        planned,
        plan,
        settings,
        place,
        baselines=baselines,
        error_policy=error_policy,
        clock=_wanted(clock),
        notes=notes,
        everything=everything,
    )
    result["is_stopped"] = is_stopped
    write_json(place / "compare.json", result)
    write_comparison_report(place / "report.html", result)
    if not any(entry["status"] == "finished" for entry in result["trials"]) and not is_stopped:
        raise TrainingError(
            f"no trial finished; the first failed with: {next(iter(failures(planned, place).values()), 'no message')}"
        )
    return result


def _protocol(
    arms: Sequence[Arm],
    given: str | Path | ProtocolConfig | None,
    *,
    data: str | None,
    rotate: str | None,
    on: str | None,
) -> ProtocolConfig:
    """The protocol with what the command line changes; without one, the division that the recipes themselves ask for."""
    changes = {
        name: value for name, value in {"data": data, "rotate": rotate, "on": on}.items() if value is not None
    }
    if isinstance(given, ProtocolConfig):
        config = ProtocolConfig.model_validate({**given.model_dump(), **changes})
    elif given is not None:
        config = read_protocol(given, changes)
    else:
        config = ProtocolConfig.model_validate(_from_recipes(arms) | changes)
    if config.data is None:
        raise RecipeError(
            "nothing says which data; add --data PATH, data=PATH for the recipes, or data: to the protocol."
        )
    return config.resolved()


def _from_recipes(arms: Sequence[Arm]) -> dict[str, Any]:
    """The data section that all recipes share."""
    recipes = [arm.recipe for arm in arms if arm.recipe is not None]
    sections = [r.data.model_dump(include={"path", "where", "validation", "columns"}) for r in recipes]
    named = [s for s in sections if s["path"] is not None] or sections[:1]
    if any(s != named[0] for s in named):
        raise RecipeError(
            "the recipes name different data, so their figures would not compare; add data=PATH for all, or --protocol FILE."
        )
    if not named:
        return {}
    labels = {r.evaluation.label_field for r in recipes}
    section = named[0]
    return {
        "data": section["path"],
        "train": section["where"],
        "validation": section["validation"],
        "columns": section["columns"],
        "label_field": labels.pop() if len(labels) == 1 else None,
    }


def _one_of(arms: Sequence[Arm], name: str | None, *, option: str) -> str | None:
    names = [arm.name for arm in arms]
    if name is not None and name not in names:
        raise RecipeError(f"{option} {name} is not one of the arms; {known_names(name, names)}")
    return name


def _check_folder(out: Path) -> None:
    if out.is_file():
        raise RecipeError(f"--out {out} is a file; choose a folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / "data").is_dir():
        raise RecipeError(f"--out {out} is not empty and holds no comparison; choose a new folder.")


def _busy(out: Path) -> RecipeError:
    return RecipeError(
        f"another 'frugalclip compare' is training in {out}; wait until it has ended, or compare into a new --out."
    )


def _wanted(clock: str) -> Clock:
    if clock == "auto":
        return "wall" if torch.cuda.is_available() else "cpu"
    return "cpu" if clock == "cpu" else "wall"


def _lengths(arms: Sequence[Arm], parts: Sequence[Division], samples: int | None) -> Samples:
    return {
        (arm.name, part.rotation or ""): samples or own_samples(arm, len(part.train))
        for arm in arms
        for part in parts
    }


def _rates(first: Sequence[PlannedTrial], out: Path, *, console: Console, clock: Clock) -> dict[str, float]:
    """Samples a second of every arm, from a short trial each that is kept, so that going on later gives the same lengths."""
    path = out / "rates.json"
    known: dict[str, float] = read_json(path) if path.is_file() else {}
    one_each: dict[str, PlannedTrial] = {}
    for one in first:
        one_each.setdefault(one.arm.name, one)
    for one in one_each.values():
        key = f"{one.arm.name} {slug(clock)}"
        if key not in known:
            batch = one.arm.recipe.batch if one.arm.recipe else 0
            short = calibration(one, out, samples=batch * CALIBRATION_STEPS or CALIBRATION_SAMPLES)
            ended: list[TrialExit] = []
            with held(out, _busy(out)):
                run_tasks([write(short)], ended=ended.append)
            if not ended or not ended[0].is_finished:
                raise TrainingError(
                    f"the speed of {one.arm.name} cannot be measured: {ended[0].message if ended else 'it was stopped'}"
                )
            known[key] = _rate(short.folder, clock)
            write_json(path, known)
        console.print(f"{one.arm.name}: {known[key]:,.0f} samples a second ({clock} clock)", highlight=False)
    return {name: known[f"{name} {slug(clock)}"] for name in one_each}


def _rate(folder: Path, clock: Clock) -> float:
    """Samples a second in the second half of a short trial, when everything is warm."""
    name = "cpu_seconds" if clock == "cpu" else "seconds"
    rows = [row for row in RunDirectory(folder).rows() if name in row]
    if len(rows) < 2:
        raise TrainingError(
            f"{folder} wrote fewer than two rows with {name}; compare with --clock {'wall' if clock == 'cpu' else 'cpu'}, or with --samples."
        )
    start, end = rows[len(rows) // 2 - 1], rows[-1]
    return (end["samples_seen"] - start["samples_seen"]) / max(end[name] - start[name], 1e-9)


def _train(planned: Sequence[PlannedTrial], out: Path, *, jobs: int, console: Console, primary: str) -> bool:
    """Run what is missing; False when it was stopped."""
    missing = [one for one in planned if one.record() is None]
    by_folder = {one.folder: one for one in planned}
    failed, done = failures(planned, out), len(planned) - len(missing)
    threads = max(1, cores() // jobs)
    console.print(
        f"{len(planned):,} trials, {done:,} finished already; {jobs} at a time, {threads} threads each.",
        highlight=False,
    )

    def ended(one: TrialExit) -> None:
        nonlocal done
        trial = by_folder[one.task.folder]
        name = str(trial.folder.relative_to(out / "trials"))
        record = trial.record() if one.is_finished else None
        if record is not None:
            done += 1
            console.print(
                f"[{done:,}/{len(planned):,}] {name}: {primary} {record['metrics'][primary]['value']:.1f} %, {one.seconds:.0f} s",
                highlight=False,
                markup=False,
            )
        else:
            if not one.is_stopped:
                failed[str(trial.folder.relative_to(out))] = one.message
                write_json(out / "failures.json", failed)
            console.print(
                f"{name} did not finish: {one.message}", highlight=False, markup=False, soft_wrap=True
            )

    with held(out, _busy(out)) if missing else nullcontext():
        finished = run_tasks([write(one) for one in missing], jobs=jobs, threads=threads, ended=ended)
    write_json(out / "failures.json", failures(planned, out))
    return finished


def _baselines(
    parts: Sequence[Division], everything: Manifest, protocol: ProtocolConfig, out: Path
) -> dict[str, Any]:
    """Chance and floors of every figure and rotation; they depend on the data alone, so they are measured once."""
    path = out / "data" / "floors.json"
    known: dict[str, Any] = read_json(path) if path.is_file() else {}
    found: dict[str, Any] = {}
    for part in parts:
        copied: dict[
            tuple[str, str | None], dict[str, Neighbours]
        ] = {}  # figures of one task copy from the same pictures, decoded once
        for name, config in protocol.metrics.items():
            key = f"{part.train.fingerprint()} {part.judged[name].fingerprint()} {config.model_dump_json(exclude={'where', 'primary', 'description'})}"
            is_tested = name == protocol.primary
            if key not in known or (is_tested and "outcomes" not in known[key]):
                metric = SampledMetric(
                    config, part.judged[name], everything if config.pool == "all" else None
                )
                kind = (config.task, config.label_field)
                copied[kind] = copied[kind] if kind in copied else metric.neighbours(part.train)
                baselines = metric.baselines(copied[kind])
                known[key] = {
                    "chance": round(metric.chance(), 6),
                    "baselines": {k: round(one.value, 6) for k, one in baselines.items()},
                }
                if is_tested:
                    known[key]["outcomes"] = {k: one.outcome() for k, one in baselines.items()}
            found.setdefault(name, {})[part.rotation or ""] = known[key]
    write_json(path, known)
    return found


def _result(
    planned: Sequence[PlannedTrial],
    plan: Plan,
    protocol: ProtocolConfig,
    out: Path,
    *,
    baselines: dict[str, Any],
    error_policy: dict[str, Any],
    clock: Clock,
    notes: list[str],
    everything: Manifest,
) -> dict[str, Any]:
    """The content of `compare.json`."""
    records = {one: record for one in planned if (record := one.record()) is not None}
    trials: list[Trial] = [one.trial(record) for one, record in records.items()]
    used = available_clock(trials, clock)
    outcomes: dict[str, dict[str, Any]] = {}
    for rotation, entry in baselines[plan.primary].items():
        for baseline, outcome in entry["outcomes"].items():
            outcomes.setdefault(baseline, {})[rotation] = outcome
    summary = summarise(trials, plan, clock=used, baselines=outcomes)
    for name, metric in summary["metrics"].items():
        config = protocol.metrics[name]
        mean = {
            key: _mean([entry["baselines"].get(key) for entry in baselines[name].values()])
            for key in next(iter(baselines[name].values()))["baselines"]
        }
        about = {
            "description": config.description,
            "task": config.task,
            "metric": config.metric,
            "pool": config.pool,
            "where": config.where,
        }
        summary["metrics"][name] = {
            **about,
            "chance": _mean([entry["chance"] for entry in baselines[name].values()]),
            "baselines": mean,
            **metric,
        }
    return {
        "frugalclip_compare": FORMAT,
        "answer": summary.pop("answer"),
        **{key: getattr(plan, key) for key in ("reference", "primary", "rotations", "seeds", "fractions")},
        **error_policy,
        "clock": used,
        "arms": [
            _arm(arm)
            for arm in dict.fromkeys(one.arm.name for one in planned)
            for arm in [next(o.arm for o in planned if o.arm.name == arm)]
        ],
        **summary,
        "trials": [_entry(one, records.get(one), failures(planned, out), out) for one in planned],
        "notes": notes
        + _notes(plan, clock, used, records)
        + _below_baselines(summary["metrics"][plan.primary], plan),
        "protocol": protocol.model_dump(mode="json"),
        "data": {"path": protocol.data, "rows": len(everything), "hash": everything.fingerprint()},
        "environment": environment()
        | {"command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])},  # the same on every machine
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return round(sum(known) / len(known), 6) if known else None


def _arm(arm: Arm) -> dict[str, Any]:
    return {
        "name": arm.name,
        "kind": "recipe" if arm.recipe else "command",
        "description": arm.description,
        **arm.content(),
    }


def _entry(
    one: PlannedTrial, record: dict[str, Any] | None, failed: dict[str, str], out: Path
) -> dict[str, Any]:
    folder = str(one.folder.relative_to(out))
    entry: dict[str, Any] = {
        "arm": one.arm.name,
        "rotation": one.rotation,
        "fraction": one.fraction,
        "seed": one.seed,
        "folder": folder,
    }
    if record is None:
        return entry | {
            "status": "failed" if folder in failed else "not run",
            "message": failed.get(folder, ""),
        }
    values = {name: metric["value"] for name, metric in record["metrics"].items()}
    training = {key: value for key, value in record["training"].items() if key != "notes"}
    return entry | {"status": "finished", "values": values, "training": training, "code": record["code"]}


def _notes(plan: Plan, wanted: Clock, used: Clock, records: dict[PlannedTrial, dict[str, Any]]) -> list[str]:
    """What a reader of the figures has to know."""
    notes = []
    if plan.seeds < SCREENING:
        notes.append(
            f"{plan.seeds} seed{'s' if plan.seeds > 1 else ''} screen at best: repeat with --seeds 3, and 6 for what is claimed."
        )
    if used != wanted:
        notes.append(
            "Some trial does not know its processor time, so seconds are the wall's; compare them only if the machine was otherwise idle."
        )
    lengths = {(one.rotation, record["training"]["samples_seen"]) for one, record in records.items()}
    if len(lengths) > len({rotation for rotation, _ in lengths}):
        notes.append(
            "The arms did not see equally many samples: final figures are at each arm's own length; add --samples N for equal ones."
        )
    commits = {record["code"].get("commit") for record in records.values()}
    if len(commits) > 1:
        notes.append(
            "The trials were made by several versions of the code; delete the older ones and compare again for what is claimed."
        )
    return notes


def _below_baselines(metric: dict[str, Any], plan: Plan) -> list[str]:
    """Said where no arm does better than something that needs no training, since such arms rank nothing."""
    levels = {**metric["baselines"], "chance": metric["chance"]}
    name, level = max(
        ((n, v) for n, v in levels.items() if v is not None), key=lambda item: item[1], default=("", 0.0)
    )
    values = [arm["value"] for arm in metric["arms"].values() if arm["value"] is not None]
    if not values or max(values) > level:
        return []
    return [
        f"No arm passes {words(name)} ({level:.1f} %) on {plan.primary}, which needs no training: these arms have learned too little to be ranked."
    ]


def show(result: dict[str, Any]) -> None:
    """Print the answer, then the tables."""
    print_comparison(result)
