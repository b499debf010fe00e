"""Descriptors of the images of a data set, for the baseline that needs no pretrained weights."""

from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.progress import counter
from frugalclip.data.decoding import decode_all
from frugalclip.data.manifest import Manifest
from frugalclip.functional.descriptors import SIDE, describe

_CHUNK = 512  # images in memory at a time
_KEPT = 4  # data sets whose descriptors stay in memory for further evaluations of a run

_known: OrderedDict[tuple[str, str], tuple[Tensor, np.ndarray]] = OrderedDict()


def descriptors(manifest: Manifest) -> tuple[Tensor, np.ndarray]:
    """Descriptors of every image that decodes; the last few data sets are remembered.

    Returns:
        (kept, width) unit vectors, and (kept,) int64 rows whose image could be read.
    """
    key = (str(manifest.root.absolute()), manifest.fingerprint())
    if key not in _known:
        _known[key] = _described(manifest)
        while len(_known) > _KEPT:
            _known.popitem(last=False)
    _known.move_to_end(key)
    return _known[key]


def _described(manifest: Manifest) -> tuple[Tensor, np.ndarray]:
    parts, kept = [], []
    count = counter("describing images for the feature baseline", len(manifest))
    for start in range(0, len(manifest), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(manifest)))
        decoded = decode_all(manifest.take(rows), SIDE)
        good = np.delete(np.arange(len(rows)), [row for row, _ in decoded.faults])
        parts.append(describe(decoded.pixels[torch.from_numpy(good)]))
        kept.append(rows[good])
        count(len(rows))
    return torch.cat(parts), np.concatenate(kept)
