"""Draw small pictures with captions for the examples, so that nothing has to be downloaded."""

import random
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {"red": (210, 40, 40), "green": (40, 160, 60), "blue": (40, 70, 210), "yellow": (230, 200, 40)}
SHAPES = ("disc", "square", "cross")


def drawings(count: int, *, seed: int = 0) -> Iterator[tuple[Image.Image, str]]:
    """Pictures of one shape each, with captions such as `a red disc`."""
    draw = random.Random(seed)
    for i in range(count):
        colour, shape = list(COLOURS)[i % 4], SHAPES[i // 4 % 3]
        image = Image.new("RGB", (48, 48), "white")
        left, top, side = draw.randint(4, 14), draw.randint(4, 14), draw.randint(20, 28)
        box, pen = (left, top, left + side, top + side), ImageDraw.Draw(image)
        if shape == "disc":
            pen.ellipse(box, fill=COLOURS[colour])
        elif shape == "square":
            pen.rectangle(box, fill=COLOURS[colour])
        else:
            pen.line(box, fill=COLOURS[colour], width=6)
            pen.line((left, top + side, left + side, top), fill=COLOURS[colour], width=6)
        yield image, f"a {colour} {shape}"


def draw_folder(folder: Path, count: int = 96, *, seed: int = 0) -> list[Path]:
    """Write pictures with `.txt` captions beside them, and give the pictures' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, (image, caption) in enumerate(drawings(count, seed=seed)):
        path = folder / f"{i:03d}.png"
        image.save(path)
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
        paths.append(path)
    return paths
