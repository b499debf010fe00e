"""Claim: packaged encoders embed 5,000 captions in a minute and 5,733 images in two views in half an hour.

A vector in eight bits keeps its direction to a cosine within a thousandth. Captions are those of the sample
joined, ten to fifteen words as in COCO. Images are fewer, also of the sample, and the time of all follows
from the rate. Seconds are wall time on every core of the machine, so a busy machine takes longer. Needs `make
frozen`.
Run: python benchmarks/embedding.py [--captions 5000] [--pictures 400]
"""

import os
import tempfile
from pathlib import Path

import numpy as np
from _common import options, record

from frugalclip.features.embed import Embedded, embed_manifest
from frugalclip.features.vectors import TextRows
from frugalclip.models import TextOnlyModel, load
from frugalclip.sources.open import open_data

PICTURES, VIEWS = 5733, 2  # of the emoji pack
WHERE = "pack=emoji|clipart"  # the photos came later


def sentences(number: int) -> list[str]:
    """Distinct texts of ten to fifteen words, from the captions of the sample."""
    draw = np.random.default_rng(0)
    captions = [one[0] for one in open_data("sample", where=WHERE).captions() if one]
    found: dict[str, None] = {}
    while len(found) < number:
        words: list[str] = []
        while len(words) < 10:
            words += captions[draw.integers(len(captions))].split()
        found[" ".join(words[:15])] = None
    return list(found)


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__ or "", "embedding", captions=5000, images=400)
    encoder, texts = (TextOnlyModel("package:minilm"), TextRows(sentences(chosen.captions), name="sentences"))
    done: dict[str, Embedded] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("float16", "int8"):
            done[kind] = embed_manifest(encoder, texts, Path(folder) / kind, what="texts", dtype=kind)
        manifest = open_data("sample", where=WHERE)
        some = manifest.take(np.linspace(0, len(manifest) - 1, chosen.images).astype(np.int64))
        seen = embed_manifest(
            load("package:efficientnet-lite0"), some, Path(folder) / "images", what="images", batch=32
        )
        errors = {kind: one.store.head.summary["text"].error.max for kind, one in done.items()}
    seconds = done["float16"].seconds * 5000 / chosen.captions
    minutes = seen.seconds / chosen.images * PICTURES * VIEWS / 60
    goals = [
        ("seconds for 5,000 captions", seconds, 60, "at most"),
        (f"minutes for {PICTURES:,} pictures in {VIEWS} views, from the rate", minutes, 30, "at most"),
        ("1 - cosine of a vector in eight bits, the largest", errors["int8"], 1e-3, "at most"),
    ]
    record(
        chosen.json,
        {"captions": chosen.captions, "images": chosen.images, "errors": errors, "load": os.getloadavg()[0]},
        goals,
    )


if __name__ == "__main__":
    main()
