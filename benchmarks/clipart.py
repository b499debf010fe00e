"""The recipes of benchmarks/signals.py on a real crawl: 5,185 drawings with captions and keywords.

Screened with three seeds. Expected before the runs: the order of the emoji pack at smaller differences, since
near duplicates and names of themes fill the batches; `frugal` first, since it also reads the keywords.
Finished trials are not trained again.
Run: FRUGALCLIP_PACKS=... python benchmarks/clipart.py [--seeds 3] [--samples 16000] [--jobs 2]
"""

import copy
from pathlib import Path
from typing import Any

from _common import compared, options, written
from signals import ARMS, COMPARISONS, SAME, questions

from frugalclip.core.records import write_json
from frugalclip.core.yaml_text import read_yaml

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs"
OWN = ("default", "frugal")  # of benchmarks/arms
KEPT = ("clip-moco", "declip", "clip-two", "slip-two", "clip-proto", "protoclip")


def without_concepts(content: Any) -> Any:
    """An arm for data with captions and no concepts: rows with equal captions are positives."""
    if isinstance(content, dict):
        return {key: without_concepts(value) for key, value in content.items()}
    return ["caption"] if content == SAME else copy.deepcopy(content)


def main() -> None:
    """Train what is missing and write the record."""
    chosen = options(__doc__ or "", "../clipart", seeds=3, samples=16_000, jobs=2)
    contents = {name: read_yaml(HERE / "arms" / f"{name}.yaml") for name in OWN} | {
        name: ARMS[name] for name in KEPT
    }
    files = written(
        {name: without_concepts(content) for name, content in contents.items()}, RUNS / "clipart-arms"
    )
    shared: dict[str, Any] = {"samples": chosen.samples, "protocol": HERE / "protocols" / "clipart.yaml"}
    found = compared(list(files.values()), chosen, reference="default", is_record=False, **shared)
    comparisons = {
        question: (reference, [arm for arm in others if arm in KEPT])
        for question, (reference, others) in COMPARISONS.items()
    }
    comparisons = {
        question: (reference, others)
        for question, (reference, others) in comparisons.items()
        if others and reference in KEPT
    }
    write_json(chosen.json, found | {"questions": questions(comparisons, files, chosen, **shared)})


if __name__ == "__main__":
    main()
