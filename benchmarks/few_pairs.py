"""What `pretrained` is worth with few pairs: 250 to 2,000 of the emoji pack, beside every floor on the same pairs and open_clip trained on all of them.

Every style left out in turn; whole concept families are drawn, other ones with each seed. Floors copy from the pairs that the model is fitted to: by
pixels, by shape and colour, by the frozen backbone's features with the captions' sentence vectors averaged over ten neighbours, and by perceptrons on
the same frozen backbones, trained by contrast (arm pretrained_heads, 313 steps). Needs `make frozen`
and results/emoji.json. Writes results/few_pairs.json. Run: FRUGALCLIP_PACKS=... python benchmarks/few_pairs.py [--seeds 6]
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
from frugalclip.evaluation.zeroshot import evaluate_zeroshot
from frugalclip.functional import unit
from frugalclip.models import Model
from frugalclip.sources.open import open_data
from frugalclip.verbs.train import train

STYLES = ("noto", "openmoji", "twemoji")
PAIRS = (250, 500, 1_000, 2_000)
RESULTS = HERE.parent / "results"
STEPS = [
    "batch=128",
    "epochs=null",
    "samples=40000",
]  # of the perceptrons; 40 epochs of 250 pairs would be a handful of steps


def sentences(model: Model, texts: list[str]) -> Tensor:
    """(texts, width) what the first frozen encoder says of them."""
    assert model.network.pretrained_towers()["text"].config.head.kind == "kernel_ridge"
    output = model.text_inputs(texts).values
    return output[:, : output.shape[1] // 2].cpu()


def copied(
    model: Model, training: Manifest, judged: Manifest, names: list[str], *, voters: int = 10
) -> float:
    """Top 1 in percent of averaging the sentences of the nearest pictures by the frozen backbone's features, weighted by similarity."""
    own, others = (model.image_features(rows, layer="pooled").features for rows in (training, judged))
    mean, deviation = own.mean(0), own.std(0) + 1e-3
    own, others = unit((own - mean) / deviation), unit((others - mean) / deviation)
    captions = sentences(model, [texts[0] for texts in training.captions()])
    centre = captions.mean(0)
    near, places = (others @ own.T).topk(min(voters, len(own)), dim=1)
    told = (near.clamp_min(0)[:, :, None] * unit(captions - centre)[places]).sum(1)  # (judged, width)
    classes = sorted(set(names))
    answers = (unit(told) @ unit(sentences(model, classes) - centre).T).argmax(1)
    return 100 * fmean(classes[answer] == name for answer, name in zip(answers.tolist(), names, strict=True))


def one(everything: Manifest, style: str, pairs: int, *, seed: int) -> dict[str, float]:
    """Fit on so many pairs of two styles and judge the unseen concepts of the third: top 1 and floors in percent."""
    rows = everything.where(f"split=train,style!={style}")
    rows = rows.take(subset_rows(rows, pairs / len(rows), SubsetConfig(by="family"), seed=seed))
    judged = everything.where(f"split=test,is_flag=false,style={style}")
    with tempfile.TemporaryDirectory() as folder:
        rows.write(Path(folder) / "pairs.parquet")
        words = [f"data={folder}/pairs.parquet", "data.validation=none", f"seed={seed}"]
        model = train("pretrained", words, out=Path(folder) / "run").model
        result: dict[str, Any] = evaluate_zeroshot(model, judged, label_field="name", training=rows, draws=0)
        heads = train(
            str(HERE / "arms" / "pretrained_heads.yaml"), [*words, *STEPS], out=Path(folder) / "heads"
        ).model
        trained: dict[str, Any] = evaluate_zeroshot(heads, judged, label_field="name", draws=0)
    names = [str(name) for name in judged.field("name")]
    baselines = {
        f"baseline: {name}": value["top1"]
        for name, value in result["baselines"].items()
        if isinstance(value, dict)
    }
    baselines |= {
        "baseline: frozen features": copied(model, rows, judged, names),
        "baseline: trained heads": trained["metrics"]["top1"],
    }
    return {"pairs": len(rows), "pretrained": result["metrics"]["top1"], **baselines}


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
