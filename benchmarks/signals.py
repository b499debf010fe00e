"""Every supervision signal in a pair on the emoji pack: DeCLIP and each of its terms, SLIP, ProtoCLIP.

An arm differs in one thing from the arm that it is compared with, and CLIP has the views of each method.
Expected before the runs: DeCLIP above CLIP with its views, most of it from several views, least from
neighbours (captions of two words have few near ones); SLIP above the same two views without SimCLR on probes,
not on names; ProtoCLIP with tighter clusters than CLIP, its two forms alike at this size. Three styles are
held out in turn, 16,000 samples a run. Finished trials are not trained again.
Run: FRUGALCLIP_PACKS=... python benchmarks/signals.py [--seeds 3] [--samples 16000] [--jobs 2]
"""

import argparse
import copy
import os
from pathlib import Path
from typing import Any

from _common import compared, emoji_data, options, written

from frugalclip.core.records import write_json
from frugalclip.verbs.embed import embed

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs"
SENTENCES = (
    RUNS / "signals-sentences"
)  # MiniLM's vectors of all names, the teacher of ProtoCLIP's third clustering
SAME = ["concept", "caption"]
TEXTS = {"caption": {"fields": ["keywords?"], "lists": "each", "field_probability": 0.15}}
BASE: dict[str, Any] = {
    "extends": "clip-small",
    "model": {
        "image": {"resolution": 24},
        "text": {"kind": "transformer", "size": "nano", "attention": "bidirectional", "pool": "mean"},
    },
    "texts": TEXTS,
    "objectives": {"contrastive": {"positives": SAME}},
    "epochs": None,
    "samples": 16_000,
}


def arm(
    description: str, *, views: dict[str, Any], objectives: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """An arm file: the base with other views and objectives.

    Contrastive is removed where another objective contrasts images with texts.
    """
    content = copy.deepcopy(BASE) | {"description": description, "views": views} | more
    if objectives is not None:
        content["objectives"] = (
            {"contrastive": None, **objectives}
            if "multiview" in objectives
            else content["objectives"] | objectives
        )
    return content


def declip_terms(
    without: str | None,
    *,
    positives: Any,
    texts: dict[str, Any],
    hidden: int,
    bottleneck: int,
    queue: int = 4096,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """DeCLIP's objectives and text views, with its five terms or without one of them.

    Args:
        without: `first pair`, `several views`, `SimSiam`, `masked text`, `neighbours`, or None.
        positives: rows that agree in it are each other's positives.
        texts: the text views besides the changed caption.
        hidden: width of SimSiam's head.
        bottleneck: of its predictor.
        queue: captions among which neighbours are searched.
    """
    caption = "caption" if without == "masked text" else "caption@masked"
    pairs: dict[str, Any] = {"images": ["main", "second"], "texts": [caption, "augmented"]}
    if without == "several views":
        pairs = {"images": ["main"], "texts": [caption]}
    weights = {"first pair": [[0, 1 / 3], [1 / 3, 1 / 3]]}
    objectives: dict[str, Any] = {
        "multiview": {"weight": 0.4, **pairs, "positives": positives}
        | ({"weights": weights[without]} if without in weights else {}),
        "simsiam": {"weight": 0.2, "hidden": hidden, "bottleneck": bottleneck},
        "masked_text": {"weight": 0.2},
        "neighbours": {"weight": 0.2, **pairs, "size": queue},
    }
    gone = {"SimSiam": "simsiam", "masked text": "masked_text", "neighbours": "neighbours"}.get(without or "")
    changed = (
        {}
        if without == "several views"
        else {"augmented": {"of": "caption", "augment": {"operations": ["swap", "delete"]}}}
    )
    return {name: settings for name, settings in objectives.items() if name != gone}, texts | changed


def declip(description: str, *, without: str | None = None) -> dict[str, Any]:
    """DeCLIP with its five terms, or with one of them left out and the others as they are."""
    objectives, texts = declip_terms(without, positives=SAME, texts=TEXTS, hidden=512, bottleneck=128)
    return arm(description, views={"main": "moco", "second": "moco"}, objectives=objectives, texts=texts)


def protoclip(description: str, **settings: Any) -> dict[str, Any]:
    """ProtoCLIP under its own views."""
    prototypes = {"weight": 1, "hidden": 512, "out": 128, "number": 200, "during": [0.05, 1], **settings}
    more: dict[str, Any] = {"episode": {"samples": 2048}}
    if "external" in settings:
        more["teachers"] = {"sentences": {"from": os.path.relpath(SENTENCES)}}
    return arm(description, views={"main": "protoclip"}, objectives={"prototypes": prototypes}, **more)


DECLIP: dict[str, tuple[str, str | None]] = {  # arm: description, what is left out
    "declip": ("DeCLIP, five terms.", None),
    "declip-first": ("DeCLIP without the first pair of its four: CLIP's own.", "first pair"),
    "declip-views": ("DeCLIP without several views: one pair of four.", "several views"),
    "declip-simsiam": ("DeCLIP without SimSiam.", "SimSiam"),
    "declip-masked": ("DeCLIP without masked text.", "masked text"),
    "declip-neighbours": ("DeCLIP without neighbours.", "neighbours"),
}
TWO: dict[str, Any] = {"images": ["main", "second"], "texts": ["caption"], "positives": SAME}
SIMCLR = {"weight": 1, "first": "main", "second": "second", "hidden": 512, "out": 128}
ARMS: dict[str, dict[str, Any]] = {
    "clip-moco": arm("CLIP with one of DeCLIP's views.", views={"main": "moco"}),
    **{name: declip(words, without=term) for name, (words, term) in DECLIP.items()},
    "clip-two": arm(
        "CLIP with two views of SLIP's kind.",
        views={"main": "slip", "second": "slip"},
        objectives={"multiview": TWO},
    ),
    "slip-two": arm(
        "The same with SimCLR between them.",
        views={"main": "slip", "second": "slip"},
        objectives={"multiview": TWO, "simclr": SIMCLR},
    ),
    "clip-proto": arm("CLIP with ProtoCLIP's view.", views={"main": "protoclip"}),
    "protoclip": protoclip("ProtoCLIP with back translation."),
    "protoclip-plain": protoclip("ProtoCLIP without back translation.", back_translation=False),
    "protoclip-teacher": protoclip(
        "ProtoCLIP with sentence vectors as a third clustering.", external="sentences"
    ),
}
COMPARISONS: dict[str, tuple[str, list[str]]] = {  # question -> reference, arms
    "DeCLIP against CLIP with its views": ("clip-moco", ["declip"]),
    "DeCLIP without one of its terms": (
        "declip",
        ["declip-first", "declip-views", "declip-simsiam", "declip-masked", "declip-neighbours"],
    ),
    "SimCLR between two views, both contrasted with the caption": ("clip-two", ["slip-two"]),
    "ProtoCLIP against CLIP with its view": (
        "clip-proto",
        ["protoclip", "protoclip-plain", "protoclip-teacher"],
    ),
    "back translation and the external teacher": ("protoclip-plain", ["protoclip", "protoclip-teacher"]),
}


def questions(
    comparisons: dict[str, tuple[str, list[str]]],
    files: dict[str, Path],
    chosen: argparse.Namespace,
    **shared: Any,
) -> dict[str, dict[str, Any]]:
    """Answer each question from finished runs: paired tests against its own reference, and times.

    Args:
        comparisons: question -> reference and arms.
        files: of the arms.
        chosen: the command line.
        shared: further arguments of `compared`.
    """
    answers = {}
    for question, (reference, others) in comparisons.items():
        found = compared(
            [files[name] for name in (reference, *others)],
            chosen,
            reference=reference,
            is_record=False,
            **shared,
        )
        curves = found["curves"]["arms"]
        answers[question] = {
            "reference": reference,
            "tests": found["tests"],
            "answer": found["answer"],
            "reach": {name: curves[name]["reach"] for name in others},
            "above": {
                name: {axis: curves[name][f"points_above_{axis}"] for axis in ("samples", "seconds")}
                for name in others
            },
        }
    return answers


def main() -> None:
    """Train what is missing, then ask each question of the same runs."""
    chosen = options(__doc__ or "", "../signals", seeds=3, samples=16_000, jobs=2)
    if not (SENTENCES / "store.json").is_file():
        embed("package:minilm", emoji_data(), out=SENTENCES)
    files = written(ARMS, RUNS / "signals-arms")
    found = compared(
        list(files.values()), chosen, reference="clip-moco", samples=chosen.samples, is_record=False
    )
    write_json(
        chosen.json, found | {"questions": questions(COMPARISONS, files, chosen, samples=chosen.samples)}
    )


if __name__ == "__main__":
    main()
