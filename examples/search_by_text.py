"""Search pictures by text in ten lines."""

import tempfile
from pathlib import Path

from shapes import draw_folder

import frugalclip


def main(folder: Path) -> None:
    # 1. Data: any paths of pictures.
    paths = draw_folder(folder / "train", 96, seed=1)

    # 2. Train, or take any model that you have.
    overrides = [f"data={folder / 'train'}", "batch=32", "steps=60", "threads=1"]
    result = frugalclip.train("clip-small", overrides, out=folder / "run")
    print(f"trained {result.steps} steps")

    # 3. Search.
    model = frugalclip.load(folder / "run")
    images = model.encode_image(paths)  # (pictures, dim) unit vectors
    for query in ("a red disc", "a blue cross"):
        scores = images @ model.encode_text(query)[0]
        best = scores.argsort(descending=True)[:3].tolist()
        print(query, "->", ", ".join(paths[row].with_suffix(".txt").read_text() for row in best))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
