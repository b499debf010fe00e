"""open_clip: a folder that `local-dir:` reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from frugalclip.core.errors import require
from frugalclip.exporting.base import (
    ExportNotes,
    ExportSettings,
    ExportTarget,
    ReadBack,
    version,
    write_record,
)
from frugalclip.exporting.huggingface import OTHER_IMAGES
from frugalclip.exporting.own_reader import library_reader
from frugalclip.interop.open_clip import BESIDE, WRITTEN_WEIGHTS, write_open_clip
from frugalclip.interop.open_clip_settings import written_model_config, written_preprocess_config
from frugalclip.interop.tokenizer_files import written_tokenizer
from frugalclip.models import Model


class OpenClip(ExportTarget):
    """Writes `open_clip_config.json`, `open_clip_model.safetensors` and the tokenizer's files."""

    name: ClassVar[str] = "open_clip"
    engine: ClassVar[str] = "open_clip"

    def check(self, model: Model) -> None:
        written_model_config(model.network, written_tokenizer(model.tokenizer).tokenizer)
        written_preprocess_config(model.preprocess)

    def write(self, model: Model, folder: Path, settings: ExportSettings) -> ExportNotes:
        notes = write_open_clip(model.network, model.tokenizer, model.preprocess, folder)
        write_record(folder, self, model, settings)
        return ExportNotes([*notes, OTHER_IMAGES])

    def read(self, folder: Path, settings: ExportSettings) -> ReadBack:
        source = f"open_clip:{folder / BESIDE}@{folder / WRITTEN_WEIGHTS}"
        return library_reader("open_clip", _read, folder, source=source)

    def example(self, folder: Path) -> str:
        return f"""import open_clip

model, preprocess = open_clip.create_model_from_pretrained("local-dir:{folder}")
tokenizer = open_clip.get_tokenizer("local-dir:{folder}")"""


def _read(folder: Path) -> ReadBack:
    library = require("open_clip", extra="openclip", purpose="reading the export back")
    model, process = library.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    tokenizer = library.get_tokenizer(f"local-dir:{folder}")

    @torch.no_grad()
    def pixels(images: Tensor) -> Tensor:
        return model.encode_image(images, normalize=True)

    @torch.no_grad()
    def texts(listed: list[str]) -> Tensor:
        return model.encode_text(tokenizer(listed), normalize=True)

    def images(listed: Sequence[Image.Image]) -> Tensor:
        return pixels(torch.stack([process(image) for image in listed]))

    return ReadBack(version("open_clip_torch"), pixels, texts, images)
