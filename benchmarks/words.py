"""LexVLA on the emoji pack: are the ten top words of a picture words that belong to it, do they carry the match, and what does the penalty do?

Every style left out in turn: the fitted recipe `words`, and `lexvla` on the trunk's one vector, trained with the overuse penalty and without. A
content lemma is the dictionary form of a word of the concept's name or keywords that is no function word. Chance is the same count with the words of
another picture. Deletion takes the matched word out of the picture's vector, beside another word of its ten. PatchDis on composed scenes of the style
that was left out. Needs `make frozen` and the [curate] extra. Writes results/words.json.
Run: FRUGALCLIP_PACKS=... python benchmarks/words.py [--epochs 4] [--scenes 300]; --epochs 0 leaves the trained arms out
"""

import os
import re
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import simplemma
import torch
import yaml
from _common import options
from torch import Tensor

from frugalclip.core.records import environment, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.data.scenes.truth import patch_labels, regions
from frugalclip.data.sources import open_data
from frugalclip.evaluation.patchdis import patch_discrimination, patch_scores
from frugalclip.functional import unit
from frugalclip.models import Model
from frugalclip.models.pictures import prepared_images
from frugalclip.towers.caption_words import CaptionWords
from frugalclip.towers.lexical import LexicalHead, truncated
from frugalclip.verbs.data_compose import compose
from frugalclip.verbs.train import train

STYLES = ("noto", "openmoji", "twemoji")
VECTOR = ("model.image.head.over=vector", "threads=1")
ARMS = {
    "fitted": ("words",),
    "trained, overuse": ("lexvla", *VECTOR),
    "trained, no penalty": ("lexvla", *VECTOR, "objectives.lexical.penalty=none"),
}
PARTS = {"all": "split!=val", "seen": "split=train", "unseen": "split=test"}
TOP, MOST = 10, 64
FUNCTION_WORDS = set(re.findall("[a-z]+", "a an the of and or with without in on at to for from by no not as is"))
RUNS = Path(__file__).resolve().parents[1] / "runs" / "words"


def lemmas(texts: list[str]) -> set[str]:
    """Dictionary forms of the content words of some texts."""
    words = {word for text in texts for word in re.findall(r"[a-z]{2,}", text.lower())}
    return {simplemma.lemmatize(word, "en").lower() for word in words} - FUNCTION_WORDS


def recall(pictures: Tensor, texts: Tensor) -> float:
    """Share of pictures, in percent, whose own text scores best: (rows, vocab) each, of distinct texts."""
    return 100 * float(((unit(pictures) @ unit(texts).T).argmax(1) == torch.arange(len(texts))).double().mean())


def read_words(model: Model, rows: Manifest) -> dict[str, float]:
    """Figures of pictures of an unseen style, in percent where they are shares."""
    pictures = model.image_features(rows).features
    names = [str(name) for name in rows.field("name")]
    texts = model.encode_text(names)
    wanted = [lemmas([name, *(own or [])]) for name, own in zip(names, rows.field("keywords"), strict=True)]
    top = [[simplemma.lemmatize(word, "en").lower() for word, _ in own] for own in model.words(pictures, top=TOP)]
    shifted = top[len(top) // 2 :] + top[: len(top) // 2]
    hits = [any(word in own for word in words) for words, own in zip(top, wanted, strict=True)]
    falls = []  # shares of the score that go with a matched word and with another one, of what an index would store
    places = pictures.topk(TOP, dim=1).indices
    stored = truncated(pictures, top_k=MOST)
    for row, (words, own) in enumerate(zip(top, wanted, strict=True)):
        matched = [i for i, word in enumerate(words) if word in own]
        others = [i for i, word in enumerate(words) if word not in own]
        score = float(stored[row] @ texts[row])
        if matched and others and score > 0:
            falls.append([100 * float(stored[row, places[row, i]] * texts[row, places[row, i]]) / score for i in (matched[0], others[0])])
    first = [rows_of[0] for rows_of in {name: [i for i, n in enumerate(names) if n == name] for name in names}.values()]
    dense, few = (recall(*(truncated(x[first], top_k=k) for x in (pictures, texts))) for k in (None, MOST))
    used = torch.zeros(pictures.shape[1]).index_add_(0, places.flatten(), torch.ones(places.numel()))
    return {
        "pictures": float(len(names)),
        "top words hit": 100 * fmean(hits),
        "chance of a hit": 100 * fmean(any(word in own for word in words) for words, own in zip(shifted, wanted, strict=True)),
        "precision of top words": 100 * fmean(fmean(word in own for word in words) if words else 0.0 for words, own in zip(top, wanted, strict=True)),
        "most used word": 100 * float(used.max()) / len(names),
        "score lost with the matched word": fmean(fall[0] for fall in falls) if falls else 0.0,
        "score lost with another word": fmean(fall[1] for fall in falls) if falls else 0.0,
        "lower without the matched word": 100 * fmean(fall[0] > 0 for fall in falls) if falls else 0.0,
        "lower without another word": 100 * fmean(fall[1] > 0 for fall in falls) if falls else 0.0,
        "recall, dense": dense,
        f"recall, {MOST} words": few,
        "non-zeros": float((pictures > 0).sum(1).double().mean()),
    }


def tokens_of(model: Model, scenes: Manifest) -> tuple[Tensor, list[int]]:
    """(scenes, patches, width) of what the trunk says, and the rows."""
    tower, rows, found = model.network.borrowed()["image"], [], []
    for some, pixels in prepared_images(scenes, model.preprocess, batch=32, faults=[]):
        tokens = tower.say(pixels, with_tokens=True).tokens
        assert tokens is not None
        rows += list(some)
        found.append(tokens)
    return torch.cat(found), [int(row) for row in rows]


def patches_named(model: Model, scenes: Manifest, tokens: Tensor, rows: list[int]) -> dict[str, float]:
    """PatchDis: every patch of 7 x 7 is named by the name it is most like, among those of all scenes and of its own."""
    head = model.network.borrowed()["image"].head
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
    judged, found = torch.from_numpy(np.stack(labels)), {}
    for kind in ("open", "present"):
        one = patch_discrimination(scores, judged, candidates=kind)
        found |= {f"patches, {kind}": 100 * one.accuracy, f"patches, {kind}, chance": 100 * one.chance, f"mean IoU, {kind}": 100 * one.mean_iou}
    return found


def scenes_of(packs: str, style: str, *, scenes: int) -> Manifest:
    """Scenes of one style whose objects fill several patches."""
    plan = {"where": "split=train,is_flag=false,skin_tone=null", "canvas": 140, "objects": [2, 3], "overlap": 0, "tint": 0, "sizes": {"large": 1}}
    folder = RUNS / style
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    compose(f"{packs}/emoji-{style}.tar", plan=folder / "plan.yaml", out=folder / "scenes", scenes=scenes)
    return open_data(str(folder / "scenes"))


def main() -> None:
    """Train two models a style and write what their words say."""
    chosen = options(__doc__ or "", "../words", epochs=4, scenes=300)
    packs = os.environ["FRUGALCLIP_PACKS"]
    arms = {arm: changes for arm, changes in ARMS.items() if chosen.epochs or changes[0] != "lexvla"}
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for style in STYLES:
        everything = open_data(f"{packs}/emoji-{style}.tar").where("is_flag=false")
        scenes = scenes_of(packs, style, scenes=chosen.scenes)
        said: tuple[Tensor, list[int]] | None = None
        for arm, (recipe, *changes) in arms.items():
            with tempfile.TemporaryDirectory() as folder:
                data = [f"data={packs}/emoji-{{noto,twemoji,openmoji}}.tar", f"data.where=split=train,style!={style}", "data.validation=none"]
                length = [f"epochs={chosen.epochs}"] if recipe == "lexvla" else []
                model = train(recipe, [*data, *length, *changes], out=Path(folder) / "run").model
            said = said or tokens_of(model, scenes)
            one = {f"{part}: {key}": value for part, where in PARTS.items() for key, value in read_words(model, everything.where(where)).items()}
            found[arm].append({"style": style, **one, **patches_named(model, scenes, *said)})
            print(style, arm, {key: round(value, 2) if isinstance(value, float) else value for key, value in found[arm][-1].items()}, flush=True)
    means = {arm: {key: fmean(run[key] for run in runs) for key in runs[0] if key != "style"} for arm, runs in found.items()}
    write_json(chosen.json, {"arms": means, "runs": found, "epochs": chosen.epochs, "environment": environment()})


if __name__ == "__main__":
    main()
