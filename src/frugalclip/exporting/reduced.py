"""ONNX graphs with smaller numbers: fp16, and int8 whose ranges come from the user's rows.

In int8, weights are quantised by channel and activations by the range that they have on the calibration
rows. Which layers lose most is measured one group at a time, so that those can stay in fp32.
"""

import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frugalclip.core.errors import require
from frugalclip.interop.onnx_folder import graph_runner

KINDS = ("MatMul", "Gemm", "Conv", "Gather")  # operations that int8 makes smaller
GROUPS = 8  # of neighbouring layers, whose loss is measured together
_PURPOSE = "smaller numbers in ONNX graphs"


def halve(graph: Path) -> None:
    """Store a graph's weights in fp16, in place; inputs and outputs stay float32."""
    library = require("onnx", extra="export", purpose=_PURPOSE)
    convert = require("onnxruntime.transformers.float16", extra="export", purpose=_PURPOSE)
    smaller = convert.convert_float_to_float16(library.load(str(graph)), keep_io_types=True)
    library.save(smaller, str(graph))


class Int8Graph:
    """A graph that is quantised again and again, with fewer layers each time.

    Args:
        graph: the file in fp32.
        rows: inputs of the calibration, one array a batch.
    """

    def __init__(self, graph: Path, rows: Sequence[np.ndarray]) -> None:
        self.rows = rows
        self._content = graph.read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            shape = require("onnxruntime.quantization.shape_inference", extra="export", purpose=_PURPOSE)
            shape.quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
            self._prepared = prepared.read_bytes()
        library = require("onnx", extra="export", purpose=_PURPOSE)
        model = library.load_from_string(self._prepared)
        weights = {one.name for one in model.graph.initializer if len(one.dims) > 1}
        nodes = [one for one in model.graph.node if one.op_type in KINDS]
        self.input = model.graph.input[0].name
        self.layers = [node.name for node in nodes if weights.intersection(node.input)]

    def quantised(self, layers: Collection[str]) -> bytes:
        """The graph with these layers in int8."""
        if not layers:  # which the library takes for all
            return self._prepared
        library = require("onnxruntime.quantization", extra="export", purpose=_PURPOSE)
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder) / "given.onnx", Path(folder) / "made.onnx"
            given.write_bytes(self._prepared)
            library.quantize_static(
                str(given),
                str(made),
                _reader(library, self.input, self.rows),
                quant_format=library.QuantFormat.QDQ,
                per_channel=True,
                weight_type=library.QuantType.QInt8,
                activation_type=library.QuantType.QUInt8,
                nodes_to_quantize=sorted(layers),
                op_types_to_quantize=list(KINDS),
                extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
            )
            return made.read_bytes()

    def by_loss(self) -> list[list[str]]:
        """Groups of neighbouring layers, the one that costs most cosine first."""
        groups = [list(part) for part in np.array_split(self.layers, min(GROUPS, len(self.layers)))]
        expected = self._outputs(self._content)
        losses = [self._loss(self._outputs(self.quantised(group)), expected) for group in groups]
        return [groups[i] for i in np.argsort(losses)[::-1]]

    def _outputs(self, content: bytes) -> list[np.ndarray]:
        run: Callable[[np.ndarray], np.ndarray] = graph_runner(content)
        return [run(inputs) for inputs in self.rows]

    @staticmethod
    def _loss(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
        """1 less the mean cosine."""
        pairs = zip(found, expected, strict=True)
        cosines = [torch.cosine_similarity(torch.tensor(a), torch.tensor(b), dim=1) for a, b in pairs]
        return 1 - torch.cat(cosines).mean().item()


def _reader(library: Any, name: str, rows: Sequence[np.ndarray]) -> Any:
    """What the quantiser takes calibration rows from."""

    class Reader(library.CalibrationDataReader):
        def __init__(self) -> None:
            self.remaining = iter(rows)

        def get_next(self) -> dict[str, np.ndarray] | None:
            found = next(self.remaining, None)
            return None if found is None else {name: found}

    return Reader()
