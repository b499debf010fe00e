"""Claim: pictures that were changed and put into a test set are found again, at least 95 % of each kind.

Photographs, clip art and emoji of the sample are the training set. The test set has each of them as a JPEG of
quality 60, at half size, turned by 90 and 180 degrees, mirrored, with 5 % cropped off two sides, and turned
and saved as JPEG. Pairs of different pictures are counted too; the sample has a few true copies.
Run: python benchmarks/leakage.py [--photos 80] [--drawings 60]
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import options, record
from PIL import Image

from frugalclip.curation.leakage import image_leaks, measured_images
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import open_data

TURN = Image.Transpose
Change = Callable[[Image.Image], Image.Image]
CHANGES: dict[str, tuple[Change, str]] = {
    "jpeg of quality 60": (lambda image: image, "JPEG"),
    "half size": (lambda image: image.resize((max(image.width // 2, 8), max(image.height // 2, 8))), "PNG"),
    "turned by 90": (lambda image: image.transpose(TURN.ROTATE_90), "PNG"),
    "turned by 180": (lambda image: image.transpose(TURN.ROTATE_180), "PNG"),
    "mirrored": (lambda image: image.transpose(TURN.FLIP_LEFT_RIGHT), "PNG"),
    "5 % cropped": (
        lambda image: image.crop(
            (round(image.width * 0.05), round(image.height * 0.05), image.width, image.height)
        ),
        "PNG",
    ),
    "turned by 90, jpeg": (lambda image: image.transpose(TURN.ROTATE_90), "JPEG"),
}


def chosen_rows(sample: Manifest, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Rows of each style, drawn by seed; flags are alike by nature and stay out."""
    styles, flags = np.array(sample.field("style")), np.array(sample.field("is_flag"), dtype=object)
    random = np.random.default_rng(0)
    return {
        style: random.permutation(np.flatnonzero((styles == style) & (flags != True)))[:size]  # noqa: E712
        for style, size in sizes.items()
    }


def write_sides(sample: Manifest, rows: np.ndarray, folder: Path) -> tuple[Manifest, Manifest]:
    """The training set, and the test set with every change of every picture."""
    train, test, reader = folder / "train", folder / "test", ImageReader(sample)
    for place in (train, test):
        place.mkdir()
    for row in rows.tolist():
        image = reader.image(row).convert("RGB")
        image.save(train / f"{row}.png")
        (train / f"{row}.txt").write_text("x")
        for number, (change, kind) in enumerate(CHANGES.values()):
            change(image).save(test / f"{number}-{row}.{kind.lower()}", kind, quality=60)
            (test / f"{number}-{row}.txt").write_text("x")
    return open_data(train), open_data(test)


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__ or "", "leakage", photos=80, drawings=60)
    sample = open_data("sample")
    sizes = {"photo": chosen.photos, "clipart": chosen.drawings, "twemoji": chosen.drawings}
    rows = chosen_rows(sample, sizes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = write_sides(sample, np.concatenate(list(rows.values())), folder)
        sides = [measured_images(one, folder / "measures") for one in (train, test)]
        leaks = image_leaks(sides[0], sides[1])
    pairs = [(train.ids[leak.train], *test.ids[leak.test].split("-")) for leak in leaks]
    found = {(number, row) for own, number, row in pairs if own == row}
    wrong = {tuple(sorted((own, row))) for own, _, row in pairs if own != row}
    content: dict[str, Any] = {"recall": {}, "pictures": sizes, "pairs_of_different_pictures": len(wrong)}
    for number, change in enumerate(CHANGES):
        content["recall"][change] = {
            style: float(np.mean([(str(number), str(row)) in found for row in own.tolist()]))
            for style, own in rows.items()
        }
        print(change, content["recall"][change])
    least = min(
        float(np.average(list(one.values()), weights=list(sizes.values())))
        for one in content["recall"].values()
    )
    record(chosen.json, content, [("recall of the worst kind", least, 0.95, "at least")])


if __name__ == "__main__":
    main()
