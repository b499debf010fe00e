"""A folder of ONNX graphs in int8: ranges from the user's rows, and a gate on them.

First every layer that holds weights is quantised. Where the gate refuses that, the layers that lose most
stay in fp32, a few more with every attempt.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from frugalclip.core.errors import ModelError
from frugalclip.core.numerics import evenly_spaced
from frugalclip.data.manifest import Manifest
from frugalclip.exporting.gate import Quality, measured, pass_gate
from frugalclip.exporting.reduced import Int8Graph
from frugalclip.interop.onnx_folder import GRAPHS
from frugalclip.models import Model, load, prepared_images

CALIBRATION_ROWS = 128
_BATCH = 16
KEPT = (0, 1, 2, 4)  # groups of each graph that stay in fp32, by attempt


def quantise_folder(
    model: Model, folder: Path, rows: Manifest, *, finish: Callable[[], None]
) -> dict[str, Any]:
    """Replace the graphs of a folder by smaller ones.

    Args:
        model: that the graphs were made from.
        folder: with the graphs in fp32.
        rows: of the user's.
        finish: writes the record and the checksums of the folder.

    Returns:
        What `parity.json` holds of it, as `int8`.

    Raises:
        ModelError: where retrieval or zero-shot on the rows falls by more than the gate allows.
    """
    if not (folder / GRAPHS["text"]).is_file():
        raise ModelError(
            "int8 is gated by retrieval and zero-shot, and the folder encodes images alone; use --precision "
            "fp16."
        )
    few = rows.take(evenly_spaced(np.arange(len(rows)), CALIBRATION_ROWS))
    given = {"image": list(_pixels(model, few)), "text": list(_ids(model, few))}
    graphs = {side: Int8Graph(folder / GRAPHS[side], given[side]) for side in GRAPHS}
    before = measured(model, rows)
    ranked: dict[str, list[list[str]]] = {}

    def attempt(kept: int) -> Quality:
        if kept and not ranked:
            ranked.update({side: graph.by_loss() for side, graph in graphs.items()})
        for side, graph in graphs.items():
            whole = {name for group in ranked.get(side, [])[:kept] for name in group}
            layers = [name for name in graph.layers if name not in whole]
            (folder / GRAPHS[side]).write_bytes(graph.quantised(layers))
        finish()
        return measured(load(f"onnx:{folder}"), rows)

    number, after = pass_gate(before, [partial(attempt, kept) for kept in KEPT])
    found = {"fp32": before.record(), "int8": after.record(), "calibration_rows": len(few)}
    return {"int8": found | {"layers_in_fp32": _kept(ranked, KEPT[number])}}


def _kept(ranked: dict[str, list[list[str]]], number: int) -> dict[str, int]:
    return {side: sum(map(len, ranked.get(side, [])[:number])) for side in GRAPHS}


def _pixels(model: Model, rows: Manifest) -> Iterator[np.ndarray]:
    """Batches of pixels of the images that can be read."""
    for _, pixels in prepared_images(rows, model.preprocess, batch=_BATCH, faults=[]):
        yield pixels.numpy()


def _ids(model: Model, rows: Manifest) -> Iterator[np.ndarray]:
    """Batches of ids of the captions."""
    texts = list(dict.fromkeys(text for row in rows.captions() for text in row))[: CALIBRATION_ROWS * 2]
    for start in range(0, len(texts), _BATCH):
        yield model.tokenizer.encode(texts[start : start + _BATCH]).ids.numpy()
