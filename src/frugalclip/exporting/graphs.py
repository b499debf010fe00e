"""Towers as ONNX graphs: pixels or token ids to unit vectors.

A graph gets token ids alone. The length of a text is told by its end token: the last one, or the first where
padding is the same token.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from frugalclip.core.errors import ModelError, require
from frugalclip.core.types import Tokens
from frugalclip.data.tokens import Tokenizer
from frugalclip.functional import unit
from frugalclip.interop.onnx_folder import INPUTS, OUTPUT
from frugalclip.models import Model
from frugalclip.towers.base import ImageTower, TextTower
from frugalclip.towers.dual import DualEncoder, Side
from frugalclip.towers.lora import merge_lora

OPSET = 20  # the first with GELU as one operation; read by ONNX Runtime since 1.17 and by browsers
_LONGEST = 12  # tokens of the example that a graph is traced with


class _Towers(nn.Module):
    """Holds a tower, and its frozen backbone where it has one, so that all weights are the graph's own."""

    def __init__(self, network: DualEncoder, tower: nn.Module, side: Side) -> None:
        super().__init__()
        self.tower = merge_lora(tower)
        pretrained = network.pretrained_towers().get(side)
        self.backbone = (
            pretrained.attached if pretrained is not None and pretrained.config.is_frozen else None
        )


class ImageGraph(_Towers):
    """From pixels (batch, 3, height, width) to (batch, dim) unit rows."""

    tower: ImageTower

    def __init__(self, model: Model) -> None:
        super().__init__(model.network, model.network.image, "image")

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch, 3, height, width), normalised, to (batch, dim)."""
        return unit(self.tower(pixels).embedding)


class TextGraph(_Towers):
    """From token ids (batch, length) to (batch, dim) unit rows."""

    tower: TextTower

    def __init__(self, model: Model) -> None:
        super().__init__(model.network, model.network.text, "text")
        self.end, self.pad = model.tokenizer.settings.end, model.tokenizer.settings.pad

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, length) int64 to (batch, dim); facets are averaged, as in evaluation."""
        found = self.tower(Tokens(ids, text_lengths(ids, end=self.end, pad=self.pad))).embedding
        return unit(found.mean(dim=1) if found.ndim == 3 else found)


def text_lengths(ids: Tensor, *, end: int, pad: int) -> Tensor:
    """Tokens of each text up to its end token.

    Args:
        ids: (batch, length), padded on the right.
        end: id of the end token.
        pad: id of padding.

    Returns:
        (batch,) int64.
    """
    places = torch.arange(ids.shape[1], device=ids.device)
    if end == pad:
        return torch.where(ids == end, places, ids.shape[1] - 1).amin(dim=1) + 1
    return torch.where(ids == end, places, -1).amax(dim=1) + 1


def image_graph(model: Model) -> Any:
    """The image tower as an ONNX program of a free batch.

    Raises:
        ModelError: where the tower computes something that ONNX has no operation for.
        MissingExtra: where the exporter is not installed.
    """
    size = model.preprocess.size
    example = torch.zeros(3, 3, size, size, device=model.device)
    return _program(ImageGraph(model), example, INPUTS["image"], free=[0])


def text_graph(model: Model) -> Any:
    """The text tower as an ONNX program of a free batch and length; see `image_graph`."""
    example = _example_ids(model.tokenizer).to(model.device)
    return _program(TextGraph(model), example, INPUTS["text"], free=[0, 1])


def _example_ids(tokenizer: Tokenizer) -> Tensor:
    """(3, length) ids of texts of different lengths."""
    words = ["a red car", "", "two"]
    return tokenizer.encode(words, pad_to=min(tokenizer.context, _LONGEST)).ids


def _program(graph: nn.Module, example: Tensor, name: str, *, free: Sequence[int]) -> Any:
    for library in ("onnx", "onnxscript"):
        require(library, extra="export", purpose="exporting to ONNX")
    graph.eval()
    axes = (dict.fromkeys(free, torch.export.Dim.DYNAMIC),)
    try:
        with torch.no_grad(), _quiet():
            graph(example)  # what a head computes once and keeps is then a constant of the graph
            traced = torch.export.export(graph, (example,), dynamic_shapes=axes, strict=False)
            program = torch.onnx.export(
                traced, dynamo=True, opset_version=OPSET, input_names=[name], verbose=False
            )
    except Exception as error:  # the exporter raises dozens of kinds, some of them bare
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"the tower that encodes {name} has no counterpart in ONNX ({type(error).__name__}: {first}); "
            "export a model with another tower."
        ) from error
    _tidy(program)
    return program


def _tidy(program: Any) -> None:
    """Name the output, as the exporter names a token embedding too; drop paths of this machine."""
    graph = program.model.graph
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if value.name == OUTPUT:
                value.name = f"{OUTPUT}_inside"
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    graph.metadata_props.clear()
    program.model.metadata_props.clear()
    graph.outputs[0].name = OUTPUT


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its advice for developers off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
