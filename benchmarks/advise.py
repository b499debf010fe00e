"""What can be known before training: predictions of `advise` on kinds of data that they were not fitted on.

Every data set is taken whole and as a quarter, its baselines are measured, and routes are trained on it. A
prediction is checked on a kind of data that was left out whole: its error, whether the 80 % interval covers,
how wide that is beside the interval of always predicting the mean of the other kinds, and regret, which is
what the route predicted to be best lacks of the route that was best. Races are run on the records: their
regret with a quarter of the time of all runs, beside always taking the pretrained route and always the
longest run that fits.

Writes a record for each run into results/advise/ as soon as it has ended, results/advise.json, and what ships
with the package. The same command goes on where it was stopped.
Run: FRUGALCLIP_PACKS=... python benchmarks/advise.py [--only NAME ...] [--fit]
"""

import argparse
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _common import HERE, emoji_data

from frugalclip.advising.durations import Durations, probed_step
from frugalclip.advising.options import Option
from frugalclip.advising.predict import Predictor
from frugalclip.advising.profile import DataProfile, headline_of, measure_model, measured_rows, profile_data
from frugalclip.advising.race import Race, TrialRun
from frugalclip.advising.records import AdviceRecord, ShippedRuns
from frugalclip.advising.routes import FINETUNE, ROUTES, Candidate, finetune_route
from frugalclip.core.random import uniform
from frugalclip.core.records import RunDirectory, environment, read_json, write_json
from frugalclip.core.stored import read_record
from frugalclip.data.manifest import Manifest
from frugalclip.models import load
from frugalclip.sources.open import open_data
from frugalclip.training.optim import finetuning_rate
from frugalclip.verbs.data_compose import compose
from frugalclip.verbs.train import train

RESULT = HERE.parent / "results" / "advise.json"
RECORDS, RUNS = HERE.parent / "results" / "advise", HERE.parent / "runs" / "advise"
CACHE = RUNS / "cache"
SHIPPED = HERE.parent / "src" / "frugalclip" / "advising" / "records.json"
FRACTIONS = (1.0, 0.25)
LENGTHS = {"pretrained": (None,), "clip-small": (4_000, 16_000), "frugal": (4_000, 16_000)}
LONGER = {"clip-small": (64_000,), "frugal": (64_000,)}
SCENES = 6_000
ROUTE = {route.name: route for route in ROUTES}
SHARE = 0.25  # of the time of all runs, that a race may take


@dataclass(frozen=True)
class Pack:
    """A data set; those of one kind are left out together."""

    name: str
    kind: str
    names: str | None = None  # field whose values become the captions: a data set of classes
    has_longer: bool = False

    def open(self) -> Manifest:
        """Its rows, whole."""
        if self.name == "scenes":
            plan = HERE / "protocols" / "compress_plan.yaml"
            compose(emoji_data(), plan=plan, out=RUNS / "scenes", scenes=SCENES)
            return open_data(str(RUNS / "scenes"))
        if self.name == "emoji":
            return open_data(emoji_data())
        return open_data(f"{os.environ['FRUGALCLIP_PACKS']}/{self.name.split('-by-')[0]}.tar")


PACKS = (
    Pack("emoji-noto", "emoji", has_longer=True),
    Pack("stamps", "stamps", has_longer=True),
    Pack("gameicons", "gameicons"),
    Pack("mdi", "mdi", has_longer=True),
    Pack("healthicons", "healthicons"),
    Pack("clipart", "clipart"),
    Pack("photos", "photos"),
    Pack("scenes", "scenes", has_longer=True),
    Pack("healthicons-by-category", "healthicons", names="category"),
    Pack("clipart-by-category", "clipart", names="category", has_longer=True),
    Pack("emoji-openmoji-by-category", "emoji", names="category"),
    Pack("emoji-twemoji", "emoji"),
    Pack("emoji", "emoji"),
)


def rows_of(pack: Pack, fraction: float) -> Path:
    """A manifest of training rows, so many of them, and of all others."""
    path = RUNS / "rows" / f"{pack.name}-{fraction:g}.parquet"
    if path.is_file():
        return path
    everything = pack.open()
    if pack.names is not None:
        everything = _named(everything, pack.names)
    is_training = np.array([split == "train" for split in everything.field("split")])
    draws = uniform(0, "benchmarks/advise", everything.codes("id").view(np.uint64), 1)[:, 0]
    kept = ~is_training | (draws < fraction)
    path.parent.mkdir(parents=True, exist_ok=True)
    everything.take(np.flatnonzero(kept)).write(path)
    return path


def _named(rows: Manifest, field: str) -> Manifest:
    """The rows that have a value of a field, with the value as their caption."""
    values = rows.field(field)
    rows = rows.take([row for row, value in enumerate(values) if value])
    captions = pa.array([[str(value)] for value in rows.field(field)])
    table = rows.table.set_column(rows.table.column_names.index("captions"), "captions", captions)
    kept = [name for name in table.column_names if name != "keywords"]
    return Manifest(table.select(kept), rows.root, rows.name)


@dataclass(frozen=True)
class Start:
    """A model of ours that is trained further on data of other kinds."""

    name: str
    pack: str
    recipe: str
    fraction: float  # of the data that it is trained further on

    @property
    def folder(self) -> Path:
        """Its run."""
        return RUNS / "starts" / self.name


STARTS = (
    Start("clip-small-of-icons", "mdi", "clip-small", 1.0),
    Start("frugal-of-emoji", "emoji-noto", "frugal", 0.25),
)
START_SAMPLES = 32_000


@dataclass(frozen=True)
class Planned:
    """A run that is to be made."""

    pack: Pack
    fraction: float
    candidate: Candidate | None  # None: a start is trained further
    start: Start | None = None

    @property
    def name(self) -> str:
        """Of its record."""
        what = self.candidate.name if self.candidate else f"{FINETUNE}-{self.start and self.start.name}"
        return f"{self.pack.name}-{self.fraction:g}-{what}"


def planned(packs: Sequence[Pack]) -> Iterator[Planned]:
    """What is run, in order: whole data sets first, long runs last."""
    for fraction in FRACTIONS:
        for pack in packs:
            for name, lengths in LENGTHS.items():
                yield from (Planned(pack, fraction, Candidate(ROUTE[name], samples)) for samples in lengths)
    for start in STARTS:
        kind = next(one.kind for one in PACKS if one.name == start.pack)
        yield from (Planned(pack, start.fraction, None, start) for pack in packs if pack.kind != kind)
    for pack in (one for one in packs if one.has_longer):
        for name, lengths in LONGER.items():
            yield from (Planned(pack, 1.0, Candidate(ROUTE[name], samples)) for samples in lengths)


def started(start: Start, pack: Pack, fraction: float) -> Candidate:
    """Training a start further on a data set, where it was measured as it is."""
    if not RunDirectory(start.folder).summary.is_file():
        own = next(one for one in PACKS if one.name == start.pack)
        words = [f"data={rows_of(own, 1.0)}", f"samples={START_SAMPLES}", "epochs=", "stages="]
        train(start.recipe, [*words, "evaluation.baselines=false"], out=start.folder)
    model = load(start.folder)
    rows = measured_rows(open_data(str(rows_of(pack, fraction))), where=None)
    value = measure_model(model, rows, label_field=None)
    rate = finetuning_rate(model.network)
    return Candidate(finetune_route(str(start.folder), start=value, rate=rate), None)


def profile_of(pack: Pack, fraction: float) -> DataProfile:
    """The profile, measured once."""
    path = RECORDS / "profiles" / f"{pack.name}-{fraction:g}.json"
    if not path.is_file():
        found = profile_data(open_data(str(rows_of(pack, fraction))), where=None, label_field=None)
        write_json(path, found.model_dump(mode="json"))
    return read_record(path, DataProfile)


def run(one: Planned) -> AdviceRecord:
    """The record of one run, trained if it is not there."""
    path, pack, fraction = RECORDS / f"{one.name}.json", one.pack, one.fraction
    if path.is_file():
        return read_record(path, AdviceRecord)
    profile, folder = profile_of(pack, fraction), RUNS / "runs" / one.name
    candidate = one.candidate
    if one.start is not None:
        candidate = started(one.start, pack, fraction)
    assert candidate is not None
    begun = time.process_time()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(CACHE, ignore_errors=True)  # features of the same images would cost nothing
    batch = ["batch=32"] if profile.pairs < 128 else []
    settings = ["evaluation.baselines=false", "evaluation.points=1", *batch]
    words = candidate.route.words(candidate.samples, str(rows_of(pack, fraction)), settings)
    train(candidate.route.recipe, words, out=folder)
    record = AdviceRecord(
        data=pack.name,
        kind=pack.kind,
        fraction=fraction,
        profile=profile,
        route=candidate.route.name,
        samples=candidate.samples,
        start=candidate.route.start,
        value=headline_of(read_json(folder / "metrics.json"), profile.metric),
        seconds=round(time.process_time() - begun, 1),
    )
    write_json(path, record.model_dump(mode="json"))
    shutil.rmtree(folder, ignore_errors=True)
    return record


def candidate_of(record: AdviceRecord) -> Candidate:
    """What was run."""
    route = ROUTE.get(record.route)
    if route is None:
        assert record.start is not None
        route = finetune_route("a model", start=record.start, rate=0.0)
    return Candidate(route, record.samples)


def checked(records: Sequence[AdviceRecord]) -> dict[str, Any]:
    """Predictions of every kind of data by the runs on all other kinds."""
    rows = []
    for kind in sorted({one.kind for one in records}):
        others = [one for one in records if one.kind != kind]
        predictor = Predictor(others)
        for one in (record for record in records if record.kind == kind):
            found = predictor.predict(one.profile, candidate_of(one))
            if found is not None:
                values = [other.value for other in others]
                low, high = np.percentile(values, [10, 90])
                rows.append(
                    {
                        "data": one.data,
                        "fraction": one.fraction,
                        "route": one.route,
                        "samples": one.samples,
                        "start": one.start,
                        "value": one.value,
                        "predicted": found.value,
                        "low": found.low,
                        "high": found.high,
                        "mean_width": float(high - low),
                        "mean": float(np.mean(values)),
                    }
                )
    return {"predictions": rows, **_summary(rows)}


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    errors = [abs(one["predicted"] - one["value"]) for one in rows]
    regrets = []
    for key in sorted({(one["data"], one["fraction"]) for one in rows}):
        own = [one for one in rows if (one["data"], one["fraction"]) == key]
        chosen = max(own, key=lambda one: one["predicted"])
        regrets.append(max(one["value"] for one in own) - chosen["value"])
    return {
        "runs": len(rows),
        "error": float(np.mean(errors)),
        "error_of_the_mean": float(np.mean([abs(one["mean"] - one["value"]) for one in rows])),
        "covered": float(np.mean([one["low"] <= one["value"] <= one["high"] for one in rows])),
        "width": float(np.mean([one["high"] - one["low"] for one in rows])),
        "width_of_the_mean": float(np.mean([one["mean_width"] for one in rows])),
        "regret": float(np.mean(regrets)),
        "largest_regret": float(max(regrets)),
    }


def raced(records: Sequence[AdviceRecord], shipped: ShippedRuns) -> dict[str, Any]:
    """Races on the records of every data set, by what the other kinds of data taught."""
    rows = []
    for key in sorted({(one.data, one.fraction) for one in records}):
        own = [one for one in records if (one.data, one.fraction) == key and one.start is None]
        others = [one for one in records if one.kind != own[0].kind]
        rows.append(
            {"data": key[0], "fraction": key[1], **_race(own, shipped.model_copy(update={"runs": others}))}
        )
    return {
        "races": rows,
        "regret": float(np.mean([one["regret"] for one in rows])),
        "largest_regret": max(one["regret"] for one in rows),
        "share_of_time": float(np.mean([one["share_of_time"] for one in rows])),
        "better_than_pretrained": sum(one["value"] > one["pretrained"] for one in rows),
        "worse_than_pretrained": sum(one["value"] < one["pretrained"] for one in rows),
        "better_than_longest": sum(one["value"] > one["longest"] for one in rows),
        "worse_than_longest": sum(one["value"] < one["longest"] for one in rows),
    }


def _race(own: Sequence[AdviceRecord], others: ShippedRuns) -> dict[str, Any]:
    """A race over the runs of one data set with a quarter of their time."""
    by_name = {Candidate(ROUTE[one.route], one.samples).name: one for one in own}
    total, clock = sum(one.seconds for one in own), [0.0]
    profile, predictor = own[0].profile, Predictor(others.runs)
    durations = Durations(others, step_seconds=others.step_seconds)
    options = []
    for one in own:
        candidate = Candidate(ROUTE[one.route], one.samples)
        seconds = durations.seconds(candidate, pairs=profile.pairs)
        options.append(Option(candidate, predictor.predict(profile, candidate), seconds, None, ""))

    def run(option: Option, left: float) -> TrialRun:
        record = by_name[option.name]
        is_late = record.seconds > left
        clock[0] += min(record.seconds, left)
        return TrialRun(option.name, None if is_late else record.value, min(record.seconds, left), "", "")

    race = Race(
        options,
        durations,
        pairs=profile.pairs,
        seconds=SHARE * total,
        run=run,
        told=lambda _: None,
        clock=lambda: clock[0],
    )
    best, values = race.finish(), {name: one.value for name, one in by_name.items()}
    fitting = [one for one in own if one.seconds <= SHARE * total and one.route != "pretrained"]
    longest = max(fitting, key=lambda one: (one.samples or 0, one.route), default=None)
    reached = 0.0 if best is None or best.value is None else best.value
    return {
        "value": reached,
        "best": max(values.values()),
        "regret": max(values.values()) - reached,
        "share_of_time": clock[0] / total,
        "pretrained": values.get("pretrained", 0.0),
        "longest": 0.0 if longest is None else longest.value,
        "runs": [one.name for one in race.trials],
    }


def main() -> None:
    """Run what is missing, fit, and write the records."""
    launch = time.process_time()
    os.environ["FRUGALCLIP_CACHE"] = str(CACHE)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=[], help="names of data sets")
    parser.add_argument("--fit", action="store_true", help="train nothing")
    chosen = parser.parse_args()
    if not chosen.fit:
        packs = [one for one in PACKS if not chosen.only or one.name in chosen.only]
        for one in planned(packs):
            found = run(one)
            print(f"{one.name}: {found.value:.1f} %, {found.seconds:.0f} s", flush=True)
    records = [read_record(path, AdviceRecord) for path in sorted(RECORDS.glob("*.json"))]
    known = read_json(SHIPPED) if SHIPPED.is_file() else {}
    shipped = ShippedRuns(
        step_seconds=known.get("step_seconds") or probed_step(),
        launch_seconds=known.get("launch_seconds") or round(launch, 1),
        machine=environment()["device"],
        runs=records,
    )
    write_json(SHIPPED, shipped.model_dump(mode="json"))
    result, races = checked(records), raced(records, shipped)
    for found in (result, races):
        print({key: round(value, 3) for key, value in found.items() if not isinstance(value, list)})
    write_json(RESULT, {**result, "raced": races, "environment": environment()})


if __name__ == "__main__":
    main()
