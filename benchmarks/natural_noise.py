"""Noise that nobody planted: 300 pairs of clip art, judged by eye, against what `audit noise` says.

The rows are drawn from the whole pack: 200 (`first`) were looked at while the score was made, 100 (`second`)
were drawn and judged afterwards, and the score was not changed since. A label is `right` (the caption names
what is seen), `vague` (it is true of the picture, and of many others: "card", "Map Symbols") or `wrong` (it
names the collection, the author's submission, or another thing). AUROC compares wrong with right pairs,
without the vague ones. Beside it stands the number of rows that share the caption, which needs no picture at
all: most wrong captions here are names of collections.

Writes results/natural_noise.json.
Run: FRUGALCLIP_PACKS=... python benchmarks/natural_noise.py [MODEL ...]
"""

import argparse
import csv
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from _common import HERE
from planted_truth import auroc

from frugalclip.auditing.pair_features import plain_features
from frugalclip.auditing.suspicious_pairs import pair_scores
from frugalclip.auditing.words import WordForms
from frugalclip.core.records import environment, write_json
from frugalclip.sources.open import open_data
from frugalclip.verbs.audit_noise import audit_noise

LABELS = Path(__file__).parent / "labels" / "clipart_noise.csv"
RESULT = HERE.parent / "results" / "natural_noise.json"


def labels() -> dict[str, dict[str, str]]:
    """Draw -> id -> label."""
    found: dict[str, dict[str, str]] = {}
    with LABELS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["draw"], {})[row["id"]] = row["label"]
    return found


def judged(score: dict[str, float], label: dict[str, str]) -> dict[str, Any]:
    """AUROC of wrong against right pairs with an 80 % bootstrap interval, and wrong ones among the top 20."""
    ids = [one for one, kind in label.items() if kind != "vague" and one in score]
    scores, wrong = np.array([score[one] for one in ids]), np.array([label[one] == "wrong" for one in ids])
    draws = np.random.default_rng(0).integers(0, len(ids), (1_000, len(ids)))
    found = [auroc(scores[draw], wrong[draw]) for draw in draws]
    top = sorted((one for one in label if one in score), key=lambda one: -score[one])[:20]
    return {
        "auroc": auroc(scores, wrong),
        "interval": np.percentile(found, [10, 90]).tolist(),
        "top_20": {kind: sum(label[one] == kind for one in top) for kind in ("wrong", "vague", "right")},
    }


def main() -> None:
    """Judge scores without a model, by the models named, and by shared captions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help="MODELs that were not trained on clip art")
    chosen = parser.parse_args()
    path, draws = f"{os.environ['FRUGALCLIP_PACKS']}/clipart.tar", labels()
    data = open_data(path)
    shared = Counter(own[0] for own in data.captions())
    by_count = {one: float(shared[own[0]]) for one, own in zip(data.ids, data.captions(), strict=True)}
    scores = {"rows that share the caption": by_count}
    features = plain_features(data, WordForms("en"))
    rows = data.take(features.rows)
    captions = [" | ".join(own) for own in rows.captions()]
    pairs = pair_scores(features, captions)
    scores["its score without that rule"] = dict(zip(rows.ids, pairs.suspicion.tolist(), strict=True))
    for model in (None, *chosen.models):
        name = "audit noise" if model is None else f"audit noise --model {Path(model).name}"
        scores[name] = {row["id"]: row["score"] for row in audit_noise(path, model=model)["rows"]}
    found = {
        draw: {
            "labels": Counter(label.values()),
            "scores": {name: judged(score, label) for name, score in scores.items()},
        }
        for draw, label in draws.items()
    }
    write_json(RESULT, {**found, "environment": environment()})
    for draw, own in found.items():
        print(f"{draw} draw: {dict(own['labels'])}")
        for name, one in own["scores"].items():
            low, high = one["interval"]
            print(f"  {name}: AUROC {one['auroc']:.3f} ({low:.3f} to {high:.3f}), top 20: {one['top_20']}")


if __name__ == "__main__":
    main()
