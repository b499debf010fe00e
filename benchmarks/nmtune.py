"""Study: noise in pre-training against accuracy in domain and out of domain, and what NMTune mends of it.

Encoders are trained here with a share of noise of 0, 5, 10, 20 and 30 %, everything else equal. One is a CLIP
model on two styles of the sample, with captions swapped between pairs. The other is a small network on
scikit-learn's digits, with uniform labels. On their frozen features a linear probe, a residual network and
both variants of NMTune are trained, with paired seeds. In domain are held-out rows; out of domain are a third
style, or digits that are shifted and noisy. No test row chooses anything. Hours are predicted first, from a
short run. Every encoder's record is written when it is finished; the same command resumes.
With --clip 0 only the networks on digits are trained.
Run: python benchmarks/nmtune.py [--seeds 3] [--heads 10] [--samples 160000]
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import HERE, options, record
from torch import nn

from frugalclip.adaptation.compare_heads import HeadData, compare_heads, examples_of, mean_with_interval
from frugalclip.core.progress import in_minutes
from frugalclip.core.random import generator
from frugalclip.core.records import read_json, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.data.planted_noise import swapped_captions, uniform_labels
from frugalclip.evaluation.encoding import image_features
from frugalclip.models import load
from frugalclip.sources.open import open_data
from frugalclip.verbs.train import train

RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3)
TRAINED = "style=noto|openmoji,split=train,is_flag=false"
IN_DOMAIN = "style=noto|openmoji,split=val|test,is_flag=false"
OUT_OF_DOMAIN = "style=twemoji,split=val|test,is_flag=false"
ENCODERS = ("clip", "digits")


def noisy_captions(manifest: Manifest, *, ratio: float, seed: int) -> Manifest:
    """The same pictures, with a share of the captions swapped between rows."""
    source, _ = swapped_captions(len(manifest), ratio=ratio, seed=seed)
    position = manifest.table.column_names.index("captions")
    captions = manifest.table["captions"].take(source)
    return Manifest(manifest.table.set_column(position, "captions", captions), manifest.root, manifest.name)


def clip_features(ratio: float, seed: int, samples: int, folder: Path) -> HeadData:
    """Features of a CLIP model that was trained on noisy captions, for naming categories."""
    everything = open_data("sample")
    data = folder / "noisy.parquet"
    noisy_captions(everything.where(TRAINED), ratio=ratio, seed=seed).write(data)
    words = [f"data={data}", f"samples={samples}", "epochs=null", f"seed={seed}", "data.validation=none"]
    train("clip-small", [*words, "evaluation.points=1"], out=folder / "run", resume=(folder / "run").exists())
    model = load(folder / "run")
    rows = {
        name: everything.where(w)
        for name, w in (("train", TRAINED), ("in", IN_DOMAIN), ("out", OUT_OF_DOMAIN))
    }
    names = sorted(set(rows["train"].field("category")))
    found = {}
    for name, manifest in rows.items():
        features, kept, _ = image_features(model, manifest, np.arange(len(manifest)))
        labels = np.array([names.index(value) for value in manifest.field("category")])
        found[name] = examples_of(features, labels[kept])
    return HeadData(found.pop("train"), found, names)


def digit_features(ratio: float, seed: int) -> HeadData:
    """Features of a network that was trained on 900 digits with noisy labels; 300 clean ones train heads."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(classes))
    pixels, labels = (images / 16).astype(np.float32)[order], classes.astype(np.int64)[order]
    noisy = uniform_labels(labels[:900], classes=10, ratio=ratio, seed=seed).labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(
            nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64)
        )
        head = nn.Linear(64, 10)
    optimiser = torch.optim.AdamW([*body.parameters(), *head.parameters()], lr=1e-3)
    batches, x, y = generator(seed, "nmtune/digits"), torch.from_numpy(pixels[:900]), torch.from_numpy(noisy)
    for _ in range(60):
        for rows in torch.randperm(900, generator=batches).split(64):
            loss = nn.functional.cross_entropy(head(body(x[rows])), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    shifted = np.roll(pixels[1200:].reshape(-1, 8, 8), 1, axis=2).reshape(-1, 64)
    shifted = shifted + 0.15 * np.random.default_rng(seed + 1).normal(size=shifted.shape).astype(np.float32)
    with torch.no_grad():
        encode = lambda images: body(torch.from_numpy(images))  # noqa: E731
        tests = {"in": (pixels[1200:], labels[1200:]), "out": (shifted, labels[1200:])}
        found = {name: examples_of(encode(images), own) for name, (images, own) in tests.items()}
        own = examples_of(encode(pixels[900:1200]), labels[900:1200])
    return HeadData(own, found, [str(digit) for digit in range(10)])


def cells(seeds: int, encoders: Sequence[str] = ENCODERS) -> Iterator[tuple[str, float, int]]:
    """Encoder, ratio and seed of every pre-training."""
    return ((encoder, ratio, seed) for seed in range(seeds) for ratio in RATIOS for encoder in encoders)


def measured(encoder: str, ratio: float, seed: int, chosen: Any, folder: Path) -> dict[str, Any]:
    """Train an encoder and all heads on it, or read the record of an earlier call."""
    place = folder / f"{encoder}-{round(100 * ratio)}-{seed}"
    settings = {"samples": chosen.samples, "heads": chosen.heads}
    if (place / "record.json").is_file() and (old := read_json(place / "record.json"))[
        "settings"
    ] == settings:
        return old
    place.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    data = (
        clip_features(ratio, seed, chosen.samples, place)
        if encoder == "clip"
        else digit_features(ratio, seed)
    )
    found = compare_heads(data, seeds=chosen.heads)
    result = {"encoder": encoder, "ratio": ratio, "seed": seed, "settings": settings, **found}
    result["seconds"] = time.perf_counter() - begun
    write_json(place / "record.json", result)
    return result


def predicted_seconds(chosen: Any, folder: Path) -> float:
    """Seconds of the whole study, from one encoder on few samples and from one on digits."""
    few, per_clip = 2048, 0.0
    if chosen.clip:
        begun = time.perf_counter()
        data = clip_features(0.0, 0, few, folder / f"short-{time.time_ns()}")
        trained = time.perf_counter()
        compare_heads(data, seeds=1)
        tuned = time.perf_counter()
        per_clip = (trained - begun) * chosen.samples / few + (tuned - trained) * chosen.heads
    begun = time.perf_counter()
    compare_heads(digit_features(0.0, 0), seeds=1)
    per_digits = (time.perf_counter() - begun) * chosen.heads
    return chosen.seeds * len(RATIOS) * (per_clip + per_digits)


def summary(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per encoder and ratio: accuracy of every arm, NMTune's paired gain, spectra of frozen features."""
    rows = []
    for encoder in ENCODERS:
        for ratio in RATIOS:
            own = [one for one in results if (one["encoder"], one["ratio"]) == (encoder, ratio)]
            if not own:
                continue
            row: dict[str, Any] = {"encoder": encoder, "ratio": ratio, "pretrainings": len(own)}
            for test in ("in", "out"):
                arms = {arm: np.array([one["arms"][arm][test] for one in own]) for arm in own[0]["arms"]}
                row[test] = {arm: float(values.mean()) for arm, values in arms.items()}
                row[f"{test}_gain"] = {
                    other: mean_with_interval((arms["nmtune-official"] - arms[other]).mean(axis=0))
                    for other in ("linear", "mlp")
                }
                row[f"{test}_spectrum"] = {
                    centre: {
                        name: float(np.mean([one["spectra"]["frozen"][test][centre][name] for one in own]))
                        for name in ("sve", "lsvr")
                    }
                    for centre in ("none", "row", "column")
                }
            rows.append(row)
    return rows


def main() -> None:
    """Predict, run what is missing, and print."""
    chosen = options(__doc__ or "", "nmtune", seeds=3, heads=10, samples=160_000, clip=1)
    folder = HERE.parent / "runs" / "nmtune"
    print(f"predicted: {in_minutes(predicted_seconds(chosen, folder))} on this machine", flush=True)
    results = []
    for encoder, ratio, seed in cells(chosen.seeds, ENCODERS if chosen.clip else ENCODERS[1:]):
        results.append(measured(encoder, ratio, seed, chosen, folder))
        arms = {name: round(float(np.mean(tests["out"])), 1) for name, tests in results[-1]["arms"].items()}
        print(f"{encoder}, {ratio:.0%} noise, seed {seed}: out of domain {arms}", flush=True)
    record(chosen.json, {"rows": summary(results), "settings": results[-1]["settings"]}, [])


if __name__ == "__main__":
    main()
