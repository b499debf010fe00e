"""sentence-transformers: `modules.json` over a folder of Hugging Face, whose vectors get length one.

transformers reads the model back; sentence-transformers itself does not run in our tests.
"""

from pathlib import Path
from typing import ClassVar

from frugalclip.core.errors import ModelError
from frugalclip.core.records import write_json
from frugalclip.exporting.base import ExportNotes, ExportSettings, ExportTarget, ReadBack, write_record
from frugalclip.exporting.huggingface import HuggingFace, write_files
from frugalclip.interop.huggingface_settings import written_config
from frugalclip.interop.tokenizer_files import written_tokenizer
from frugalclip.models import Model

_MODEL, _UNIT = "0_CLIPModel", "1_Normalize"
_MODULES = "sentence_transformers.models"  # the names that every version reads


class SentenceTransformers(ExportTarget):
    """Writes `modules.json`, the model in `0_CLIPModel`, and a normalisation behind it."""

    name: ClassVar[str] = "sentence_transformers"
    engine: ClassVar[str] = "transformers"

    def check(self, model: Model) -> None:
        config = written_config(model.network, written_tokenizer(model.tokenizer).tokenizer)
        if config["model_type"] != "clip":
            raise ModelError(
                "sentence-transformers' CLIPModel has no counterpart for SigLIP's form; export the model "
                "with --to huggingface."
            )

    def write(self, model: Model, folder: Path, settings: ExportSettings) -> ExportNotes:
        for name in (_MODEL, _UNIT):
            (folder / name).mkdir()
        notes = write_files(model, folder / _MODEL)
        modules = [
            {"idx": 0, "name": "0", "path": _MODEL, "type": f"{_MODULES}.CLIPModel"},
            {"idx": 1, "name": "1", "path": _UNIT, "type": f"{_MODULES}.Normalize"},
        ]
        write_json(folder / "modules.json", modules)
        write_json(folder / _UNIT / "config.json", {})
        about = {"similarity_fn_name": "cosine", "model_type": "SentenceTransformer"}
        write_json(folder / "config_sentence_transformers.json", about)
        write_record(folder, self, model, settings)
        return notes

    def read(self, folder: Path, settings: ExportSettings) -> ReadBack:
        return HuggingFace().read(folder / _MODEL, settings)

    def example(self, folder: Path) -> str:
        return f"""from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{folder}")
vectors = model.encode(["a red car"])"""
