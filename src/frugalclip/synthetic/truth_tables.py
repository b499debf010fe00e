"""Tables of what is true of composed scenes: counts of concepts, planted faults, and all cut-outs."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from frugalclip.synthetic.cutouts import Cutouts, concept_weights
from frugalclip.synthetic.plan import ScenePlan

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers

CUTOUTS = "cutouts.parquet"


def write_concepts(folder: Path, scenes: pa.Table, plan: ScenePlan, chosen: Cutouts) -> None:
    """Write `concepts.parquet`: how often each concept was wanted, is shown and is mentioned."""
    objects, shown, mentions = Counter[str](), Counter[str](), Counter[str]()
    for placed, captions in zip(scenes["objects"].to_pylist(), scenes["mentions"].to_pylist(), strict=True):
        objects.update(one["concept"] for one in placed)
        shown.update({one["concept"] for one in placed})
        for caption in captions:
            mentions.update({placed[place]["concept"] for place in caption})
    weights = concept_weights(chosen.items, plan)
    first = {item.concept: item for item in reversed(chosen.items)}
    rows = [
        {
            "concept": concept,
            "name": item.name,
            "family": item.family,
            "split": item.split,
            "weight": weights[concept],
            "objects": objects[concept],
            "scenes": shown[concept],
            "captions": mentions[concept],
        }
        for concept, item in sorted(first.items(), key=lambda pair: (-objects[pair[0]], pair[0]))
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "concepts.parquet")


def write_planted(folder: Path, scenes: pa.Table) -> None:
    """Write `planted.parquet`: a row a planted fault."""
    columns = ["id", "split", "planted", "planted_from", "planted_detail"]
    faulty = scenes.select(columns).filter(pc.is_valid(scenes["planted"]))
    table = faulty.rename_columns(["id", "split", "planted", "from", "detail"])
    pq.write_table(table, folder / "planted.parquet")


def write_cutouts(folder: Path, cutouts: Cutouts) -> None:
    """Write `cutouts.parquet`: a row a cut-out, with the reason where it was left out."""
    kept = [
        {
            "id": item.id,
            "status": "kept",
            "concept": item.concept,
            "style": item.style,
            "split": item.split,
        }
        for item in cutouts.items
    ]
    dropped = [
        {"id": one.id, "status": "dropped", "reason": one.reason, "detail": one.detail}
        for one in cutouts.left_out
    ]
    names = ["id", "status", "reason", "detail", "concept", "style", "split"]
    schema = pa.schema([(name, pa.string()) for name in names])
    pq.write_table(pa.Table.from_pylist([*kept, *dropped], schema=schema), folder / CUTOUTS)


def cutout_counts(folder: Path) -> tuple[int, dict[str, int]]:
    """How many cut-outs are kept, and reason -> how many are left out, the most frequent first."""
    table = pq.read_table(folder / CUTOUTS, columns=["status", "reason"])
    reasons = Counter(reason for reason in table["reason"].to_pylist() if reason)
    return table["status"].to_pylist().count("kept"), dict(reasons.most_common())
