"""ONNX: a graph for each tower, which ONNX Runtime and browsers run without our code."""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from frugalclip.core.checksums import write_checksums
from frugalclip.core.errors import ModelError
from frugalclip.core.records import write_json
from frugalclip.exporting.base import (
    ExportNotes,
    ExportSettings,
    ExportTarget,
    Precision,
    ReadBack,
    version,
    write_record,
)
from frugalclip.exporting.graphs import image_graph, text_graph
from frugalclip.exporting.layouts import LAYOUTS, arrange, check_layout, read_layout
from frugalclip.exporting.quantised import quantise_folder
from frugalclip.exporting.reduced import halve
from frugalclip.interop.onnx_folder import FILES, GRAPHS, LEXICON, PREPROCESS, OnnxFolder, OnnxRecord
from frugalclip.models import Model


class Onnx(ExportTarget):
    """Writes `image.onnx` and `text.onnx`."""

    name: ClassVar[str] = "onnx"
    engine: ClassVar[str] = "onnx"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    layouts: ClassVar[tuple[str, ...]] = ("frugalclip", *LAYOUTS)

    def check(self, model: Model) -> None:
        """Every tower has a counterpart that computes with torch; others are found while they are traced."""

    def write(self, model: Model, folder: Path, settings: ExportSettings) -> ExportNotes:
        if settings.layout in LAYOUTS:
            check_layout(settings.layout, model)
        notes = _left_out(model)
        graphs = {"image": image_graph} | ({} if notes else {"text": text_graph})
        for side, graph in graphs.items():
            _save(graph(model), folder / GRAPHS[side])
        model.tokenizer.save(folder)
        write_json(folder / PREPROCESS, model.preprocess.model_dump(mode="json"))
        if model.lexicon is not None:
            model.lexicon.save(folder / LEXICON)
        measured: dict[str, Any] = {}
        finish = partial(_finish, model, folder, settings, notes)
        if settings.precision == "int8":
            assert settings.data is not None, "the verb opens rows"
            measured = quantise_folder(model, folder, settings.data, finish=finish)
        else:
            for side in graphs if settings.precision == "fp16" else ():
                halve(folder / GRAPHS[side])
            finish()
        if settings.layout in LAYOUTS:
            notes = [*notes, *arrange(folder, settings.layout, model, settings.precision)]
            write_record(folder, self, model, settings)
        return ExportNotes(notes, measured)

    def read(self, folder: Path, settings: ExportSettings) -> ReadBack:
        if settings.layout in LAYOUTS:
            return read_layout(folder, settings.layout, settings.precision)
        found = OnnxFolder(folder)
        pixels, tokenizer = found.encoder("image"), found.tokenizer
        if not found.has("text"):
            return ReadBack(version("onnxruntime"), pixels)
        ids = found.encoder("text")
        return ReadBack(version("onnxruntime"), pixels, lambda texts: ids(tokenizer.encode(texts).ids))

    def example(self, folder: Path) -> str:
        if not (folder / GRAPHS["image"]).is_file():
            return f"# {folder} has the names of another program: see its documentation"
        return f"""import frugalclip

model = frugalclip.load("onnx:{folder}")
vectors = model.encode_image(["a.jpg"]), model.encode_text(["a red car"])"""


def _left_out(model: Model) -> list[str]:
    """Why there is no text graph, or nothing."""
    if model.reads == "images":
        return ["The model encodes images alone, so there is no text.onnx."]
    if not model.tokenizer.gives_ids:
        source = ", ".join(tower.config.source for tower in model.network.pretrained_towers().values())
        return [
            f"Texts are encoded by a part that reads strings ({source}), which a graph of token ids has no "
            "counterpart for; there is no text.onnx."
        ]
    return []


def _save(program: Any, path: Path) -> None:
    try:
        program.save(path)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path.name} cannot be written ({error}); free some disk space.") from error


def _finish(model: Model, folder: Path, settings: ExportSettings, notes: list[str]) -> None:
    """Write what tells that the folder is whole."""
    record = OnnxRecord(
        model=model.fingerprint,
        given=settings.given,
        precision=settings.precision,
        dim=model.dim,
        scale=model.scale,
        training_data=model.training_data,
        notes=notes,
    )
    record.write(folder)
    write_checksums(folder, FILES)
