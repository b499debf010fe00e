"""Small data sets, and an encoder whose features can be told by looking at the image or text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frugalclip.core.encoder import Modality
from frugalclip.core.preprocess import Preprocess
from frugalclip.data.images import decode
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.features.embed import embed_manifest
from frugalclip.features.format import Kind
from frugalclip.features.store import Store
from frugalclip.features.vectors import TextRows

ROWS = 12
EVERY = np.arange(ROWS)


class Means:
    """Encodes images as channel means and texts as two facets of four numbers; counts what it encodes."""

    reads: Modality = "both"
    dim = 4
    fingerprint = "means"
    scale = None
    preprocess = Preprocess(size=8)
    description: dict[str, Any] = {}  # noqa: RUF012

    class tokenizer:  # noqa: N801
        fingerprint = staticmethod(lambda: "letters")
        truncated = staticmethod(lambda texts: 0)

    def __init__(self, kind: Kind = "image") -> None:
        self.kind = kind
        self.encoded: list[str] = []  # texts
        self.images = 0

    def pixels(self, image: Image.Image) -> Tensor:
        return self.preprocess(image)

    def encode_image(self, images: Tensor, *, normalize: bool = True) -> Tensor:
        self.images += len(images)
        largest = images.amax((1, 2, 3))[:, None]
        return torch.cat([images.mean((2, 3)), largest], dim=1) * 1.001  # no round numbers

    def encode_text(self, texts: list[str], *, normalize: bool = True) -> Tensor:
        self.encoded += texts
        numbers = torch.tensor([[sum(map(ord, t)) / 7, len(t) / 3, t.count("e"), 1] for t in texts])
        return torch.stack([numbers, -numbers], dim=1)


def pairs(
    folder: Path, *, prefix: str = "id", order: Sequence[int] = range(ROWS), broken: Sequence[int] = ()
) -> Manifest:
    """Pictures that differ; row 1 has no caption but a keyword, row 2 has two captions, one of them twice."""
    folder.mkdir(exist_ok=True)
    for row in range(ROWS):
        Image.fromarray(np.random.default_rng(row).integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(
            folder / f"{row}.png"
        )
    for row in broken:
        (folder / f"{row}.png").write_bytes(b"no picture")
    captions = [[f"picture {row}", "one of many"] for row in range(ROWS)]
    captions[1], captions[2] = [], ["twice", "twice", "once"]
    keywords = [[f"key{row}", "shared"] if row % 3 else [] for row in range(ROWS)]
    return make_manifest(
        ids=[f"{prefix}-{row}" for row in order],
        images=image_places([f"{row}.png" for row in order]),
        captions=[captions[row] for row in order],
        fields={"keywords": [keywords[row] for row in order]},
        root=folder,
        name="pairs",
    )


def three_views(data: bytes, id: str) -> Tensor:
    """The picture, and two that are brighter."""
    plain = Means.preprocess(decode(data))
    return torch.cat([plain, plain + 1, plain + 2])


def store_of(manifest: Manifest, path: Path, **options: Any) -> Store:
    options = {"what": "images", "dtype": "float32", "normalize": False, "chunk_rows": 5} | options
    return embed_manifest(Means(), manifest, path, **options).store


def text_store(texts: Sequence[str], path: Path, **options: Any) -> Store:
    return embed_manifest(
        Means(), TextRows(texts, name="texts"), path, what="texts", normalize=False, **options
    ).store
