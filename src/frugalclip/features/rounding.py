"""Vectors in the number format of a store, and what rounding them costs."""

import numpy as np

from frugalclip.core.errors import DataError
from frugalclip.features.format import StoreDtype


def rounded(values: np.ndarray, dtype: StoreDtype) -> tuple[np.ndarray, np.ndarray | None]:
    """Vectors as they are stored.

    Args:
        values: (..., dim) float32.
        dtype: of the store.

    Returns:
        (..., dim) in the dtype, and for int8 the (...) float32 scales that multiply it.

    Raises:
        DataError: when a value does not fit in float16.
    """
    if dtype == "float32":
        return values.astype(np.float32), None
    if dtype == "float16":
        if values.size and np.abs(values).max() > np.finfo(np.float16).max:
            raise DataError(
                f"a value of {np.abs(values).max():.3g} does not fit in float16; "
                "set dtype to float32, or to int8, which has scales."
            )
        return values.astype(np.float16), None
    scales = (np.abs(values).max(-1, initial=0.0) / 127).astype(np.float32)
    safe = np.where(scales > 0, scales, 1)[..., None]
    return np.rint(values / safe).clip(-127, 127).astype(np.int8), scales


def cosine_errors(values: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """1 - cosine of pairs of vectors, from the distance of unit vectors, which resolves errors below 1e-8.

    Args:
        values, stored: (..., dim).

    Returns:
        (...) float64; 0 where both are zero.
    """
    first, second = (x.astype(np.float64) for x in (values, stored))
    first /= np.maximum(np.linalg.norm(first, axis=-1, keepdims=True), 1e-300)
    second /= np.maximum(np.linalg.norm(second, axis=-1, keepdims=True), 1e-300)
    return ((first - second) ** 2).sum(-1) / 2
