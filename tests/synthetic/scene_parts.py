"""Cut-outs for tests of scenes: coloured shapes on white, with names, two styles and families."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import open_data
from frugalclip.synthetic.composing import Composer, Scene
from frugalclip.synthetic.cutouts import Cutouts, choose_cutouts, with_pixels
from frugalclip.synthetic.plan import ScenePlan
from frugalclip.synthetic.planting import assign

NAMES = (
    *(
        "cat",
        "dog",
        "horse",
        "apple",
        "bus",
        "clock",
        "umbrella",
        "tree",
        "hammer",
        "fish",
        "glasses",
        "no entry",
        "man with white cane",
        "bread",
    ),
    *(
        "ear of corn",
        "skis",
        "unicorn",
        "leaf",
        "mouse",
        "person surfing",
        "house",
        "drum",
        "kite",
        "anchor",
        "box",
        "knife",
        "scarf",
        "left arrow",
    ),
)
STYLES = ("flat", "line")


def write_cutouts(folder: Path) -> Path:
    """Pictures of 24 pixels and a JSON lines table that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(NAMES):
        for style in STYLES:
            image = Image.new("RGB", (24, 24), "white")
            draw = ImageDraw.Draw(image)
            hue = tuple(int(value) for value in np.random.default_rng(number).integers(0, 200, 3))
            shape = (4 + number % 4, 3, 20, 20 - number % 5)
            getattr(draw, ("ellipse", "rectangle")[number % 2])(
                shape, fill=hue if style == "flat" else "white", outline=hue, width=2
            )
            file = f"{style}-{number}.png"
            image.save(folder / file)
            rows.append(
                {
                    "image": file,
                    "caption": name,
                    "id": f"{style}-{number}",
                    "concept": f"c{number}",
                    "style": style,
                    "family": f"f{number // 2}",
                }
            )
    (folder / "cutouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def chosen(manifest: Manifest, **settings: Any) -> tuple[ScenePlan, Cutouts]:
    plan = ScenePlan.model_validate(settings)
    return plan, with_pixels(choose_cutouts(manifest, plan), manifest, plan)


def composer(manifest: Manifest, *, count: int = 100, **settings: Any) -> Composer:
    plan, cutouts = chosen(manifest, **settings)
    return Composer(plan, cutouts, assign(plan, count))


def scenes(manifest: Manifest, count: int, **settings: Any) -> list[Scene]:
    maker = composer(manifest, count=count, **settings)
    return [maker.scene(number) for number in range(count)]


def rows(manifest: Manifest, count: int, **settings: Any) -> list[dict[str, Any]]:
    return [scene.row for scene in scenes(manifest, count, **settings)]


@cache
def manifest_at(folder: Path) -> Manifest:
    return open_data(write_cutouts(folder))
