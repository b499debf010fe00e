"""Which word follows the 77th token: frozen encoders of long texts beside text towers that read 77 tokens.

Scenes of three to five objects are composed from the emoji pack. One object is named only in the last
sentence of a long caption, after token 77. Every arm has the same frozen image vectors under a trained head.
Evaluated on new scenes: which of all the key words completes the caption of an image. A tower that reads
fewer tokens cannot know. Needs `make frozen`. Writes results/long_text.json.
Run: FRUGALCLIP_PACKS=... python benchmarks/long_text.py [--scenes 2000] [--evaluated 40] [--seeds 3]
"""

import os
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import yaml
from _common import options
from torch import Tensor

from frugalclip.core.records import environment, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.functional import unit
from frugalclip.models import Model
from frugalclip.sources.open import open_data
from frugalclip.verbs.data_compose import compose
from frugalclip.verbs.train import train

HERE = Path(__file__).resolve().parent
PICTURES = {
    "kind": "pretrained",
    "from": "package:efficientnet-lite0",
    "width": 1792,
    "options": {"stages": True},
    "resolution": 224,
    "patches": [7, 7],
    "head": {"kind": "mlp", "hidden": 512, "dropout": 0.3},
}
HALF = [0.5, 0.5, 0.5]
TRAINED = {"size": "nano"}
ARMS: dict[str, dict[str, Any]] = {
    "trained, 77 tokens": {
        "model": {"text": TRAINED},
        "tokenizer": {"kind": "captions", "vocabulary": 2000, "context": 77},
    },
    "trained, 160 tokens": {
        "model": {"text": TRAINED},
        "tokenizer": {"kind": "captions", "vocabulary": 2000, "context": 160},
    },
    "frozen sentence encoder": {
        "model": {
            "text": {"kind": "pretrained", "from": "package:minilm", "width": 384, "head": {"kind": "mlp"}}
        }
    },
    "frozen language model": {
        "model": {
            "text": {
                "kind": "pretrained",
                "from": "package:smollm2",
                "width": 576,
                "options": {"prompt": "single"},
                "head": {"kind": "mlp"},
            }
        }
    },
}


def composed(folder: Path, packs: str, *, scenes: int) -> Manifest:
    """Scenes whose last sentence names an object that was not named before, of forty concepts."""
    rows = open_data(f"{packs}/emoji-noto.tar").where(
        "split=train,is_flag=false,skin_tone=null,category=Animals & Nature|Food & Drink|Objects"
    )
    words = sorted({name for name in rows.field("name") if name.isalpha() and name.islower()})
    plan = {
        "where": "split=train,is_flag=false,skin_tone=null",
        "canvas": 128,
        "objects": [3, 5],
        "repeat": 0,
        "mixed_styles": 0,
        "overlap": 0,
        "tint": 0,
        "sizes": {"medium": 1, "large": 1},
        "frequencies": {"kind": "table", "table": dict.fromkeys(words[:: max(1, len(words) // 40)][:40], 1)},
        "captions": {"short": 0, "medium": 0, "long": 1, "long_words": [75, 80], "key_word": 1},
        "splits": {"scenes": {"train": 0.9, "test": 0.1}, "shared": 1, "field": "none"},
    }
    (folder / "plan.yaml").parent.mkdir(parents=True, exist_ok=True)
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    compose(
        f"{packs}/emoji-{{noto,twemoji,openmoji}}.tar",
        plan=folder / "plan.yaml",
        out=folder / "scenes",
        scenes=scenes,
    )
    return open_data(str(folder / "scenes")).where("key_word!=null")


def completed(rows: Manifest, words: list[str]) -> list[str]:
    """The caption of each image with each of the words in place of its key word, image by image."""
    texts = []
    for captions, word in zip(rows.captions(), rows.field("key_word"), strict=True):
        before, _, after = captions[0].rpartition(word)
        texts += [before + one + after for one in words]
    return texts


def accuracy(model: Model, rows: Manifest, words: list[str], output: dict[str, Tensor]) -> float:
    """Percent of images whose own key word scores best; equal scores count in part.

    Args:
        model: to evaluate.
        rows: pictures with a key word.
        words: candidates in its place.
        output: features of the texts by a frozen backbone; computed once for the heads of all seeds.
    """
    images, tower, texts = (
        model.image_features(rows).features,
        model.network.pretrained_towers().get("text"),
        completed(rows, words),
    )
    with torch.inference_mode():
        if tower is None:
            encoded = model.encode_text(texts)
        else:
            if tower.fingerprint not in output:
                output[tower.fingerprint] = torch.cat(
                    [
                        tower.run_backbone(model.tokenizer.encode(texts[i : i + 64])).pooled
                        for i in range(0, len(texts), 64)
                    ]
                )
            encoded = unit(tower(output[tower.fingerprint]).embedding.float())
    of_pictures = encoded.view(len(rows), len(words), -1)  # (pictures, words, dim)
    right = []
    for image, candidates, word in zip(images, of_pictures, rows.field("key_word"), strict=True):
        scores = candidates @ image
        own = scores[words.index(word)]
        right.append(float(own >= scores.max() - 1e-6) / int((scores >= own - 1e-6).sum()))
    return 100 * fmean(right)


def main() -> None:
    """Compose, train an arm after the other, and write the record."""
    chosen = options(__doc__ or "", "../long_text", scenes=2_000, evaluated=40, seeds=3)
    place = HERE.parent / "runs" / "long_text"
    scenes = composed(place, os.environ["FRUGALCLIP_PACKS"], scenes=chosen.scenes)
    evaluated, words = (
        scenes.where("split=test").take(range(chosen.evaluated)),
        sorted(set(scenes.field("key_word"))),
    )
    scenes.where("split=train").write(place / "train.parquet")
    found: dict[str, list[float]] = {}
    output: dict[str, Tensor] = {}
    for arm, changes in ARMS.items():
        recipe: dict[str, Any] = {
            "model": {"image": PICTURES, "dim": 256, **changes["model"]},
            "preprocess": {"mean": HALF, "std": HALF},
            "views": {"main": "none"},
            "texts": {"caption": {}},
            "objectives": {"contrastive": {}},
            "batch": 128,
            "epochs": 8,
            "optimizer": {"lr": 1e-3, "weight_decay": 0.2},
            "schedule": {"kind": "cosine", "warmup": 0.1},
            **{key: value for key, value in changes.items() if key != "model"},
        }
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "arm.yaml").write_text(yaml.safe_dump(recipe))
            for seed in range(chosen.seeds):
                words_of = [f"data={place}/train.parquet", "data.validation=none", f"seed={seed}"]
                model = train(f"{folder}/arm.yaml", words_of, out=Path(folder) / f"run-{seed}").model
                found.setdefault(arm, []).append(accuracy(model, evaluated, words, output))
        print(f"{arm}: {fmean(found[arm]):.1f} % {[round(value, 1) for value in found[arm]]}", flush=True)
    means = {arm: fmean(values) for arm, values in found.items()}
    times = {arm: value / means["trained, 77 tokens"] for arm, value in means.items()}
    content = {
        "accuracy": means,
        "times_77_tokens": times,
        "runs": found,
        "chance": 100 / len(words),
        "words": words,
    }
    write_json(
        chosen.json,
        {**content, "scenes": chosen.scenes, "evaluated": len(evaluated), "environment": environment()},
    )


if __name__ == "__main__":
    main()
