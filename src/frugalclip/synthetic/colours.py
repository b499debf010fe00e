"""Colours by name, for backgrounds and for painting objects."""

import numpy as np

PALETTE = {  # of backgrounds
    "white": (255, 255, 255),
    "light grey": (214, 214, 214),
    "grey": (138, 138, 138),
    "black": (16, 16, 16),
    "beige": (238, 222, 190),
    "light blue": (172, 214, 245),
    "blue": (48, 104, 208),
    "navy blue": (22, 34, 92),
    "turquoise": (64, 192, 186),
    "light green": (178, 226, 164),
    "green": (52, 152, 66),
    "dark green": (18, 74, 40),
    "yellow": (250, 222, 70),
    "orange": (244, 150, 46),
    "red": (204, 44, 44),
    "pink": (250, 178, 204),
    "purple": (126, 62, 168),
    "lavender": (212, 196, 242),
    "brown": (122, 78, 46),
}
TINTS = {  # of objects: what white becomes
    "red": (255, 60, 50),
    "orange": (255, 150, 40),
    "yellow": (255, 232, 60),
    "green": (70, 205, 70),
    "blue": (70, 130, 255),
    "purple": (180, 90, 240),
    "pink": (255, 140, 200),
    "brown": (176, 116, 66),
    "grey": (176, 176, 176),
}
_KEPT = 0.2  # of an object's own colours, under the paint
_LUMA = np.array([0.299, 0.587, 0.114])
_LIFT = 1.15  # paint darkens; this gives the light back


def tint_matrix(name: str) -> np.ndarray:
    """(3, 3) float32 to multiply rows of RGB with: brightness takes the colour's hue."""
    painted = np.outer(_LUMA, np.array(TINTS[name]) / 255.0) * _LIFT
    return ((1 - _KEPT) * painted + _KEPT * np.eye(3)).astype(np.float32)


def rgb(name: str) -> np.ndarray:
    """(3,) float32 of a background colour."""
    return np.array(PALETTE[name], dtype=np.float32)
