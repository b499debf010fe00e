"""A data set of coloured squares and a model that sees the colour, so that every right answer is known."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import Tensor

from frugalclip.core.config import Settings
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.models import ManifestFeatures, readable_images

COLOURS = {
    "red": (250, 10, 10),
    "green": (10, 250, 10),
    "blue": (10, 10, 250),
    "dark blue": (10, 10, 120),
    "white": (250, 250, 250),
}
GERMAN = {"red": "rot", "green": "grün", "blue": "blau"}


class NoPreprocess(Settings):
    size: int = 8


@dataclass
class ColourModel:
    """Pictures are their mean colour, texts the colour they name, both around the middle grey."""

    fingerprint: str = "colours"
    preprocess: NoPreprocess = field(default_factory=NoPreprocess)

    def encode_text(self, texts: list[str], /) -> Tensor:
        values = {**COLOURS, **{german: COLOURS[name] for name, german in GERMAN.items()}}
        found = [
            max((name for name in values if name in text.lower()), key=len, default=None) for text in texts
        ]
        return torch.tensor([values[name] if name else (128, 129, 127) for name in found]).float() - 128

    def encode_image(self, images, /) -> Tensor:
        return torch.stack(
            [torch.from_numpy(np.asarray(image, np.float32)).mean((0, 1)) - 128 for image in images]
        )

    def image_features(self, manifest: Manifest, /) -> ManifestFeatures:
        faults: list[tuple[int, str]] = []
        rows, features = [], []
        for part, images in readable_images(manifest, batch=2, faults=faults):
            rows += part
            features += [
                torch.from_numpy(np.asarray(image, np.float32)).mean((0, 1)) - 128 for image in images
            ]
        return ManifestFeatures(
            torch.stack(features) if features else torch.zeros(0, 3), np.array(rows, np.int64), faults
        )


@pytest.fixture
def model() -> ColourModel:
    return ColourModel()


@pytest.fixture
def squares(tmp_path: Path) -> Manifest:
    """Squares: three red, two green, one blue and one dark blue to test; four to train on; a broken one."""
    names = ["red"] * 3 + ["green"] * 2 + ["blue", "dark blue"] + ["red", "green", "blue", "white"] + ["red"]
    splits = ["test"] * 7 + ["train"] * 4 + ["broken"]
    for i, name in enumerate(names):
        shade = np.clip(np.array(COLOURS[name]) + (i % 3), 0, 255)
        Image.fromarray(np.broadcast_to(shade.astype(np.uint8), (12, 12, 3))).save(tmp_path / f"{i}.png")
    (tmp_path / "11.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    german = [
        [(language, [text]) for language, text in (("en", name), ("de", GERMAN.get(name))) if text]
        for name in names
    ]
    manifest = make_manifest(
        ids=[f"s{i}" for i in range(len(names))],
        images=image_places([f"{i}.png" for i in range(len(names))]),
        captions=[[name] for name in names],
        fields={
            "split": pa.array(splits),
            "name": pa.array(names),
            "pair": pa.array([i // 2 for i in range(len(names))]),
        },
        captions_by_language=german,
        root=tmp_path,
        name="squares",
    )
    assert ImageReader(manifest).image(0).size == (12, 12)
    return manifest
