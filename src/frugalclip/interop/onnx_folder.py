"""Folders of ONNX graphs: `onnx:DIR`, which `frugalclip export --to onnx` writes.

Such a folder has a graph for each tower that it encodes with, the tokenizer, the preprocessing, and
`export.json`, which says what model they come from. Nothing of the towers' code is needed to use it.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from frugalclip.core.checksums import RESTORE, verify_checksums
from frugalclip.core.config import validated
from frugalclip.core.errors import ModelError, require
from frugalclip.core.guard import reading
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.records import read_json, write_json
from frugalclip.core.stored import StoredRecord, read_record
from frugalclip.data.tokens import Tokenizer
from frugalclip.interop.tokenizers import read_tokenizer

RECORD, PREPROCESS = "export.json", "preprocess.json"
GRAPHS = {"image": "image.onnx", "text": "text.onnx"}
INPUTS = {"image": "pixels", "text": "ids"}
OUTPUT = "embedding"
LEXICON = "lexicon.json"
FILES = (*GRAPHS.values(), "tokenizer.json", "tokenizer_config.json", PREPROCESS, LEXICON, RECORD)
GraphSide = Literal["image", "text"]


class OnnxRecord(StoredRecord):
    """The content of `export.json`."""

    format: Literal[1] = 1
    to: Literal["onnx"] = "onnx"
    model: str = Field(description="fingerprint of the model that was exported")
    given: str | None = Field(description="MODEL as it was named")
    precision: str
    dim: int = Field(gt=0)
    scale: float | None
    training_data: dict[str, Any] | None
    notes: list[str] = Field(description="what the graphs do not hold")

    def write(self, folder: Path) -> None:
        """Write `export.json`."""
        write_json(folder / RECORD, self.model_dump(mode="json"))


class OnnxFolder:
    """A folder of ONNX graphs; a graph is opened when it first encodes.

    Args:
        path: the folder.

    Raises:
        ModelError: for a folder that holds something else, or files that have changed.
    """

    def __init__(self, path: Path) -> None:
        if not (path / RECORD).is_file():
            raise ModelError(
                f"{path} holds no {RECORD}; expected a folder that 'frugalclip export MODEL --to onnx' wrote."
            )
        if not (path / GRAPHS["image"]).is_file():
            raise ModelError(
                f"{path} holds no {GRAPHS['image']}, so it is an export of another format or layout; export "
                "the model with --to onnx."
            )
        self.path, self.checksums = path, verify_checksums(path, FILES)
        self.record = read_record(path / RECORD, OnnxRecord, advice=RESTORE)

    def has(self, side: GraphSide) -> bool:
        """Whether it holds the graph of a tower."""
        return (self.path / GRAPHS[side]).is_file()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return read_tokenizer(self.path)

    @cached_property
    def preprocess(self) -> Preprocess:
        """The model's."""
        place = self.path / PREPROCESS
        return validated(Preprocess, read_json(place), where=str(place), error=ModelError)

    def encoder(self, side: GraphSide) -> Callable[[Tensor], Tensor]:
        """Opens a graph: pixels (batch, 3, height, width) or ids (batch, length) to (batch, dim) unit rows.

        Raises:
            ModelError: for a graph that is missing or cannot be opened.
            MissingExtra: where onnxruntime is not installed.
        """
        if not self.has(side):
            what = " ".join(self.record.notes) or f"it holds no {GRAPHS[side]}."
            raise ModelError(f"{self.path} encodes no {side}s: {what}")
        run = graph_runner(self.path / GRAPHS[side])
        return lambda inputs: torch.from_numpy(run(inputs.cpu().numpy()))


def graph_runner(graph: Path | bytes) -> Callable[[np.ndarray], np.ndarray]:
    """What computes a graph of one input and one output, on as many threads as torch.

    Args:
        graph: a file, or its content.
    """
    library = require("onnxruntime", extra="export", purpose="encoding with ONNX graphs")
    options = library.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    place = graph if isinstance(graph, Path) else "the graph"
    with reading(place, advice="export the model again", error=ModelError):
        source = str(graph) if isinstance(graph, Path) else graph
        session = library.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0]
    kinds = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}
    kind = kinds[given.type]
    return lambda inputs: session.run(None, {given.name: inputs.astype(kind, copy=False)})[0]
