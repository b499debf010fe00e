"""The signals of scenes.py and the masks of masks.py in a longer run, on a GPU.

256,000 scenes, five passes over 50,000, are seen in batches of 256. Every method's peak learning rate is the
best of three on validation scenes at half the length; arms that leave out a term take the whole method's.
Whole methods are finalists, with more seeds.

Expected before the runs, with 1,000 steps in place of 250: two views and SimCLR ahead of CLIP by more than at
that length; DeCLIP ahead of two views, masked words its most useful other term, prototypes of no use; half of
the patches by attention level with half at random. Finished trials are not trained again. It takes days on
two cores: use a GPU.
Run: FRUGALCLIP_PACKS=... python benchmarks/scenes_long.py [--seeds 3] [--finalists 6] [--samples 256000]
[--jobs 12]
"""

import argparse
from typing import Any

import masks
import scenes
from _common import best_rates, compared, devices, emoji_data, options, written
from signals import questions

from frugalclip.core.records import environment, write_json
from frugalclip.verbs.data_compose import compose

RUNS, PROTOCOL = scenes.RUNS, scenes.HERE / "protocols" / "scenes.yaml"
BATCH, RATES = 256, (7.5e-4, 1.5e-3, 3e-3)
ARMS = scenes.ARMS | {f"half-{name}": content for name, content in masks.ARMS.items() if name != "whole"}
METHODS = {  # arm whose rate is chosen: arms that take it
    "clip-one": ["clip-one", "clip-two"],
    "declip": [name for name in ARMS if name.startswith("declip")],
    "slip": ["slip"],
    "protoclip": ["protoclip"],
    "half-random": [name for name in ARMS if name.startswith("half-")],
}
HALVES: dict[str, tuple[str, list[str]]] = {
    "half of the patches": ("half-random", ["half-block", "half-attentive"])
}


def at(content: dict[str, Any], rate: float) -> dict[str, Any]:
    """An arm in these batches at a peak learning rate."""
    return content | {"batch": BATCH, "optimizer": {"lr": rate}}


def main() -> None:
    """Compose, choose rates, train what is missing, then ask each question of the same runs."""
    chosen = options(__doc__ or "", "../scenes-long", seeds=3, finalists=6, samples=256_000, jobs=12)
    compose(
        emoji_data(),
        plan=scenes.HERE / "protocols" / "scenes_plan.yaml",
        out=RUNS / "scenes" / "data",
        scenes=masks.SCENES,
    )
    rates = best_rates(
        dict.fromkeys(METHODS, RATES),
        lambda name, rate: at(ARMS[name], rate),
        chosen,
        samples=chosen.samples // 2,
        protocol=PROTOCOL,
    )
    of = {arm: rates[method]["rate"] for method, arms in METHODS.items() for arm in arms}
    files = written(
        {name: at(content, of[name]) for name, content in ARMS.items()}, RUNS / f"{chosen.json.stem}-arms"
    )
    shared: dict[str, Any] = {"samples": chosen.samples, "protocol": PROTOCOL, "clock": "wall"}
    screened = compared(list(files.values()), chosen, reference="clip-one", is_record=False, **shared)
    answers = questions(scenes.SCREENED | HALVES, files, chosen, **shared)
    last = argparse.Namespace(**{**vars(chosen), "seeds": chosen.finalists})
    final = list(
        dict.fromkeys(name for reference, others in scenes.FINALS.values() for name in (reference, *others))
    )
    found = compared([files[name] for name in final], last, reference="clip-one", is_record=False, **shared)
    answers |= questions(scenes.FINALS, files, last, **shared)
    hits = masks.hits_of(
        RUNS / chosen.json.stem, ("clip-one", "half-random", "half-attentive"), seeds=chosen.seeds
    )
    numbers = {"seeds": chosen.seeds, "finalists": chosen.finalists, "batch": BATCH}
    more = numbers | {"rates": rates, "devices": devices(chosen.json.stem), "environment": environment()}
    write_json(chosen.json, found | more | {"screened": screened, "questions": answers, "hits": hits})


if __name__ == "__main__":
    main()
