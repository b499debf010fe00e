"""The other published methods, and three unpublished sums, on composed scenes over 500 steps, on a GPU.

FILIP, DeFILIP, MaskCLIP's self-distillation, A-CLIP with its SimCLR and BYOL and its cheaper form, and
ProtoCLIP at lower rates than in scenes_long.py. Also each encoder trained by itself first (SimSiam, masked
words) against the same terms throughout. An arm is compared with one that differs in the tested term only.
Peak rates are the best of three for each family, on validation scenes at half the length.

Expected before the runs: FILIP and DeFILIP above what they add to; SimCLR and BYOL carry A-CLIP above half of
the patches by attention alone and below whole images at this length; two stages behind the same terms at
once; MaskCLIP level with CLIP; the three sums above CLIP by a point at most. Finished trials are not trained
again.
Run: FRUGALCLIP_PACKS=... python benchmarks/scenes_methods.py [--seeds 3] [--samples 128000] [--jobs 8]
"""

from typing import Any

import masks
import scenes
from _common import best_rates, compared, devices, emoji_data, options, written
from scenes_long import at
from signals import questions

from frugalclip.core.records import environment, write_json
from frugalclip.verbs.data_compose import compose

RATES = (3.75e-4, 7.5e-4, 1.5e-3)
PAIRS: dict[str, Any] = {"contrastive": {"positives": "caption"}}
WORD_TO_PATCH: dict[str, Any] = {"weight": 0.2, "text": "augmented", "out": 64}
KEPT: dict[str, Any] = {"images": ["main@kept", "second@kept"], "texts": ["caption@masked"]}
ITSELF: dict[str, Any] = {
    "simsiam": {"weight": 1, "input": "pooled", "hidden": 256, "bottleneck": 64},
    "masked_text": {"weight": 1},
}
STAGES: list[dict[str, Any]] = [{"share": 0.5, "objectives": {"contrastive": None} | ITSELF}, {}]


def added(arm: dict[str, Any], description: str, **objectives: Any) -> dict[str, Any]:
    """An arm with further objectives; None takes one out."""
    return arm | {"description": description, "objectives": arm["objectives"] | objectives}


def aclip(description: str, *, size: int | None = None) -> dict[str, Any]:
    """A-CLIP with SimCLR and BYOL between its two views; its slow copy encodes all pixels or fewer."""
    arm = added(
        masks.ARMS["attentive"],
        description,
        simclr={
            "weight": 1,
            "first": "main@kept",
            "second": "second@kept",
            "hidden": 256,
            "out": 64,
            "views": "together",
        },
        byol={
            "weight": 2,
            "images": ["main@kept", "second@kept"],
            "target": "around",
            "hidden": 256,
            "out": 64,
        },
    )
    around = arm["views"]["around"] | ({"size": size} if size else {})
    return arm | {"views": arm["views"] | {"around": around}}


ARMS: dict[str, dict[str, Any]] = {
    "clip-one": scenes.ARMS["clip-one"],
    "filip": added(scenes.ARMS["clip-one"], "CLIP and word to patch.", token_wise={"weight": 1, "out": 64}),
    "maskclip": added(
        scenes.ARMS["clip-one"] | {"teachers": {"ema": {"from": "ema", "momentum": [0.99, 0.9999]}}},
        "CLIP with masked self-distillation and masked words.",
        masked_distillation={"weight": 0.05, "hidden": 0.75, "codes": 256},
        masked_text={"weight": 0.05},
    ),
    "declip": scenes.ARMS["declip"],
    "defilip": added(scenes.ARMS["declip"], "DeCLIP and word to patch.", token_wise=WORD_TO_PATCH),
    "at-once": scenes.arm(
        "SimSiam, masked words and CLIP all along.", views=scenes.VIEWS, objectives=PAIRS | ITSELF
    ),
    "two-stage": scenes.arm(
        "SimSiam and masked words first, then CLIP.",
        views=scenes.VIEWS,
        objectives=PAIRS,
        stages=STAGES,
    ),
    "protoclip": scenes.ARMS["protoclip"],
    "whole": masks.ARMS["whole"],
    "half-random": masks.ARMS["random"],
    "half-attentive": masks.ARMS["attentive"],
    "aclip": aclip("A-CLIP: half by attention, SimCLR, BYOL."),
    "aclip-efficient": aclip("The same, its slow copy at half the resolution.", size=32),
    "slip-protoclip": added(
        scenes.ARMS["slip"] | {"episode": {"samples": 6400}},
        "Prototypes on top of SLIP.",
        prototypes=scenes.PROTOTYPES,
    ),
    "siglip-declip": scenes.arm(
        "Sigmoid pairs with SimSiam, masked words, neighbours.",
        views=scenes.VIEWS,
        objectives={
            "contrastive": None,
            "sigmoid": {"weight": 1, "bias": -10, "positives": "caption"},
            "simsiam": {"weight": 0.5, "hidden": 256, "bottleneck": 64},
            "masked_text": {"weight": 0.5},
            "neighbours": {"weight": 0.5, "texts": ["caption"], "size": 8192},
        },
        model=masks.BASE["model"] | {"scale": 10},
    ),
    "aclip-neighbours": added(
        masks.ARMS["attentive"],
        "A-CLIP's patches with neighbours and masked words.",
        multiview={"weight": 0.6, **KEPT, "positives": "caption"},
        neighbours={"weight": 0.2, **KEPT, "size": 8192},
        masked_text={"weight": 0.2},
    ),
}
FAMILIES = {  # arm whose rate is chosen: arms that take it
    "clip-one": ["clip-one", "filip", "maskclip", "whole"],
    "declip": ["declip", "defilip"],
    "at-once": ["at-once", "two-stage"],
    "protoclip": ["protoclip"],
    "half-random": ["half-random", "half-attentive"],
    "aclip": ["aclip", "aclip-efficient", "aclip-neighbours"],
    "slip-protoclip": ["slip-protoclip"],
    "siglip-declip": ["siglip-declip"],
}
QUESTIONS: dict[str, tuple[str, list[str]]] = {  # question -> reference, arms
    "against CLIP": (
        "clip-one",
        ["filip", "maskclip", "declip", "protoclip", "slip-protoclip", "siglip-declip"],
    ),
    "word to patch beside DeCLIP": ("declip", ["defilip"]),
    "each encoder by itself first": ("at-once", ["two-stage"]),
    "two stages against CLIP": ("clip-one", ["two-stage", "at-once"]),
    "against CLIP with A-CLIP's view": (
        "whole",
        ["half-random", "half-attentive", "aclip", "aclip-efficient", "aclip-neighbours"],
    ),
    "attention against chance": ("half-random", ["half-attentive", "aclip"]),
}


def main() -> None:
    """Compose, choose rates, train what is missing, then ask each question of the same runs."""
    chosen = options(__doc__ or "", "../scenes-methods", seeds=3, samples=128_000, jobs=8)
    protocol = scenes.HERE / "protocols" / "scenes.yaml"
    compose(
        emoji_data(),
        plan=scenes.HERE / "protocols" / "scenes_plan.yaml",
        out=scenes.RUNS / "scenes" / "data",
        scenes=masks.SCENES,
    )
    tried = dict.fromkeys(FAMILIES, RATES)
    rates = best_rates(
        tried, lambda name, rate: at(ARMS[name], rate), chosen, samples=chosen.samples // 2, protocol=protocol
    )
    of = {arm: rates[family]["rate"] for family, arms in FAMILIES.items() for arm in arms}
    files = written(
        {name: at(content, of[name]) for name, content in ARMS.items()},
        scenes.RUNS / f"{chosen.json.stem}-arms",
    )
    shared: dict[str, Any] = {"samples": chosen.samples, "protocol": protocol, "clock": "wall"}
    found = compared(list(files.values()), chosen, reference="clip-one", is_record=False, **shared)
    answers = questions(QUESTIONS, files, chosen, **shared)
    more = {"rates": rates, "devices": devices(chosen.json.stem), "environment": environment()}
    write_json(chosen.json, found | more | {"questions": answers})


if __name__ == "__main__":
    main()
