"""The 64-bit perceptual hash of an image: which of its low frequencies are above their median.

Source: the DCT hash that `imagehash.phash` computes, of 32 x 32 grey pixels; bits are row by row, the first
in the highest place.
"""

import numpy as np

SIDE = 32  # grey pixels on a side
_KEPT = 8  # frequencies in each direction
_BASIS = np.cos(np.pi / SIDE * (np.arange(SIDE) + 0.5) * np.arange(_KEPT)[:, None])  # (8, 32), of a DCT-II


def perceptual_hash(grey: np.ndarray) -> np.ndarray:
    """Hash grey images.

    Args:
        grey: (batch, 32, 32) of any range.

    Returns:
        (batch,) uint64.
    """
    frequencies = (_BASIS @ grey.astype(np.float64) @ _BASIS.T).reshape(len(grey), -1)  # (batch, 64)
    bits = frequencies > np.median(frequencies, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)
