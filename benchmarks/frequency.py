"""Claim: frequencies that we plant come back, and accuracy grows with them; without captions it does not.

Scenes are composed with concepts by Zipf's law, of those that the sample keeps apart for validation and test.
`audit concepts` counts the names in their captions, and in their images by a tagger that knows the
masks. The counts are compared with the truth of the scenes: in text exactly, for names without punctuation
that are no part of another name; in images within 5 %. Then a CLIP model is trained on the scenes, and names
the drawings of these concepts by themselves: its accuracy is related to the counts. As a control the same
model is trained on captions dealt to other scenes, which leaves every count as it is: its slope must not be
above 0. Recall of captions of test scenes stands beside it; a scene shows several things, of which any may
tell it from others, so it depends less on one. Hours are predicted from the first steps; a finished model is
not trained again. With --samples 0 nothing is trained.
Run: python benchmarks/frequency.py [--scenes 20000] [--samples 400000]
"""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from _common import HERE, options, record

from frugalclip.auditing.words import GAP, WordForms
from frugalclip.core.progress import in_minutes
from frugalclip.data.manifest import Manifest
from frugalclip.data.planted_noise import swapped_captions
from frugalclip.sources.open import open_data
from frugalclip.synthetic.plan import SIZES
from frugalclip.verbs.audit_concepts import audit_concepts
from frugalclip.verbs.audit_frequency import audit_frequency
from frugalclip.verbs.data_compose import compose
from frugalclip.verbs.train import train

STYLES = "noto|openmoji|twemoji"
CONCEPTS = f"is_flag=false,style={STYLES},split=val|test"
PLAN = [f"where={CONCEPTS}", "frequencies.kind=zipf", "splits.shared=1", "canvas=64"]
TRAINED, TESTED = "split=train", "split=test"


def truth(scenes: Manifest) -> tuple[dict[str, int], dict[str, int]]:
    """Scenes whose captions mention each name, and scenes whose images show it."""
    texts, images = Counter[str](), Counter[str]()
    for objects, mentions in zip(scenes.field("objects"), scenes.field("mentions"), strict=True):
        names = [one["name"] for one in objects]
        texts.update({names[place] for caption in mentions for place in caption})
        images.update({one["name"] for one in objects if one["visible"] > 0})
    return dict(texts), dict(images)


def unmistakable(names: list[str]) -> list[str]:
    """Names whose words stand in no other name, nor in one behind the word of a size.

    Names with punctuation are spelled otherwise in captions.
    """
    forms = WordForms()
    spelled = {name: f" {' '.join(forms(name))} " for name in names}
    sizes = tuple(f" {size} " for size in SIZES)
    return [
        name
        for name, own in spelled.items()
        if GAP not in forms(name)
        and not own.startswith(sizes)
        and not any(own in other for one, other in spelled.items() if one != name)
    ]


def tags(scenes: Manifest, names: list[str], path: Path) -> Path:
    """A tagger that knows what is visible in each scene."""
    place = {name: column for column, name in enumerate(names)}
    scores = np.zeros((len(scenes), len(names)), dtype=np.float16)
    for row, objects in enumerate(scenes.field("objects")):
        for one in objects:
            column = place[one["name"]]
            scores[row, column] = max(scores[row, column], one["visible"])
    np.savez(path, ids=np.array(scenes.ids), concepts=np.array(names), scores=scores)
    return path


def counted(folder: Path) -> dict[str, Any]:
    """Count the training scenes, and compare with the truth."""
    scenes = open_data(folder / "scenes", where=TRAINED)
    in_texts, in_images = truth(scenes)
    names = sorted(in_texts.keys() | in_images.keys())
    (folder / "names.txt").write_text("\n".join(names))
    found = audit_concepts(
        folder / "scenes",
        classes=folder / "names.txt",
        match="phrase",
        tags=tags(scenes, names, folder / "tags.npz"),
        threshold=0.0,
        where=TRAINED,
        json=folder / "counts.json",
    )["concepts"]
    clear = unmistakable(names)
    wrong = [name for name in clear if found[name]["text"] != in_texts.get(name, 0)]
    apart = [abs(found[n]["image"] - in_images.get(n, 0)) / max(in_images.get(n, 0), 1) for n in names]
    inside = [name for name in names if name not in set(clear)]
    return {
        "scenes": len(scenes),
        "names": len(names),
        "compared_in_text": len(clear),
        "wrong_in_text": wrong[:20],
        "equal_in_text": 1 - len(wrong) / len(clear),
        "largest_error_in_images": max(apart),
        "names_inside_others": len(inside),
    }


def dealt(scenes: Manifest, path: Path) -> Path:
    """The training scenes with captions of other ones."""
    source, _ = swapped_captions(len(scenes), ratio=1.0, seed=0)
    position = scenes.table.column_names.index("captions")
    table = scenes.table.set_column(position, "captions", scenes.table["captions"].take(source))
    Manifest(table, scenes.root, scenes.name).write(path)
    return path


def related(folder: Path, arm: str, data: Path, where: str | None, samples: int) -> dict[str, Any]:
    """Train a model, unless it is there, and relate its accuracy to the counts."""
    run = folder / arm
    words = [f"data={data}", *([f"data.where={where}"] if where else []), f"samples={samples}", "epochs=null"]
    words += ["data.validation=none", "evaluation.points=1"]
    if not train("clip-small", words, out=run, resume=run.exists()).is_finished:
        raise SystemExit(f"the run in {run} was stopped; the same command goes on with it.")
    drawings = audit_frequency(
        folder / "counts.json",
        model=run,
        data="sample",
        where=CONCEPTS,
        label_field="name",
        report=HERE.parent / "runs" / f"frequency-{arm}.html",
    )
    scenes = audit_frequency(
        folder / "counts.json",
        model=run,
        data=folder / "scenes",
        where=TESTED,
        task="retrieval",
        depth=10,
        least=3,
    )
    return {
        f"{one['kind']} {one['metric']}": {key: value for key, value in one.items() if key != "rows"}
        for found in (drawings, scenes)
        for one in found["relations"]
    }


def main() -> None:
    """Compose, count, train and print."""
    chosen = options(__doc__ or "", "frequency", scenes=20_000, samples=400_000)
    folder = HERE.parent / "runs" / f"frequency-{chosen.scenes}"
    compose(["sample"], PLAN, out=folder / "scenes", scenes=chosen.scenes)
    content: dict[str, Any] = {"counts": counted(folder)}
    print(json.dumps(content["counts"]), flush=True)
    goals = [
        ("share of names counted exactly in text", content["counts"]["equal_in_text"], 1, "at least"),
        ("largest error of a count in images", content["counts"]["largest_error_in_images"], 0.05, "at most"),
    ]
    if chosen.samples:
        begun, few = time.perf_counter(), 1024
        related(folder, f"short-{time.time_ns()}", folder / "scenes", TRAINED, few)
        seconds = 2 * chosen.samples / few * (time.perf_counter() - begun)
        print(f"predicted: at most {in_minutes(seconds)} on this machine", flush=True)
        shuffled = dealt(open_data(folder / "scenes", where=TRAINED), folder / "dealt.parquet")
        content["clip"] = related(folder, "clip", folder / "scenes", TRAINED, chosen.samples)
        content["dealt"] = related(folder, "dealt", shuffled, None, chosen.samples)
        low = content["clip"]["text top1"]["interval"]["slope_per_decade"][0]
        control = content["dealt"]["text top1"]["interval"]["slope_per_decade"][0]
        goals += [
            ("low end of the slope, points per decade", low, 0, "at least"),
            ("the same with captions dealt anew", control, 0, "at most"),
        ]
    record(chosen.json, content, goals)


if __name__ == "__main__":
    main()
