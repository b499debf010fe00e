"""Claim: which classes fail is known before training, better than from their frequency or their names.

Small training sets are drawn from the packs: classes thinned, names added to captions or taken out, styles
left out (`_situations.py`). Each is trained from scratch with a closing fit (`arms/closing.yaml`), and the
accuracy of every class is measured. The same is predicted before training. A prediction is tested on sources
of images (emoji in all styles, clip art, three sets of icons, stamps) that its regression was not fitted
to. `--mend N` trains N thinned sets again, with half and with twice the pairs that classes are said to need.
`--write` fits the table of the package. The record holds the numbers of every class. Finished runs are not
trained again.
Run: python benchmarks/failing_classes.py [--seeds 2] [--mend 6] [--write]
"""

import argparse
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from _common import HERE, RESULTS
from _situations import Drawn, Situation, drawn

from frugalclip.auditing.class_features import ClassFeatures, measure
from frugalclip.auditing.class_rows import class_rows
from frugalclip.auditing.failing import forecast, pairs_needed
from frugalclip.auditing.failure_check import auroc, failing
from frugalclip.auditing.failure_fit import HeldOut, Outcomes, ceiling, held_out_intervals
from frugalclip.auditing.failure_fit import fit as fit_table
from frugalclip.auditing.failure_model import NAMES, FailureModel, naming_pairs, predictors
from frugalclip.core.records import environment, read_json, write_json
from frugalclip.data.manifest import Manifest, concatenate
from frugalclip.verbs.evaluate import evaluate
from frugalclip.verbs.train import train

RECORD = RESULTS / "failing_classes.json"
TABLE = HERE.parent / "src" / "frugalclip" / "auditing" / "failure_table.json"
RECIPE = HERE / "arms" / "closing.yaml"
FEWEST_CLASSES, FEWEST_ROWS = 5, 64
SAMPLES = (6_000, 16_000)  # least and most; six times the rows between
CLASSES = (
    ("noto", "subcategory"),
    ("twemoji", "keywords"),
    ("openmoji", "subcategory"),
    ("noto", "keywords"),
    ("openmoji", "keywords"),
    ("twemoji", "subcategory"),
    ("clipart", "category"),
    ("clipart", "keywords"),
    ("clipart", "words"),
    ("healthicons", "category"),
    ("gameicons", "words"),
    ("mdi", "keywords"),
    ("mdi", "words"),
    ("stamps", "category"),
    ("stamps", "subcategory"),
)
SHARES = (1.0, 0.5, 1.0, 0.7, 1.0, 0.4)  # of the training rows, by seed


def situations(seeds: int) -> list[Situation]:
    """What is drawn; odd seeds thin classes, and every third leaves captions as they are."""
    found = []
    for seed in range(seeds):
        share, thin = SHARES[seed % len(SHARES)], seed % 2 == 1
        found += [Situation(pack, field, seed, share, thin, seed % 3 != 2) for pack, field in CLASSES]
        found.append(Situation("styles", "subcategory", seed, 0.7, False, not thin, True))
        found.append(Situation("styles", "keywords", seed, 1.0, thin, False, True))
    return found


def measured(situation: Situation, folder: Path) -> dict[str, Any]:
    """Train on a situation, and record the accuracy of each class.

    Args:
        situation: what is drawn.
        folder: of the run.
    """
    rows = drawn(situation)
    if len(rows.names) < FEWEST_CLASSES or len(rows.train) < FEWEST_ROWS:
        return {"situation": asdict(situation), "classes": []}
    classes = trained(rows.train, rows, folder, seed=situation.seed)
    return {"situation": asdict(situation), "rows": len(rows.train), "classes": classes}


def trained(train_rows: Manifest, rows: Drawn, folder: Path, *, seed: int) -> list[dict[str, Any]]:
    """Accuracy of each class after training.

    Args:
        train_rows: the training data.
        rows: with the test data.
        folder: of the run; removed afterwards.
        seed: of the run.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    train_rows.write(folder / "train.parquet")
    samples = min(SAMPLES[1], max(SAMPLES[0], 6 * len(train_rows)))
    words = [f"data={folder}/train.parquet", "data.validation=none", "evaluation.points=1"]
    train(str(RECIPE), [*words, f"seed={seed}", "epochs=null", f"samples={samples}"], out=folder / "run")
    found = evaluate(folder / "run", data=rows.test, label_field="classes", classes=rows.names)
    shutil.rmtree(folder)
    return [
        {"name": one["name"], "accuracy": round(one["top1"] / 100, 4), "images": one["samples"]}
        for one in found["per_class"]
    ]


def numbers_of(situation: Situation) -> dict[str, list[float]]:
    """Class -> what is known of it before training."""
    rows = drawn(situation)
    numbers = predictors(_features(rows))
    return {name: [round(x, 4) for x in own] for name, own in zip(rows.names, numbers.tolist(), strict=True)}


def _features(rows: Drawn) -> ClassFeatures:
    return measure(rows.train, class_rows(rows.train, [[n] for n in rows.names], label_field="classes"))


def mended(situation: Situation, model: FailureModel, folder: Path) -> dict[str, Any]:
    """Train with half and with twice the pairs that classes are said to need.

    Args:
        situation: what is drawn; the pairs are training rows that it leaves out.
        model: fitted to other sources.
        folder: of the runs.

    Returns:
        `classes`, those with enough spare rows: `need`, `target`, and accuracies `half` and `twice`.
    """
    rows = drawn(situation)
    features = _features(rows)
    expected = forecast(features, model, images=20)
    target = max(expected.limit, float(np.median(expected.accuracy)))
    labels = rows.spare.field("classes")
    order = situation.random("mended").permutation(len(labels)).tolist()
    needs: dict[str, int] = {}
    for name, accuracy, naming in zip(rows.names, expected.accuracy, naming_pairs(features), strict=True):
        need = pairs_needed(float(accuracy), float(naming), target=target, growth=model.growth)
        if need and 2 * need <= sum(name in own for own in labels):
            needs[name] = need
    found: dict[str, dict[str, Any]] = {
        name: {"need": need, "target": target} for name, need in needs.items()
    }
    for part, factor in (("half", 0.5), ("twice", 2.0)) if needs else ():
        added: set[int] = set()
        for name, need in needs.items():
            added.update([row for row in order if name in labels[row]][: round(factor * need)])
        more = rows.spare.take(np.array(sorted(added), dtype=np.int64))
        every = concatenate([rows.train, more]) if added else rows.train
        for one in trained(every, rows, folder, seed=situation.seed):
            if one["name"] in found:
                found[one["name"]][part] = one["accuracy"]
    return {"situation": asdict(situation), "classes": found}


def outcomes_of(runs: list[dict[str, Any]]) -> Outcomes:
    """The classes of runs."""
    every = [(run, one) for run, own in enumerate(runs) for one in own["classes"]]
    sources = [Situation(**own["situation"]).source for own in runs]
    return Outcomes(
        np.array([one["numbers"] for _, one in every]),
        np.array([one["accuracy"] for _, one in every]),
        np.array([one["images"] for _, one in every]),
        np.array([run for run, _ in every]),
        np.array([sources[run] for run, _ in every]),
        [one["name"] for _, one in every],
    )


def scores_of(outcomes: Outcomes, found: HeldOut, own: np.ndarray) -> dict[str, Any]:
    """How predictions fare on sources that their regression was not fitted to.

    Args:
        outcomes: of all runs.
        found: predictions for them.
        own: (outcomes,) bool, those that are scored.
    """
    y = outcomes.accuracies
    ways = {
        "forecast": found.expected,
        "log_count": outcomes.numbers[:, NAMES.index("log_count")],
        "text_only": -outcomes.numbers[:, NAMES.index("name_similarity")],
        "mentions": outcomes.numbers[:, NAMES.index("log_naming")],
    }
    inside = (y >= found.low - 1e-9) & (y <= found.high + 1e-9)
    return {
        "classes": int(own.sum()),
        "runs": len(np.unique(outcomes.runs[own])),
        "auroc": {way: _mean_auroc(outcomes, values, own) for way, values in ways.items()},
        "ceiling": ceiling(outcomes.only(own)),
        "coverage": float(inside[own].mean()),
        "width": float((found.high - found.low)[own].mean()),
        "width_of_mean": float((found.plain_high - found.plain_low)[own].mean()),
        "correlation": float(np.corrcoef(found.expected[own], y[own])[0, 1]),
    }


def _mean_auroc(outcomes: Outcomes, values: np.ndarray, own: np.ndarray) -> float:
    """Mean over runs."""
    found = []
    for run in np.unique(outcomes.runs[own]):
        rows = own & (outcomes.runs == run)
        found.append(auroc(values[rows], failing(outcomes.accuracies[rows])))
    return float(np.mean([one for one in found if one is not None]))


def gathered(folder: Path, seeds: int) -> list[dict[str, Any]]:
    """The runs, with what was known before each; what is missing is trained and measured.

    Args:
        folder: of the records of single runs.
        seeds: of situations.
    """
    runs = []
    for situation in situations(seeds):
        path, before = (folder / f"{situation.name}.{end}" for end in ("json", "numbers.json"))
        if not path.is_file():
            write_json(path, measured(situation, folder / situation.name))
            print(situation.name, flush=True)
        run = read_json(path)
        if run["classes"] and not before.is_file():
            write_json(before, numbers_of(situation))
        numbers = read_json(before) if run["classes"] else {}
        runs.append(run | {"classes": [one | {"numbers": numbers[one["name"]]} for one in run["classes"]]})
    return runs


def mends(folder: Path, outcomes: Outcomes, seeds: int, most: int) -> list[dict[str, Any]]:
    """Thinned sets that are mended, of all sources in turn.

    Args:
        folder: of the records of single runs.
        outcomes: of all runs.
        seeds: of situations.
        most: sets.
    """
    thinned = [one for one in situations(seeds) if one.tail]
    turns = {one: [o.source for o in thinned[:place]].count(one.source) for place, one in enumerate(thinned)}
    found = []
    for situation in sorted(thinned, key=lambda one: turns[one])[:most]:
        path = folder / f"{situation.name}.mended.json"
        if not path.is_file():
            model = fit_table(outcomes.only(outcomes.sources != situation.source))
            write_json(path, mended(situation, model, folder / situation.name))
            print("mended", situation.name, flush=True)
        found.append(read_json(path))
    return found


def mend_scores(found: list[dict[str, Any]]) -> dict[str, Any]:
    """How often half of the pairs is too few or just enough, and twice as many suffice."""
    classes = [one for run in found for one in run["classes"].values() if "twice" in one]
    right = [one["half"] <= one["target"] + 1e-9 and one["twice"] >= one["target"] - 1e-9 for one in classes]
    return {
        "classes": len(classes),
        "within_a_factor_of_two": float(np.mean(right)) if right else None,
        "too_few": float(np.mean([one["twice"] < one["target"] for one in classes])) if right else None,
        "too_many": float(np.mean([one["half"] > one["target"] for one in classes])) if right else None,
    }


def main() -> None:
    """Train what is missing, print the figures, and with --write fit the table of the package."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--mend", type=int, default=6, metavar="N", help="thinned sets that are mended")
    parser.add_argument("--write", action="store_true", help="fit the table of the package")
    parser.add_argument("--json", type=Path, default=RECORD)
    chosen = parser.parse_args()
    folder = HERE.parent / "runs" / "failing"
    runs = gathered(folder, chosen.seeds)
    outcomes = outcomes_of(runs)
    found = held_out_intervals(outcomes)
    record: dict[str, Any] = {"recipe": RECIPE.stem, "predictors": list(NAMES)}
    record["held_out"] = {"all": scores_of(outcomes, found, np.ones(len(outcomes), dtype=bool))}
    for source in np.unique(outcomes.sources).tolist():
        record["held_out"][source] = scores_of(outcomes, found, outcomes.sources == source)
    thin = np.array([len(run["classes"]) > 0 and run["situation"]["tail"] for run in runs])[outcomes.runs]
    record["held_out"] |= {
        "thinned": scores_of(outcomes, found, thin),
        "whole": scores_of(outcomes, found, ~thin),
    }
    mended_runs = mends(folder, outcomes, chosen.seeds, chosen.mend)
    record["pairs_needed"] = mend_scores(mended_runs) | {"runs": mended_runs}
    write_json(chosen.json, record | {"runs": runs, "environment": environment()})
    for name, scores in record["held_out"].items():
        print(name, scores)
    print("pairs needed", mend_scores(mended_runs))
    if chosen.write:
        write_json(TABLE, fit_table(outcomes).content())


if __name__ == "__main__":
    main()
