"""Retrieval by names in unseen languages: a frozen multilingual encoder beside a trained English tower.

Trained on English names and keywords of two drawing styles, evaluated on unseen concepts of the third without
flags: recall of the right image by its name in each language, among the images of the concepts that have a
name in several languages. Needs `make frozen`. Writes results/languages.json.
Run: FRUGALCLIP_PACKS=... python benchmarks/languages.py
"""

import os
import tempfile
from pathlib import Path
from statistics import fmean

from _common import options

from frugalclip.core.records import environment, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.retrieval import evaluate_retrieval
from frugalclip.features.cache import FeatureCache
from frugalclip.sources.open import open_data
from frugalclip.verbs.train import train

STYLES = ("noto", "openmoji", "twemoji")
ALONE = ("model.text.width=384", "model.text.head.parts=[]", "model.text.head.sharpness=1")
ARMS = {
    "frozen multilingual": ("pretrained", "model.text.from=package:e5", *ALONE),
    "frozen English": ("pretrained", "model.text.from=package:minilm", *ALONE),
    "trained English": ("lit",),
}


def evaluated_rows(packs: str, style: str) -> tuple[Manifest, list[str]]:
    """The evaluated rows, and the languages in which at least nine of ten of them have a name."""
    rows = open_data(f"{packs}/emoji-{style}.tar").where("split=test,is_flag=false,languages!=1")
    named = {language: sum(map(bool, rows.captions(language=language))) for language in rows.languages}
    return rows, [language for language, number in named.items() if number >= 0.9 * len(rows)]


def main() -> None:
    """Train a model for each arm and style, and evaluate it in every language."""
    chosen = options(__doc__ or "", "../languages")
    packs = os.environ["FRUGALCLIP_PACKS"]
    found: dict[str, dict[str, list[float]]] = {arm: {} for arm in ARMS}
    output: dict[str, FeatureCache] = {}  # features of a name are the same for every style
    for style in STYLES:
        rows, languages = evaluated_rows(packs, style)
        for arm, (recipe, *changes) in ARMS.items():
            with tempfile.TemporaryDirectory() as folder:
                data = [
                    f"data={packs}/emoji-{{noto,twemoji,openmoji}}.tar",
                    f"data.where=split=train,style!={style}",
                    "data.validation=none",
                ]
                model = train(recipe, [*data, *changes], out=Path(folder) / "run").model
            if arm.startswith("frozen"):
                model.caches["text"] = output.setdefault(arm, model.caches["text"])
            for language in languages:
                result = evaluate_retrieval(model, rows, language=language, draws=0)
                found[arm].setdefault(language, []).append(result["metrics"]["t2i_r1"])
    means = {arm: {language: fmean(values) for language, values in by.items()} for arm, by in found.items()}
    foreign = {
        arm: fmean(value for language, value in by.items() if language != "en") for arm, by in means.items()
    }
    ratio = foreign["frozen multilingual"] / max(foreign["trained English"], 1e-9)
    print(
        {arm: f"{value:.1f} %" for arm, value in foreign.items()},
        f"{ratio:.1f} times the trained English tower, {len(means['trained English'])} languages",
    )
    write_json(
        chosen.json,
        {
            "t2i_r1": means,
            "mean_without_english": foreign,
            "times_trained_english": ratio,
            "environment": environment(),
        },
    )


if __name__ == "__main__":
    main()
