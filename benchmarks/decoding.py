"""Claim: a 256-pixel JPEG becomes a training picture at least 2.5 times as fast as with plain Pillow.

Both arms do what training does: encoded bytes become a (3, 64, 64) uint8 array, squashed by an antialiased
bicubic filter. The peer opens, converts to RGB and resizes with Pillow. Ours decodes at the smallest size
that is still twice the target: through simplejpeg where it is installed, else through Pillow's own draft mode
(the fallback, measured too), and resizes with torch. Images are smooth shapes with grain.
Run: python benchmarks/decoding.py [--side 256] [--size 64]
"""

import io

import numpy as np
import torch
from _common import in_turn, medians, options, record
from PIL import Image

from frugalclip.data import images, jpeg
from frugalclip.data.images import decode, decode_squashed


def photo(side: int, draw: np.random.Generator) -> bytes:
    """A JPEG of quality 90 with the bytes a photo of that size has."""
    small = Image.fromarray(draw.integers(0, 255, (side // 16, side // 16, 3), dtype=np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    grain = draw.normal(0, 2, (side, side, 1))
    file = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(small) + grain, 0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=90
    )
    return file.getvalue()


def squashed(image: Image.Image, size: int) -> np.ndarray:
    return np.ascontiguousarray(
        np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    )


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__ or "", "decoding", side=256, size=64, images=256, repeats=5)
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    files = [photo(chosen.side, draw) for _ in range(chosen.images)]
    fast = images.fast_jpeg

    def ours() -> None:
        for file in files:
            decode_squashed(file, chosen.size)

    def fallback() -> None:
        images.fast_jpeg = lambda *_, **__: None  # as if simplejpeg were not installed
        try:
            ours()
        finally:
            images.fast_jpeg = fast

    def whole() -> None:
        for file in files:
            np.asarray(decode(file))

    def peer_whole() -> None:
        for file in files:
            np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))

    def peer() -> None:
        for file in files:
            squashed(Image.open(io.BytesIO(file)).convert("RGB"), chosen.size)

    def limit() -> None:
        for file in files:
            jpeg._library().decode_jpeg(
                file, min_height=2 * chosen.size, min_width=2 * chosen.size
            )  # the decoder alone

    arms = {
        "plain Pillow": peer,
        "ours": ours,
        "ours without simplejpeg": fallback,
        "plain Pillow, whole": peer_whole,
        "ours, whole": whole,
    }
    seconds = in_turn(arms | {"the decoder alone": limit}, repeats=chosen.repeats)
    median = medians(seconds)
    for name, value in median.items():
        print(f"{name:24} {chosen.images / value:7.0f} pictures/s")
    alone = median["ours"] / median["the decoder alone"]
    print(
        f"{sum(map(len, files)) / len(files) / 1000:.1f} kB a picture; ours takes {alone:.2f} x the decoder "
        "alone"
    )
    goals = [("ours over plain Pillow", median["plain Pillow"] / median["ours"], 2.5, "at least")]
    goals.append(
        (
            "without simplejpeg over plain Pillow",
            median["plain Pillow"] / median["ours without simplejpeg"],
            1.0,
            "at least",
        )
    )
    record(
        chosen.json,
        {
            "side": chosen.side,
            "size": chosen.size,
            "seconds": median,
            "all_seconds": seconds,
            "share_of_limit": {"to a training picture": 1 / alone},
        },
        goals,
    )


if __name__ == "__main__":
    main()
