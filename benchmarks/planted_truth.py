"""Claim: curation finds what was planted: duplicates, leaks into a test set, and captions that were swapped.

Of a pack, a fifth of the rows is the test set. Planted into the others: 2 % copies byte for byte, 5 % near
duplicates (JPEG of quality 60 to 90, smaller, or cropped by up to 5 %), for each kind of leak 2 % of changed
test images (at least 20), and 30 % of the captions swapped. Pairs of one `component` and pictures of equal
pixels are left out of precision: who drops them is right.
Swapped captions are scored by the stage `lemon` without a MODEL: hand-made features, words, and heads in
closed form that never see what they score. The baseline is the cosine of heads that are fitted to every pair.
Run: FRUGALCLIP_PACKS=DIR python benchmarks/planted_truth.py [--pack emoji-noto] [--seed 0]
"""

import argparse
import io
import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from _common import RESULTS, record
from PIL import Image

import frugalclip
from frugalclip.auditing.noise import FOLDS, cross_fitted_cosines, folds_of
from frugalclip.auditing.pair_features import plain_features
from frugalclip.auditing.words import WordForms
from frugalclip.curation.outputs import Summary
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import read_sources

EXACT, NEAR, LEAK, SWAPPED, TEST = 0.02, 0.05, 0.02, 0.3, 0.2
LEAST_LEAKS = 20
PLAN = """
stages:
  - stage: exact_images
  - stage: near_images
  - {stage: decontaminate, against: exam}
"""
Change = Callable[[Image.Image, random.Random], bytes]


def saved(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smaller(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((max(round(image.width * factor), 1), max(round(image.height * factor), 1)))


def cropped(image: Image.Image, draw: random.Random, share: float = 0.05) -> Image.Image:
    """The image without 5 % of its width and height, at one side, the other or both."""
    across, down = (draw.choice((0.0, 0.5, 1.0)) * share for _ in range(2))
    low = round(across * image.width), round(down * image.height)
    cut = round(share * image.width), round(share * image.height)
    return image.crop((*low, image.width - cut[0] + low[0], image.height - cut[1] + low[1]))


NEAR_KINDS: dict[str, Change] = {
    "JPEG": lambda image, draw: saved(image, "JPEG", quality=draw.randrange(60, 91)),
    "smaller": lambda image, draw: saved(smaller(image, draw.uniform(0.5, 0.9))),
    "cropped": lambda image, draw: saved(cropped(image, draw, draw.uniform(0.02, 0.05))),
}
LEAK_KINDS: dict[str, Change] = {
    "JPEG of quality 60": lambda image, _: saved(image, "JPEG", quality=60),
    "half size": lambda image, _: saved(smaller(image, 0.5)),
    "quarter turn": lambda image, draw: saved(
        image.transpose(draw.choice((Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)))
    ),
    "mirror": lambda image, _: saved(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "5 % crop": lambda image, draw: saved(cropped(image, draw)),
}


@dataclass
class Planted:
    """Where everything was planted."""

    origin: dict[str, str] = field(default_factory=dict)  # planted id -> id of the row that it repeats
    kind: dict[str, str] = field(default_factory=dict)  # planted id -> what was done
    component: dict[str, Any] = field(default_factory=dict)  # id -> component of its picture
    pixels: dict[str, bytes] = field(default_factory=dict)  # id -> pixels of the pack's picture


def plant(pack: Manifest, folder: Path, seed: int) -> Planted:
    """Write data and test set with everything planted in it, but swapped captions.

    Args:
        pack: rows to plant into.
        folder: gets `data/` and `exam/`.
        seed: of all draws.
    """
    draw, reader, planted = random.Random(seed), ImageReader(pack), Planted()
    rows = draw.sample(range(len(pack)), len(pack))
    tests, own = rows[: round(TEST * len(rows))], rows[round(TEST * len(rows)) :]
    captions = pack.captions()
    known = pack.field("component") if "component" in pack.table.column_names else pack.ids

    def write(part: str, name: str, data: bytes, row: int) -> None:
        (folder / part).mkdir(exist_ok=True)
        (folder / part / f"{name}.png").write_bytes(data)
        (folder / part / f"{name}.txt").write_text(" ".join(captions[row][:1]) or "none")
        planted.component[name] = known[row]
        planted.pixels[name] = np.asarray(reader.image(row)).tobytes()

    def change(row: int, make: Change, name: str, kind: str, origin: str) -> None:
        write("data", name, make(reader.image(row), draw), row)
        planted.kind[name], planted.origin[name] = kind, origin

    for row in own:
        write("data", f"own-{row:05d}", reader.bytes(row), row)
    for row in tests:
        write("exam", f"exam-{row:05d}", reader.bytes(row), row)
    repeated = draw.sample(own, round(EXACT * len(own)) + round(NEAR * len(own)))
    for place, row in enumerate(repeated):
        origin = f"own-{row:05d}"
        if place < round(EXACT * len(own)):
            change(row, lambda *_, row=row: reader.bytes(row), f"same-{row:05d}", "exact", origin)
        else:
            kind = list(NEAR_KINDS)[place % len(NEAR_KINDS)]
            name = f"{draw.choice(('a', 'z'))}-near-{row:05d}"  # before or behind its origin
            change(row, NEAR_KINDS[kind], name, kind, origin)
    for number, (kind, make) in enumerate(LEAK_KINDS.items()):
        for row in draw.sample(tests, min(max(round(LEAK * len(own)), LEAST_LEAKS), len(tests))):
            change(row, make, f"leak{number}-{row:05d}", kind, f"exam-{row:05d}")
    return planted


def swapped(pack: Manifest, folder: Path, seed: int) -> tuple[float, float]:
    """AUROC of the stage `lemon`, and of the cosine alone, for 30 % swapped captions."""
    draw, reader, captions = random.Random(seed), ImageReader(pack), pack.captions()
    rows = draw.sample(range(len(pack)), round(SWAPPED * len(pack)))
    source = dict(zip(rows, rows[1:] + rows[:1], strict=True))
    (folder / "pairs").mkdir()
    for row in range(len(pack)):
        (folder / "pairs" / f"{row:05d}.png").write_bytes(reader.bytes(row))
        text = captions[source.get(row, row)][:1]
        (folder / "pairs" / f"{row:05d}.txt").write_text(" ".join(text) or "none")
    (folder / "swapped.yaml").write_text("stages: [{stage: lemon, fraction: 0.7}]")
    frugalclip.curate(folder / "pairs", plan=folder / "swapped.yaml", out=folder / "scored", workers=1)
    scored = Manifest.read(folder / "scored" / "rows.parquet")
    is_wrong = [captions[source.get(int(id), int(id))] != captions[int(id)] for id in scored.ids]
    wrong = np.array(is_wrong)
    features = plain_features(scored, WordForms("en"))
    folds = folds_of(scored.codes("id").view(np.uint64)[features.rows], FOLDS, seed=0)
    cosine = np.full(len(scored), np.nan)
    cosine[features.rows] = np.nan_to_num(cross_fitted_cosines(features.images, features.texts, folds))
    return auroc(np.array(scored.field("lemon"), dtype=float), wrong), auroc(-cosine, wrong)


def auroc(scores: np.ndarray, is_wrong: np.ndarray) -> float:
    """How often a wrong row has a higher score than a right one."""
    known = np.isfinite(scores)
    right, wrong = np.sort(scores[known & ~is_wrong]), scores[known & is_wrong]
    below = np.searchsorted(right, wrong, "left") + np.searchsorted(right, wrong, "right")
    return float(below.mean() / (2 * len(right)))


def measured(planted: Planted, out: Path) -> dict[str, Any]:
    """What the stages found of it, from the ledger."""
    ledger = pq.read_table(out / "ledger.parquet").to_pylist()
    fates = {row["id"]: row for row in ledger}
    summary = Summary.read(out)
    sums = all(one.rows_in - one.rows_out == sum(one.dropped.values()) for one in summary.stages)
    kept = sum(row["fate"] == "kept" for row in ledger)
    gone = [row for row in ledger if row["stage"] in ("exact_images", "near_images")]

    def root(name: str) -> str:
        name = name.rpartition(":")[2]
        return planted.origin.get(name, name)

    def is_right(row: dict[str, Any]) -> bool | None:
        one, other = root(row["id"]), root(row["keeper"])
        if one == other:
            return True
        same = planted.component[one] == planted.component[other]
        return None if same or planted.pixels[one] == planted.pixels[other] else False

    def is_found(name: str) -> bool:
        pair = {name, planted.origin[name]}
        return any(fates[one]["fate"] == "dropped" for one in pair if one in fates)

    def leak_found(name: str) -> bool:
        return fates[name]["fate"] == "dropped"

    near = [is_right(row) for row in gone if row["stage"] == "near_images"]
    recall = {
        kind: float(np.mean([is_found(name) for name, one in planted.kind.items() if one == kind]))
        for kind in ("exact", *NEAR_KINDS)
    }
    every = [is_found(name) for name, kind in planted.kind.items() if kind in NEAR_KINDS]
    leaks = {
        kind: float(np.mean([leak_found(name) for name, one in planted.kind.items() if one == kind]))
        for kind in LEAK_KINDS
    }
    counted = [one for one in near if one is not None]
    return {
        "rows": len(ledger),
        "recall": recall,
        "near_recall": float(np.mean(every)),
        "near_precision": float(np.mean(counted)) if counted else 1.0,
        "near_wrong": [[row["id"], row["keeper"], row["value"]] for row in gone if is_right(row) is False],
        "leakage_recall": leaks,
        "ledger_sums_exact": bool(sums and kept == summary.kept and len(fates) == len(ledger)),
    }


def main() -> None:
    """Plant, curate, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", default="emoji-noto", help="name of a pack, or several joined by +")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    chosen = parser.parse_args()
    places = [f"{os.environ['FRUGALCLIP_PACKS']}/{name}.tar" for name in chosen.pack.split("+")]
    pack = read_sources(places).manifest
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        planted = plant(pack, folder, chosen.seed)
        (folder / "plan.yaml").write_text(PLAN)
        frugalclip.curate(folder / "data", plan=folder / "plan.yaml", out=folder / "out", workers=1)
        found = measured(planted, folder / "out")
        lemon, cosine = swapped(pack, folder, chosen.seed)
    goals = [
        ("recall of exact duplicates", found["recall"]["exact"], 1.0, "at least"),
        ("precision of near duplicates", found["near_precision"], 0.95, "at least"),
        ("recall of near duplicates", found["near_recall"], 0.9, "at least"),
        *(
            (f"recall of leaks, {kind}", value, 0.95, "at least")
            for kind, value in found["leakage_recall"].items()
        ),
        ("AUROC of swapped captions", lemon, 0.85, "at least"),
        ("gain on the cosine", lemon - cosine, 0.03, "at least"),
        ("ledger sums exact", float(found["ledger_sums_exact"]), 1.0, "at least"),
    ]
    path = chosen.json or RESULTS / f"planted-truth-{chosen.pack}.json"
    record(
        path,
        {"pack": chosen.pack, "seed": chosen.seed, **found, "swap_auroc": {"lemon": lemon, "cosine": cosine}},
        goals,
    )


if __name__ == "__main__":
    main()
