"""The published sums of objectives, small and in float64, and a batch that has everything they read."""

from typing import Any

import torch

from frugalclip.core.types import Batch, Needs, Tokens
from frugalclip.teachers import EmaTeacher, Teacher, TeacherRequest, request_of, teacher_of
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.training.recipe import validate_recipe
from frugalclip.training.step import Step, build_objectives, union_of_needs

VOCABULARY, CONTEXT = 100, 8
MODEL: dict[str, Any] = {
    "image": {"width": 32, "depth": 2, "head_dim": 16, "patch": 4, "resolution": 16},
    "text": {"width": 32, "depth": 1, "head_dim": 16, "attention": "bidirectional"},
    "dim": 16,
}
KEPT = {"images": ["main@kept", "second@kept"], "texts": ["caption"]}
HEAD = {"hidden": 24, "out": 12}
ALONE: dict[str, dict[str, Any]] = {  # sums that leave a tower, a projection or the scale without a gradient
    "simclr alone": {"simclr": {"first": "second", "second": "main", **HEAD}},
    "byol alone": {"byol": {"images": ["main", "second"], "target": "around", **HEAD}},
    "simsiam alone": {"simsiam": {"hidden": 24, "bottleneck": 8}},
    "masked_text alone": {"masked_text": {"probability": 0.4}},
    "token_wise alone": {"token_wise": {"out": 12, "chunk": 3}},
    "prototypes alone": {"prototypes": {"number": 4, "hidden": 24, "out": 12, "steps": 5}},
    "attentive_mask alone": {"attentive_mask": {"block": 2}, "byol": {"images": ["main@kept"], **HEAD}},
    "masked_distillation alone": {"masked_distillation": {"codes": 20, "hidden": 0.5}},
    "captioning alone": {"captioning": {"codes": 12, "reseed_after": 2, "depth": 1, "heads": 2}},
    "sigmoid alone": {"sigmoid": {"bias": -5}},
    "by turns": {
        "simclr": {"first": "second", "second": "main", "during": [0, 0.4], **HEAD},
        "masked_text": {"during": [0.4, 0.7]},
        "contrastive": {"during": [0.6, 1]},
    },
}
SUMS: dict[str, dict[str, Any]] = {
    "slip": {"contrastive": {}, "simclr": {"first": "second", "second": "main", **HEAD}},
    "declip": {
        "multiview": {"weight": 0.4, "texts": ["caption@masked", "augmented"], "positives": "caption"},
        "simsiam": {"weight": 0.2, "hidden": 24, "bottleneck": 8},
        "masked_text": {"weight": 0.2, "probability": 0.4},
        "neighbours": {
            "weight": 0.2,
            "texts": ["caption@masked", "augmented"],
            "size": 50,
            "symmetric": True,
        },
    },
    "aclip": {
        "attentive_mask": {"block": 2},
        "multiview": KEPT,
        "simclr": {"first": "main@kept", "second": "second@kept", "views": "together", **HEAD},
        "byol": {"weight": 2, "images": ["main@kept", "second@kept"], "target": "around", **HEAD},
    },
    "protoclip": {"contrastive": {}, "prototypes": {"number": 4, "hidden": 24, "out": 12, "steps": 5}},
    "protoclip, reused": {
        "contrastive": {},
        "prototypes": {"number": 4, "hidden": 24, "out": 12, "steps": 5, "features": "reuse"},
    },
    "filip": {"contrastive": {}, "token_wise": {"out": 12, "chunk": 3}},
    "facets": {"contrastive": {}, "facets": {"bias": -5}},
    "facets, place by place": {"contrastive": {}, "facets": {"loss": "contrastive"}},
    "lexical": {
        "contrastive": {},
        "lexical": {"penalty": {"kind": "flops", "image": 3, "text": 2, "ramp": 2}},
    },
    "tinyclip": {"affinity": {"alpha": 0.7, "scales": [30.0], "texts": ["caption"]}},
    "maskclip": {"contrastive": {}, "masked_distillation": {"codes": 20, "hidden": 0.5}},
}


def whole_batch(rows: int = 16, *, turn: int = 0) -> Batch:
    """Random pictures and captions, some captions twice; every turn shows the same rows otherwise."""
    draw = torch.Generator().manual_seed(turn)

    def texts() -> Tokens:
        return Tokens(
            torch.randint(4, 90, (rows, CONTEXT), generator=draw),
            torch.randint(3, CONTEXT + 1, (rows,), generator=draw),
        )

    images = {
        name: torch.randn(rows, 3, 16, 16, generator=draw, dtype=torch.float64)
        for name in ("main", "second", "around")
    }
    inside = torch.tensor([[4.0, 6.0, 20.0, 24.0], [8.0, 2.0, 22.0, 20.0]])
    boxes = {
        "main": inside[0].expand(rows, 4),
        "second": inside[1].expand(rows, 4),
        "around": torch.tensor([0.0, 0.0, 40.0, 40.0]).expand(rows, 4),
    }
    fields = {"caption": torch.arange(rows) % (rows - 3), "id": torch.arange(rows) * 7 - 20}
    return Batch(
        torch.arange(rows),
        images,
        {"caption": texts(), "augmented": texts()},
        boxes=boxes,
        fields=fields,
        turns=torch.full((rows,), turn),
    )


def shortest(texts: Tokens) -> Tokens:
    """The same captions without columns that hold padding alone."""
    return Tokens(texts.ids[:, : int(texts.lengths.max())], texts.lengths)


def part(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch, with captions padded to the longest among them, as a loader pads them."""
    texts = {name: shortest(Tokens(one.ids[rows], one.lengths[rows])) for name, one in batch.texts.items()}
    groups = {
        key: {name: tensor[rows] for name, tensor in getattr(batch, key).items()}
        for key in ("images", "boxes", "fields")
    }
    return Batch(
        batch.rows[rows], texts=texts, turns=None if batch.turns is None else batch.turns[rows], **groups
    )


def full_step(objectives: dict[str, Any], *, batch: int = 16) -> Step:
    """A step in float64 with the teachers that its objectives read."""
    recipe = validate_recipe(
        {"model": MODEL, "objectives": objectives, "batch": batch, "steps": 10, "episode": {"samples": batch}}
    )
    network = DualEncoder(ModelConfig.model_validate(MODEL), vocabulary=VOCABULARY, context=CONTEXT)
    built = build_objectives(
        recipe.objectives, network.dims(batch=batch, **recipe.run_dims(mask=3, samples=batch)), seed=0
    )
    return Step(network, built, teachers=averages(union_of_needs(built.values()), network)).double()


def averages(needs: Needs, network: DualEncoder) -> dict[str, Teacher]:
    """An average of the student for every teacher that is named."""
    requested: dict[str, TeacherRequest] = {
        teacher_of(name): request_of(teacher_of(name), needs, texts=["caption"]) for name in needs.teachers
    }
    return {name: EmaTeacher(one, network, momentum=(0.9, 1.0)) for name, one in requested.items()}
