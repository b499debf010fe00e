"""Counts of typical patches: image features that are learned from pictures alone, in seconds.

Source: Coates, Ng & Lee, "An analysis of single-layer networks in unsupervised feature learning", AISTATS
2011: patches are normalised and whitened, k-means finds typical ones, and an image is described by where it
has patches like them. Here centres and patches have length one (spherical k-means), and a patch that is the
negative of a centre counts apart, as in Coates & Ng, ICML 2011.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frugalclip.core.random import generator
from frugalclip.functional import unit

SIDE = 32  # pixels on a side of the images that are described
PATCH, STRIDE = 6, 2
WORDS = 100
GRID = 3  # places on a side where words are counted
LEAST_CONTRAST = 8.0  # standard deviation, in levels of 0 to 255; flatter patches are left out
NOISE = 10.0  # variance added when a patch is normalised
LEAST_VARIANCE = 0.1  # added when patches are whitened
THRESHOLD = 0.25  # cosines below do not count
DRAWN, ROUNDS = 40_000, 10  # patches of k-means, and its rounds
MOST_IMAGES = 5000  # evenly spaced ones have the same typical patches as all
WIDTH = 2 * WORDS * GRID**2
_COLOURS = 3 * PATCH**2


class PatchWords(nn.Module):
    """Typical patches, fitted without labels; nothing is trained by gradient."""

    mean: Tensor
    whitening: Tensor
    words: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(_COLOURS))
        self.register_buffer("whitening", torch.zeros(_COLOURS, _COLOURS))
        self.register_buffer("words", torch.zeros(WORDS, _COLOURS))

    @torch.no_grad()
    def fit(self, pixels: Tensor) -> None:
        """Find typical patches.

        Args:
            pixels: (images, 3, height, width) of 0 to 255.
        """
        draws = generator(0, "patch words")
        pixels = pixels.cpu()  # draws are the same on every device
        each = -(-DRAWN // len(pixels))  # patches of an image
        patches = torch.cat([_drawn(part, each, draws) for part in pixels.split(256)])
        normal, is_flat = _normalised(patches)
        normal = normal[~is_flat]
        if len(normal) < 2:
            return  # pictures without any contrast have no words
        mean = normal.mean(dim=0)
        spread, directions = torch.linalg.eigh((normal - mean).T @ (normal - mean) / len(normal))
        whitening = directions * (spread.clamp_min(0) + LEAST_VARIANCE).rsqrt() @ directions.T
        points = unit((normal - mean) @ whitening)
        words = unit(torch.randn(WORDS, _COLOURS, generator=draws))
        for _ in range(ROUNDS):
            likeness, nearest = (points @ words.T).max(dim=1)
            sums = torch.zeros_like(words).index_add_(0, nearest, points * likeness[:, None])
            words = unit(sums + 1e-6 * words)  # a word that no patch is nearest to stays
        for name, found in (("mean", mean), ("whitening", whitening), ("words", words)):
            getattr(self, name).copy_(found)

    def forward(self, pixels: Tensor) -> Tensor:
        """Roots of how much of each word an image has at each place.

        Args:
            pixels: (images, 3, height, width) of 0 to 255.

        Returns:
            (images, WIDTH) unit vectors; 0 for an image without contrast.
        """
        patches = F.unfold(resized(pixels), PATCH, stride=STRIDE).transpose(1, 2)  # (images, patches, 108)
        normal, is_flat = _normalised(patches)
        likeness = unit((normal - self.mean) @ self.whitening) @ self.words.T
        both = torch.cat([likeness - THRESHOLD, -likeness - THRESHOLD], dim=-1).clamp_min(0)
        counted = (both * (~is_flat)[..., None]).transpose(1, 2)  # (images, 2 * words, patches)
        side = (SIDE - PATCH) // STRIDE + 1
        places = F.adaptive_avg_pool2d(counted.unflatten(2, (side, side)), GRID)
        return unit(places.flatten(1).sqrt())


def resized(pixels: Tensor) -> Tensor:
    """(images, 3, height, width) to (images, 3, 32, 32) float32."""
    x, size = pixels.float(), (SIDE, SIDE)
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)


def _drawn(pixels: Tensor, each: int, draws: torch.Generator) -> Tensor:
    """(images * each, 108) patches at random places."""
    patches = F.unfold(resized(pixels), PATCH, stride=STRIDE)  # (images, 108, places)
    chosen = torch.randint(patches.shape[2], (len(patches), 1, each), generator=draws)
    return patches.gather(2, chosen.expand(-1, patches.shape[1], -1)).transpose(1, 2).flatten(0, 1)


def _normalised(patches: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 108) of mean 0 and about unit variance, and (...) whether a patch is flat."""
    variance = patches.var(dim=-1)
    centred = patches - patches.mean(dim=-1, keepdim=True)
    return centred / (variance + NOISE).sqrt()[..., None], variance < LEAST_CONTRAST**2
