"""Layouts of a folder of ONNX graphs: names of files, inputs and outputs that other programs expect.

Source: transformers.js (`text_model`, `vision_model` below `onnx/`; 4.3) and immich's machine learning
server (`textual/`, `visual/`). ONNX Runtime reads the folders back. transformers.js runs in `make test-e2e`,
immich does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
from torch import Tensor

from frugalclip.core.checksums import NAME as CHECKSUMS
from frugalclip.core.errors import ModelError, require
from frugalclip.core.records import read_json, write_json
from frugalclip.exporting.base import Precision, ReadBack, version
from frugalclip.interop.huggingface_settings import sizes_config
from frugalclip.interop.onnx_folder import FILES, GRAPHS, graph_runner
from frugalclip.interop.open_clip_settings import written_preprocess_config
from frugalclip.interop.preprocessing import write_preprocess
from frugalclip.interop.tokenizer_files import MENDING, SPECIAL, written_tokenizer
from frugalclip.models import Model

_SUFFIX: dict[Precision, str] = {"fp32": "", "fp16": "_fp16", "int8": "_quantized"}  # of transformers.js


@dataclass(frozen=True)
class GraphNames:
    """Where a graph stands, and what its ends are called."""

    path: str  # `{}` stands for the precision
    given: str
    output: str
    takes_int32: bool = False


@dataclass(frozen=True)
class GraphLayout:
    """Names of one program."""

    graphs: Mapping[str, GraphNames]  # image, text
    texts: str  # folder of the tokenizer


TRANSFORMERS_JS = GraphLayout(
    {
        "image": GraphNames("onnx/vision_model{}.onnx", "pixel_values", "image_embeds"),
        "text": GraphNames("onnx/text_model{}.onnx", "input_ids", "text_embeds"),
    },
    texts=".",
)
IMMICH = GraphLayout(
    {
        "image": GraphNames("visual/model.onnx", "image", "embedding"),
        "text": GraphNames("textual/model.onnx", "text", "embedding", takes_int32=True),
    },
    texts="textual",
)
LAYOUTS = {"transformers.js": TRANSFORMERS_JS, "immich": IMMICH}


def check_layout(layout: str, model: Model) -> None:
    """Refuse a model that a layout has no counterpart for, before its graphs are made.

    Raises:
        ModelError: saying what the layout lacks.
    """
    if model.reads == "images":
        raise ModelError(
            f"the folder of {layout} has a graph of texts, and this model encodes images alone; leave "
            "--layout out."
        )
    written_tokenizer(model.tokenizer)
    if layout == "immich":
        written_preprocess_config(model.preprocess, where=layout)


def arrange(folder: Path, layout: str, model: Model, precision: Precision) -> list[str]:
    """Give the graphs of a folder another layout, in place, with the files that its program reads.

    Args:
        folder: as `--to onnx` writes it.
        layout: its name.
        model: that was exported; `check_layout` has taken it.
        precision: of the graphs.

    Returns:
        What the layout has no counterpart for.
    """
    names = LAYOUTS[layout]
    written = written_tokenizer(model.tokenizer)
    for side, graph in names.graphs.items():
        target = folder / graph.path.format(_SUFFIX[precision])
        target.parent.mkdir(exist_ok=True)
        _renamed(folder / GRAPHS[side], target, graph)
    for name in (*FILES, CHECKSUMS):
        (folder / name).unlink(missing_ok=True)
    written.write(folder / names.texts)
    if layout == "immich":
        _write_immich(folder, model)
    else:
        write_json(folder / "config.json", sizes_config(model.network, written.tokenizer))
        write_preprocess(model.preprocess, folder, processor="CLIPProcessor")
    return [MENDING, SPECIAL]


def read_layout(folder: Path, layout: str, precision: Precision) -> ReadBack:
    """A folder of a layout, by its own names and tokenizer."""
    names = LAYOUTS[layout]
    paths = {side: folder / one.path.format(_SUFFIX[precision]) for side, one in names.graphs.items()}
    image, text = graph_runner(paths["image"]), graph_runner(paths["text"])
    settings = read_json(folder / names.texts / "tokenizer_config.json")
    backend = tokenizers.Tokenizer.from_file(str(folder / names.texts / "tokenizer.json"))
    pad, length = settings["pad_token"], int(settings["model_max_length"])
    backend.enable_padding(length=length, pad_token=pad, pad_id=backend.token_to_id(pad))
    backend.enable_truncation(max_length=length)

    def texts(listed: Sequence[str]) -> Tensor:
        ids = torch.tensor([one.ids for one in backend.encode_batch(list(listed))])
        return torch.from_numpy(text(ids.numpy()))

    return ReadBack(version("onnxruntime"), lambda pixels: torch.from_numpy(image(pixels.numpy())), texts)


def _write_immich(folder: Path, model: Model) -> None:
    preprocess, network = model.preprocess, model.network
    own = {"size": [preprocess.size, preprocess.size], "mode": "RGB", "fill_color": 0}
    how = own | written_preprocess_config(preprocess, where="immich")
    write_json(folder / "visual" / "preprocess_cfg.json", how)
    text = {"context_length": network.context, "vocab_size": network.vocabulary}
    vision = {"image_size": preprocess.size}
    write_json(folder / "config.json", {"embed_dim": model.dim, "vision_cfg": vision, "text_cfg": text})


def _renamed(source: Path, target: Path, names: GraphNames) -> None:
    """Write a graph with other names of its input and its output."""
    library = require("onnx", extra="export", purpose="another layout of ONNX graphs")
    model = library.load(str(source))
    graph = model.graph
    before, after = graph.input[0].name, graph.output[0].name
    new = {before: names.given, after: names.output}
    for node in graph.node:
        for ends in (node.input, node.output):
            for place, name in enumerate(ends):
                ends[place] = new.get(name, name)
    graph.input[0].name, graph.output[0].name = names.given, names.output
    if names.takes_int32:
        _cast(library, graph, names.given)
    library.save(model, str(target))


def _cast(library: Any, graph: Any, given: str) -> None:
    """Let a graph take int32 ids."""
    inside = f"{given}_int64"
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == given:
                node.input[place] = inside
    graph.input[0].type.tensor_type.elem_type = library.TensorProto.INT32
    cast = library.helper.make_node("Cast", [given], [inside], to=library.TensorProto.INT64)
    graph.node.insert(0, cast)
