"""Train with an objective of one's own: `my_objectives/uniformity.py` and three lines of recipe."""

import json
import tempfile
from pathlib import Path

from shapes import draw_folder

import frugalclip

RECIPE = """
extends: clip-small
objectives:
  uniformity: {kind: my_objectives.uniformity, weight: 0.1, sharpness: 2}
"""


def main(folder: Path) -> None:
    # 1. Data: a folder of pictures with .txt files beside them.
    draw_folder(folder / "train", 96, seed=1)
    recipe = folder / "mine.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")

    # 2. Train. The new term is logged beside the others.
    overrides = [f"data={folder / 'train'}", "batch=32", "steps=10", "threads=1"]
    result = frugalclip.train(str(recipe), overrides, out=folder / "run")
    print(f"trained {result.steps} steps")

    # 3. See the term fall.
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    first, last = (row["uniformity/loss"] for row in (rows[0], rows[-1]))
    print(f"uniformity {first:.2f} -> {last:.2f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
