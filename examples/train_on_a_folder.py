"""Train on a folder of pictures with captions, and evaluate on another one."""

import tempfile
from pathlib import Path

from shapes import draw_folder

import frugalclip


def main(folder: Path) -> None:
    # 1. Data: a folder of pictures with .txt files beside them.
    draw_folder(folder / "train", 96, seed=1)
    draw_folder(folder / "test", 24, seed=2)

    # 2. Train. Overrides are the words of the command line.
    overrides = [f"data={folder / 'train'}", "batch=32", "steps=30", "threads=1"]
    result = frugalclip.train("clip-small", overrides, out=folder / "run")
    print(f"trained {result.steps} steps")

    # 3. Evaluate on pictures that were not trained on.
    found = frugalclip.evaluate(folder / "run", data=folder / "test", task="zeroshot")
    print(f"top 1: {found['metrics']['top1']:.1f} %, chance: {found['chance']['top1']:.1f} %")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
