"""Hugging Face: a folder that `CLIPModel.from_pretrained` or `SiglipModel.from_pretrained` reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from frugalclip.core.errors import require
from frugalclip.core.records import read_json
from frugalclip.exporting.base import (
    ExportNotes,
    ExportSettings,
    ExportTarget,
    ReadBack,
    version,
    write_record,
)
from frugalclip.exporting.own_reader import library_reader
from frugalclip.functional import unit
from frugalclip.interop.huggingface import write_huggingface
from frugalclip.interop.huggingface_settings import written_config
from frugalclip.interop.tokenizer_files import written_tokenizer
from frugalclip.models import Model

OTHER_IMAGES = (
    "Images are prepared by the library's own processor: transparent ones lie on black there and on white "
    "here, and vectors differ by what 'image_own_preprocessing' in parity.json shows."
)


class HuggingFace(ExportTarget):
    """Writes `config.json`, `model.safetensors`, the tokenizer's files and `preprocessor_config.json`."""

    name: ClassVar[str] = "huggingface"
    engine: ClassVar[str] = "transformers"

    def check(self, model: Model) -> None:
        written_config(model.network, written_tokenizer(model.tokenizer).tokenizer)

    def write(self, model: Model, folder: Path, settings: ExportSettings) -> ExportNotes:
        notes = write_files(model, folder)
        write_record(folder, self, model, settings)
        return notes

    def read(self, folder: Path, settings: ExportSettings) -> ReadBack:
        return library_reader("transformers", _read, folder, source=f"hf:{folder}")

    def example(self, folder: Path) -> str:
        kind = read_json(folder / "config.json")["architectures"][0]
        return f"""from transformers import AutoImageProcessor, AutoTokenizer, {kind}

model = {kind}.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
processor = AutoImageProcessor.from_pretrained("{folder}")"""


def write_files(model: Model, folder: Path) -> ExportNotes:
    """Write what transformers reads; without `export.json`, as it may be a part of another folder."""
    bias = (model.origin or {}).get("logit_bias")
    parts = model.network, model.tokenizer, model.preprocess
    return ExportNotes([*write_huggingface(*parts, folder, logit_bias=bias), OTHER_IMAGES])


def _read(folder: Path) -> ReadBack:
    library = require("transformers", extra="hf", purpose="reading the export back")
    kind = read_json(folder / "config.json")["architectures"][0]
    model = getattr(library, kind).from_pretrained(str(folder)).eval()
    tokenizer = library.AutoTokenizer.from_pretrained(str(folder))
    processor = library.AutoImageProcessor.from_pretrained(str(folder))
    is_filled = kind == "SiglipModel"
    size, end = model.config.vision_config.image_size, model.config.text_config.eos_token_id

    @torch.no_grad()
    def pixels(images: Tensor) -> Tensor:
        ids = torch.tensor([[end]])
        return unit(model(input_ids=ids, pixel_values=images).image_embeds)

    @torch.no_grad()
    def texts(listed: list[str]) -> Tensor:
        padding = "max_length" if is_filled else True
        tokens = tokenizer(listed, padding=padding, truncation=True, return_tensors="pt")
        given: dict[str, Any] = {"input_ids": tokens["input_ids"]}
        given |= {} if is_filled else {"attention_mask": tokens["attention_mask"]}
        return unit(model(**given, pixel_values=torch.zeros(1, 3, size, size)).text_embeds)

    def images(listed: Sequence[Image.Image]) -> Tensor:
        return pixels(processor(list(listed), return_tensors="pt")["pixel_values"])

    return ReadBack(version("transformers"), pixels, texts, images)
