"""Cut-outs at the sizes that scenes use, kept in memory once made."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from PIL import Image

from frugalclip.synthetic.colours import PALETTE, tint_matrix

_KEPT_BYTES = 384 * 2**20
_SOLID = 128  # opacity, of 255
_PROFILE = 10  # pixels at which an object is compared with backgrounds
_STANDS_OUT = 105.0  # distance of two colours in RGB, 0 to 441, that anyone sees
_COLOURS = np.array(list(PALETTE.values()), dtype=np.float32)  # (palette, 3)


@dataclass(frozen=True)
class Layer:
    """An object as painting needs it: every part in one piece, in the type that the canvas has."""

    colours: np.ndarray  # (height, width, 3) uint16 of 0 to 255, multiplied by opacity
    through: np.ndarray  # (height, width, 3) uint16, what is left of the background, of 255
    solid: np.ndarray  # (height, width) bool, where the object counts as there

    @property
    def nbytes(self) -> int:
        """Memory of the parts."""
        return self.colours.nbytes + self.through.nbytes + self.solid.nbytes


class Atlas:
    """Scaled cut-outs.

    Args:
        pixels: (height, width, 4) uint8 each, colours multiplied by opacity.
    """

    def __init__(self, pixels: list[np.ndarray]) -> None:
        self._shapes = [one.shape[:2] for one in pixels]
        self._images = [
            Image.frombuffer("RGBa", one.shape[1::-1], one.tobytes(), "raw", "RGBa", 0, 1) for one in pixels
        ]
        self._scaled: OrderedDict[tuple[int, int], Layer] = OrderedDict()
        self._bytes = 0
        self._profiles: dict[tuple[int, str | None], np.ndarray] = {}

    def shape(self, cutout: int, side: int) -> tuple[int, int]:
        """(height, width) of a cut-out whose longer side has so many pixels."""
        height, width = self._shapes[cutout]
        longer = max(height, width)
        return max(1, round(height * side / longer)), max(1, round(width * side / longer))

    def layer(self, cutout: int, side: int, *, mirrored: bool = False, colour: str | None = None) -> Layer:
        """An object at one size.

        Args:
            cutout: which one.
            side: pixels of the longer side.
            mirrored: left and right exchanged.
            colour: to paint it in.
        """
        layer = self._scale(cutout, side)
        layer = layer if colour is None else painted(layer, colour)
        return (
            Layer(
                *(np.ascontiguousarray(part[:, ::-1]) for part in (layer.colours, layer.through, layer.solid))
            )
            if mirrored
            else layer
        )

    def standing_out(self, cutout: int, colour: str | None) -> np.ndarray:
        """(palette,) share of the object that anyone can tell from a background of that colour."""
        if (cutout, colour) not in self._profiles:
            layer = self.layer(cutout, _PROFILE, colour=colour)
            weight = 255.0 - layer.through[..., 0].ravel()
            own = layer.colours.reshape(-1, 3) * (255.0 / np.maximum(weight, 1.0))[:, None]
            # (pixels, palette) distance squared
            square = (own**2).sum(axis=1)[:, None] - 2 * own @ _COLOURS.T + (_COLOURS**2).sum(axis=1)
            self._profiles[cutout, colour] = (
                weight @ (square > _STANDS_OUT**2) / max(float(weight.sum()), 1.0)
            )
        return self._profiles[cutout, colour]

    def _scale(self, cutout: int, side: int) -> Layer:
        found = self._scaled.get((cutout, side))
        if found is not None:
            return found
        height, width = self.shape(cutout, side)
        scaled = np.array(self._images[cutout].resize((width, height), Image.Resampling.BICUBIC)).astype(
            np.uint16
        )
        opacity = scaled[..., 3:]
        colours = np.minimum(scaled[..., :3], opacity)  # the filter may overshoot
        made = Layer(colours, np.repeat(255 - opacity, 3, axis=-1), opacity[..., 0] >= _SOLID)
        self._scaled[cutout, side] = made
        self._bytes += made.nbytes
        while self._bytes > _KEPT_BYTES:
            self._bytes -= self._scaled.popitem(last=False)[1].nbytes
        return made


def painted(layer: Layer, colour: str) -> Layer:
    """A layer in one named colour of `TINTS`; opacity stays."""
    colours = np.minimum(layer.colours.astype(np.float32) @ tint_matrix(colour), 255 - layer.through).astype(
        np.uint16
    )
    return Layer(colours, layer.through, layer.solid)
