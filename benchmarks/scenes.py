"""Every supervision signal in a pair on 50,000 composed scenes: DeCLIP and its terms, SLIP, ProtoCLIP.

Scenes have 64 px, and CLIP has the same views. Captions are sentences about several objects, their colours
and places, so that masked words, changed captions and neighbours matter. Retrieval among 1,250 scenes
separates arms that the names of emoji do not. Views neither mirror nor recolour, since captions mention both.

Expected before the runs: two views give the largest share of DeCLIP's gain, masked words the next; SimCLR no
gain on captions that its strong views contradict; prototypes none, since no two scenes are of one kind. Whole
methods are finalists, with more seeds than the arms that leave out a term. Finished trials are not trained
again.
Run: FRUGALCLIP_PACKS=... python benchmarks/scenes.py [--seeds 2] [--finalists 3] [--samples 16000] [--jobs 2]
"""

import argparse
from pathlib import Path
from typing import Any

from _common import compared, emoji_data, options, written
from masks import BASE, SCENES
from signals import DECLIP, declip_terms, questions

from frugalclip.core.records import write_json
from frugalclip.verbs.data_compose import compose

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs"
VIEWS = {"main": "clip", "second": "clip"}
SIMCLR = {"weight": 1, "first": "second", "second": "third", "hidden": 256, "out": 64}
PROTOTYPES = {"weight": 1, "hidden": 256, "out": 64, "during": [0.05, 1]}


def arm(
    description: str, *, views: dict[str, Any], objectives: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """The base with other views and objectives."""
    replaced = {"contrastive": None} if "multiview" in objectives else {}
    return (
        BASE
        | {"batch": 64, "description": description, "views": views, "objectives": {**replaced, **objectives}}
        | more
    )


def declip(description: str, *, without: str | None = None) -> dict[str, Any]:
    """DeCLIP with its five terms, or with one of them left out and the others as they are."""
    objectives, texts = declip_terms(
        without, positives="caption", texts={"caption": {}}, hidden=256, bottleneck=64
    )
    return arm(description, views=VIEWS, objectives=objectives, texts=texts)


ARMS: dict[str, dict[str, Any]] = {
    "clip-one": arm(
        "CLIP, one view.", views={"main": "clip"}, objectives={"contrastive": {"positives": "caption"}}
    ),
    "clip-two": arm(
        "CLIP, two views.",
        views=VIEWS,
        objectives={"multiview": {"texts": ["caption"], "positives": "caption"}},
    ),
    **{name: declip(words, without=term) for name, (words, term) in DECLIP.items()},
    "slip": arm(
        "SLIP: two further strong views.",
        views={"main": "clip", "second": "slip", "third": "slip"},
        objectives={"contrastive": {"positives": "caption"}, "simclr": SIMCLR},
    ),
    "protoclip": arm(
        "ProtoCLIP with back translation.",
        views={"main": "clip"},
        objectives={"contrastive": {"positives": "caption"}, "prototypes": PROTOTYPES},
        episode={"samples": 6400},
    ),
}
FINALS: dict[str, tuple[str, list[str]]] = {  # question -> reference, arms
    "against CLIP": ("clip-one", ["clip-two", "declip", "slip", "protoclip"]),
    "DeCLIP against two views alone": ("clip-two", ["declip"]),
}
SCREENED: dict[str, tuple[str, list[str]]] = {
    "DeCLIP without one of its terms": (
        "declip",
        ["declip-first", "declip-views", "declip-simsiam", "declip-masked", "declip-neighbours"],
    )
}


def main() -> None:
    """Compose, train what is missing, then ask each question of the same runs."""
    chosen = options(__doc__ or "", "../scenes", seeds=2, finalists=3, samples=16_000, jobs=2)
    compose(
        emoji_data(),
        plan=HERE / "protocols" / "scenes_plan.yaml",
        out=RUNS / "scenes" / "data",
        scenes=SCENES,
    )
    files = written(ARMS, RUNS / "scenes-arms")
    shared: dict[str, Any] = {
        "samples": chosen.samples,
        "protocol": HERE / "protocols" / "scenes.yaml",
        "folder": "scenes-signals",
    }
    found = compared(list(files.values()), chosen, reference="clip-one", is_record=False, **shared)
    last = argparse.Namespace(**{**vars(chosen), "seeds": chosen.finalists})
    answers = questions(FINALS, files, last, **shared) | questions(SCREENED, files, chosen, **shared)
    write_json(chosen.json, found | {"finalists": chosen.finalists, "questions": answers})


if __name__ == "__main__":
    main()
