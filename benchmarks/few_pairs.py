"""The value of `pretrained` with 250 to 2,000 pairs of the emoji pack, beside baselines on the same pairs.

Every style is held out in turn; whole concept families are drawn, others with each seed. Baselines copy from
the same pairs: by pixels, by shape and colour, and by the frozen backbone's features with the captions'
sentence vectors averaged over ten neighbours. One more trains perceptrons on the same frozen backbones by
contrast (arm pretrained_heads, 313 steps). open_clip trained on all pairs is the reference. Needs `make
frozen` and results/emoji.json. Writes results/few_pairs.json.
Run: FRUGALCLIP_PACKS=... python benchmarks/few_pairs.py [--seeds 6]
"""

import os
import tempfile
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from _common import HERE, options
from torch import Tensor

from frugalclip.core.records import environment, read_json, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.data.splits import SubsetConfig, subset_rows
from frugalclip.evaluation.baselines import Baselines
from frugalclip.evaluation.zeroshot import evaluate_zeroshot
from frugalclip.functional import unit
from frugalclip.models import Model
from frugalclip.sources.open import open_data
from frugalclip.towers.base import Side
from frugalclip.verbs.train import train

STYLES = ("noto", "openmoji", "twemoji")
PAIRS = (250, 500, 1_000, 2_000)
RESULTS = HERE.parent / "results"
STEPS = [
    "batch=128",
    "epochs=null",
    "samples=40000",
]  # of the perceptrons; 40 epochs of 250 pairs would be a handful of steps


def first_part(model: Model, side: Side) -> int:
    """Width of the features of a tower's first frozen encoder."""
    head: Any = model.network.pretrained_towers()[side].config.head
    return head.parts[0]


def sentences(model: Model, texts: list[str]) -> Tensor:
    """(texts, width) features of the first frozen encoder."""
    return model.text_inputs(texts).values[:, : first_part(model, "text")].cpu()


def copied(
    model: Model, training: Manifest, evaluated: Manifest, names: list[str], *, voters: int = 10
) -> float:
    """Top 1 in percent of averaging the sentence vectors of the nearest images by the frozen features.

    Neighbours are weighted by their similarity.
    """
    width = first_part(model, "image")  # without descriptors
    own, others = (
        model.image_features(rows, layer="pooled").features[:, :width] for rows in (training, evaluated)
    )
    mean, deviation = own.mean(0), own.std(0) + 1e-3
    own, others = unit((own - mean) / deviation), unit((others - mean) / deviation)
    captions = sentences(model, [texts[0] for texts in training.captions()])
    centre = captions.mean(0)
    near, places = (others @ own.T).topk(min(voters, len(own)), dim=1)
    voted = (near.clamp_min(0)[:, :, None] * unit(captions - centre)[places]).sum(1)  # (evaluated, width)
    classes = sorted(set(names))
    answers = (unit(voted) @ unit(sentences(model, classes) - centre).T).argmax(1)
    return 100 * fmean(classes[answer] == name for answer, name in zip(answers.tolist(), names, strict=True))


def one(everything: Manifest, style: str, pairs: int, *, seed: int) -> dict[str, float]:
    """Fit on some pairs of two styles and evaluate unseen concepts of the third.

    Returns:
        Top 1 of the model and of the baselines, in percent.
    """
    rows = everything.where(f"split=train,style!={style}")
    rows = rows.take(subset_rows(rows, pairs / len(rows), SubsetConfig(by="family"), seed=seed))
    evaluated = everything.where(f"split=test,is_flag=false,style={style}")
    with tempfile.TemporaryDirectory() as folder:
        rows.write(Path(folder) / "pairs.parquet")
        words = [f"data={folder}/pairs.parquet", "data.validation=none", f"seed={seed}"]
        model = train("pretrained", words, out=Path(folder) / "run").model
        settings: dict[str, Any] = {"label_field": "name", "draws": 0}
        found: dict[str, Any] = evaluate_zeroshot(model, evaluated, baselines=Baselines(rows), **settings)
        heads = train(
            str(HERE / "arms" / "pretrained_heads.yaml"), [*words, *STEPS], out=Path(folder) / "heads"
        ).model
        trained: dict[str, Any] = evaluate_zeroshot(heads, evaluated, **settings)
    names = [str(name) for name in evaluated.field("name")]
    baselines = {
        f"baseline: {name}": value["top1"]
        for name, value in found["baselines"].items()
        if isinstance(value, dict)
    }
    baselines |= {
        "baseline: frozen features": copied(model, rows, evaluated, names),
        "baseline: trained heads": trained["metrics"]["top1"],
    }
    return {"pairs": len(rows), "pretrained": found["metrics"]["top1"], **baselines}


def main() -> None:
    """Fit what is missing and write the record."""
    chosen = options(__doc__ or "", "../few_pairs", seeds=6)
    everything = open_data(f"{os.environ['FRUGALCLIP_PACKS']}/emoji-{{noto,twemoji,openmoji}}.tar")
    table: dict[str, Any] = {}
    for pairs in PAIRS:
        found = [one(everything, style, pairs, seed=seed) for seed in range(chosen.seeds) for style in STYLES]
        table[str(pairs)] = {key: fmean(run[key] for run in found) for key in found[0]}
        by_seed = [
            fmean(run["pretrained"] for run in found[i : i + len(STYLES)])
            for i in range(0, len(found), len(STYLES))
        ]
        table[str(pairs)]["spread over seeds"] = stdev(by_seed) if len(by_seed) > 1 else 0.0
        print(pairs, {key: round(value, 1) for key, value in table[str(pairs)].items()}, flush=True)
    trained = read_json(RESULTS / "emoji.json")["metrics"]["unseen"]["arms"]["open_clip"]
    write_json(
        chosen.json,
        {
            "seeds": chosen.seeds,
            "pairs": table,
            "open_clip on all pairs": trained["value"],
            "environment": environment(),
        },
    )


if __name__ == "__main__":
    main()
