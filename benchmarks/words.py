"""LexVLA on the emoji pack: do the ten top words of an image belong to it, and what do the penalties do?

Every style is held out in turn: the fitted recipe `words`, and `lexvla` on the backbone's one vector, trained
without a penalty, with the overuse penalty and with FLOPS. Hits and chance are those of
`frugalclip.evaluation.words`, over the concept's name and keywords. Deletion takes the matched word out of
the image's vector, beside another word of its ten. PatchDis is on composed scenes of the held-out style.

The recipe's weight of the image penalty, 0.02, makes it 0.005 nats beside a contrast of 1.1, and changes no
word. The weight of the text penalty has no effect, since nothing of this recipe's text side is trained. So
weights over three decades are tried for each kind on the validation concepts of Noto. The weight with the
most precise top words is used for the arms.

Expected before the runs: weights of 2 to 20 lower the share of the commonest word, with precision and recall
as they were or a little higher; 200 destroys the contrast. FLOPS, which is never larger, does the same at
larger weights, and leaves fewer words above zero.

Needs `make frozen` and the [curate] extra. Writes results/words.json.
Run: FRUGALCLIP_PACKS=... python benchmarks/words.py [--epochs 4] [--scenes 300] [--choose 1]; --epochs 0
leaves the trained arms out, and --choose 0 takes the weights of the record
"""

import hashlib
import os
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import yaml
from _common import emoji_data, options
from patchdis import patch_discrimination, patch_scores
from torch import Tensor

from frugalclip.core.records import environment, read_json, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.words import STORED, TOP, word_task
from frugalclip.loading.images import prepared_images
from frugalclip.models import Model
from frugalclip.sources.open import open_data
from frugalclip.synthetic.truth import patch_labels, regions
from frugalclip.towers.heads.caption_words import CaptionWords
from frugalclip.towers.heads.lexical import LexicalHead, truncated
from frugalclip.verbs.data_compose import compose
from frugalclip.verbs.train import train

STYLES = ("noto", "openmoji", "twemoji")
VECTOR = ("model.image.head.over=vector", "threads=1")
ONCE = ("data.validation=none", "evaluation.points=1")  # a checkpoint of 300 MB, not twenty
WEIGHTS = (2.0, 20.0, 200.0)  # of the pictures' penalty
PARTS = {"all": "split!=val", "seen": "split=train", "unseen": "split=test"}
RUNS = Path(__file__).resolve().parents[1] / "runs" / "words"
NAMES = {  # of the metrics, in the record
    "top words hit": "words_hit",
    "precision of top words": "words_precision",
    "most used word": "most_used_word",
    "recall, dense": "i2t_r1",
    f"recall, {STORED} words": f"i2t_r1_{STORED}_words",
    "non-zeros": "non_zeros",
}
CHANCE = {"chance of a hit": "words_hit", "chance of precision": "words_precision"}


def read_words(model: Model, rows: Manifest) -> dict[str, float]:
    """Metrics on images of an unseen style; shares are in percent."""
    task = word_task(rows, label_field="keywords")
    images, texts = (model.image_features(rows).features, model.encode_text(task.retrieval.texts))
    top = model.words(images, top=TOP)
    result = task.result(images, texts, top, draws=0)
    places, stored = images.topk(TOP, dim=1).indices, truncated(images, top_k=STORED)
    own = texts[task.retrieval.positives()[0][:, 0]]  # (pictures, vocab) of each picture's name
    falls = []  # shares of the score lost with a matched word and with another one
    for row, hits in enumerate(task.hits(top)):
        score = float(stored[row] @ own[row])
        if any(hits) and not all(hits) and score > 0:
            chosen = places[row, [hits.index(True), hits.index(False)]]
            falls.append((100 * stored[row, chosen] * own[row, chosen] / score).tolist())
    return {
        "images": float(result["samples"]),
        **{name: result["metrics"][key] for name, key in NAMES.items()},
        **{name: result["chance"][key] for name, key in CHANCE.items()},
        "score lost with the matched word": fmean(fall[0] for fall in falls) if falls else 0.0,
        "score lost with another word": fmean(fall[1] for fall in falls) if falls else 0.0,
        "lower without the matched word": 100 * fmean(fall[0] > 0 for fall in falls) if falls else 0.0,
        "lower without another word": 100 * fmean(fall[1] > 0 for fall in falls) if falls else 0.0,
    }


def tokens_of(model: Model, scenes: Manifest) -> tuple[Tensor, list[int]]:
    """(scenes, patches, width) features of the backbone, and the rows."""
    tower, rows, found = model.network.pretrained_towers()["image"], [], []
    for some, pixels in prepared_images(scenes, model.preprocess, batch=32, faults=[]):
        tokens = tower.run_backbone(pixels, with_tokens=True).tokens
        assert tokens is not None
        rows += list(some)
        found.append(tokens)
    return torch.cat(found), [int(row) for row in rows]


def patches_named(model: Model, scenes: Manifest, tokens: Tensor, rows: list[int]) -> dict[str, float]:
    """PatchDis: the best name of each of 7 x 7 patches, among those of all scenes and of its own."""
    head = model.network.pretrained_towers()["image"].head
    assert isinstance(head, LexicalHead | CaptionWords)
    of_scene = [[one["name"] for one in objects] for objects in scenes.field("objects")]
    names = sorted({name for own in of_scene for name in own})
    texts, labels = model.encode_text(names), []
    with torch.inference_mode():
        scores = torch.cat([patch_scores(head.of_patches(part), texts) for part in tokens.split(8)])
    for row in rows:
        seen = regions(scenes, row)
        share = patch_labels(seen, seen.shape[1] // 7).reshape(len(seen), -1)  # (objects, patches)
        own = np.array([names.index(name) for name in of_scene[row]])
        labels.append(np.where(share.max(0) >= 0.5, own[share.argmax(0)], -1))
    labelled, found = torch.from_numpy(np.stack(labels)), {}
    for kind in ("open", "present"):
        one = patch_discrimination(scores, labelled, candidates=kind)
        found |= {
            f"patches, {kind}": 100 * one.accuracy,
            f"patches, {kind}, chance": 100 * one.chance,
            f"mean IoU, {kind}": 100 * one.mean_iou,
        }
    return found


def scenes_of(packs: str, style: str, *, scenes: int) -> Manifest:
    """Scenes of one style whose objects fill several patches."""
    plan = {
        "where": "split=train,is_flag=false,skin_tone=null",
        "canvas": 140,
        "objects": [2, 3],
        "overlap": 0,
        "tint": 0,
        "sizes": {"large": 1},
    }
    folder = RUNS / style
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    compose(f"{packs}/emoji-{style}.tar", plan=folder / "plan.yaml", out=folder / "scenes", scenes=scenes)
    return open_data(str(folder / "scenes"))


def trained(recipe: str, changes: list[str], *, style: str | None) -> Model:
    """A model of a recipe, trained on the training concepts of the other styles (None: on everything).

    A finished run is read, not trained again.
    """
    where = f"split=train,style!={style}" if style else "is_flag=false"
    words = [f"data={emoji_data()}", f"data.where={where}", *ONCE, *changes]
    folder = RUNS / "models" / hashlib.blake2b(repr((recipe, words)).encode(), digest_size=8).hexdigest()
    return train(recipe, words, out=folder, resume=True).model


def penalty(kind: str, weight: float) -> str:
    """The setting of the objective; a text side without anything to train needs no weight."""
    return f"objectives.lexical.penalty={{kind: {kind}, image: {weight}, text: 0}}"


def tried_weights(epochs: int) -> dict[str, dict[str, dict[str, float]]]:
    """Kind -> weight -> metrics on validation concepts of held-out Noto; `none` has one entry."""
    rows = open_data(f"{os.environ['FRUGALCLIP_PACKS']}/emoji-noto.tar").where("is_flag=false,split=val")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind, weights in {"none": (0.0,), "overuse": WEIGHTS, "flops": WEIGHTS}.items():
        for weight in weights:
            model = trained("lexvla", [*VECTOR, f"epochs={epochs}", penalty(kind, weight)], style="noto")
            found.setdefault(kind, {})[f"{weight:g}"] = one = read_words(model, rows)
            print(kind, weight, {key: round(value, 2) for key, value in one.items()}, flush=True)
    return found


def arms_of(tried: dict[str, dict[str, dict[str, float]]], epochs: int) -> dict[str, tuple[str, ...]]:
    """Name -> recipe and settings, each penalty at the weight whose top words were most precise."""
    arms: dict[str, tuple[str, ...]] = {"fitted": ("words",)}
    for kind, by in tried.items():
        weight = max(by, key=lambda one: by[one]["precision of top words"])
        name = "trained, no penalty" if kind == "none" else f"trained, {kind} {weight}"
        arms[name] = ("lexvla", *VECTOR, f"epochs={epochs}", penalty(kind, float(weight)))
    return arms


def main() -> None:
    """Choose weights, train the arms for each style, and write what their words reach."""
    chosen = options(__doc__ or "", "../words", epochs=4, scenes=300, choose=1)
    packs = os.environ["FRUGALCLIP_PACKS"]
    trained(
        "words", ["samples=128", "epochs=null"], style=None
    )  # lets the backbones read every picture and name once; the model is thrown away
    tried: dict[str, dict[str, dict[str, float]]] = {}
    if chosen.epochs:
        tried = tried_weights(chosen.epochs) if chosen.choose else read_json(chosen.json)["tried"]
    arms = arms_of(tried, chosen.epochs)
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for style in STYLES:
        everything = open_data(f"{packs}/emoji-{style}.tar").where("is_flag=false")
        scenes = scenes_of(packs, style, scenes=chosen.scenes)
        output: tuple[Tensor, list[int]] | None = None
        for arm, (recipe, *changes) in arms.items():
            model = trained(recipe, changes, style=style)
            output = output or tokens_of(model, scenes)
            one = {
                f"{part}: {key}": value
                for part, where in PARTS.items()
                for key, value in read_words(model, everything.where(where)).items()
            }
            found[arm].append({"style": style, **one, **patches_named(model, scenes, *output)})
            print(
                style,
                arm,
                {
                    key: round(value, 2) if isinstance(value, float) else value
                    for key, value in found[arm][-1].items()
                },
                flush=True,
            )
    means = {
        arm: {key: fmean(run[key] for run in runs) for key in runs[0] if key != "style"}
        for arm, runs in found.items()
    }
    write_json(
        chosen.json,
        {"arms": means, "runs": found, "tried": tried, "epochs": chosen.epochs, "environment": environment()},
    )


if __name__ == "__main__":
    main()
