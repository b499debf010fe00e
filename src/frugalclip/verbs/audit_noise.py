"""`frugalclip audit noise`: pairs whose picture and caption may not belong together, and their rate."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from frugalclip.auditing.pair_features import PairFeatures, model_features, plain_features
from frugalclip.auditing.shared_captions import shared_captions
from frugalclip.auditing.suspicious_pairs import (
    noise_rate,
    pair_scores,
    rate_interval,
    reasons,
    separation,
)
from frugalclip.auditing.words import WordForms
from frugalclip.core.devices import pick_device
from frugalclip.core.paths import user_path
from frugalclip.core.progress import progress_lines
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal, show_remark
from frugalclip.data.manifest import Manifest
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data
from frugalclip.verbs.data_terminal import show_lines

_SHOWN = 12
_UNTOLD = 0.7  # separation below which the rate means little


def audit_noise(
    path: str | Path,
    *,
    model: str | Path | Model | None = None,
    where: str | None = None,
    language: str = "en",
    seed: int = 0,
    json: str | Path | None = None,
) -> dict[str, Any]:
    """Rank the pairs of a data set by suspicion.

    Args:
        path: the data set.
        model: MODEL that was not trained on it; without one, descriptors and words are related by heads
            that never saw the pair they score.
        where: a condition over fields.
        language: of the captions, where there is no model.
        seed: of folds, and of captions dealt to other rows.
        json: file to write the result to.

    Returns:
        `rows`: {id, score, reason}, the most suspicious first; `rate`: estimated share of wrong pairs; and
        what docs/formats.md lists beside it.

    Raises:
        DataError: when no row has an image and a caption.
    """
    manifest = open_data(path, where=where)
    with progress_lines(show_remark):
        features = _features(manifest, model, language)
    chosen = manifest.take(features.rows)
    captions = [" | ".join(own) for own in chosen.captions()]
    scores = pair_scores(features, captions, seed=seed)
    suspicion, why = scores.suspicion, reasons(scores, features, captions, chosen.ids)
    collections = shared_captions(captions, chosen.ids)
    above = float(np.ptp(suspicion))
    for one in collections:  # usual for scores of pairs, since so many rows have the caption
        suspicion[one.rows] += above
        for row in one.rows.tolist():
            why[row] = one.reason
    order = np.argsort(-suspicion, kind="stable")
    rows = [
        {"id": chosen.ids[row], "score": float(suspicion[row]), "reason": why[row]} for row in order.tolist()
    ]
    result = {
        "rows": rows,
        "rate": noise_rate(scores.distances, scores.dealt),
        "rate_interval": rate_interval(scores.distances, scores.dealt, seed=seed),
        "separation": separation(scores.distances, scores.dealt),
        "features": "model" if features.is_joint else "descriptors and words",
        "collections": [
            {"caption": one.caption, "rows": len(one.rows), "names": list(one.words)} for one in collections
        ],
        "data": manifest.name,
        "samples": len(manifest),
        "left_out": len(manifest) - len(rows),
    }
    if json is not None:
        write_json(user_path(json), result)
    return result


def _features(manifest: Manifest, model: str | Path | Model | None, language: str) -> PairFeatures:
    if model is None:
        return plain_features(manifest, WordForms(language))
    loaded = model if isinstance(model, Model) else load(model, device=pick_device("auto"))
    if (loaded.training_data or {}).get("path") == manifest.name:
        show_remark(f"the model was trained on {manifest.name}, so it scores wrong pairs of it too low")
    return model_features(loaded, manifest)


def show(result: dict[str, Any], console: Console | None = None) -> None:
    """Print the most suspicious pairs, and the estimated rate."""
    console = console or Terminal(markup=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("score", justify="right")
    table.add_column("id", overflow="fold")
    table.add_column("reason", overflow="fold")
    for row in result["rows"][:_SHOWN]:
        table.add_row(f"{row['score']:.3f}", escape(row["id"]), escape(row["reason"]))
    console.print(table)
    low, high = result["rate_interval"]
    lines = [
        f"About {result['rate']:.1%} of {len(result['rows']):,} pairs are wrong ({low:.1%} to {high:.1%}), "
        f"by {result['features']}; experimental."
    ]
    if result["collections"]:
        many = sum(one["rows"] for one in result["collections"])
        first = result["collections"][0]["caption"]
        lines.append(
            f"{many:,} pairs come first because their caption may name a collection and not the picture: "
            f"{len(result['collections']):,} captions, such as '{first}'. They are not in the rate."
        )
    if result["separation"] < _UNTOLD:
        lines.append(
            f"These features hardly tell pairs from captions dealt to other rows (AUROC "
            f"{result['separation']:.2f}), so the rate is far too high; give a --model."
        )
    show_lines(lines, console)
