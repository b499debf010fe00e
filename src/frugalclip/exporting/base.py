"""What an export target is: it names what it has no counterpart for, writes a folder, and reads it back."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Literal

from PIL import Image
from torch import Tensor

from frugalclip.core.records import write_json
from frugalclip.data.manifest import Manifest
from frugalclip.interop.onnx_folder import RECORD
from frugalclip.models import Model

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class ExportSettings:
    """How a model is exported."""

    given: str | None = None  # MODEL as it was named
    precision: Precision = "fp32"
    layout: str = "frugalclip"  # of the folder, where a target has several
    data: Manifest | None = None  # the user's rows


@dataclass(frozen=True)
class ReadBack:
    """An exported folder as the library reads it that it was written for."""

    library: str  # with its version
    encode_pixels: Callable[[Tensor], Tensor]  # (batch, 3, height, width) to (batch, dim) unit rows
    encode_texts: Callable[[list[str]], Tensor] | None = None  # to (batch, dim) unit rows
    encode_images: Callable[[Sequence[Image.Image]], Tensor] | None = None  # with its own preprocessing


@dataclass(frozen=True)
class ExportNotes:
    """What a target wrote."""

    notes: list[str] = field(default_factory=list)  # what has no counterpart and does not stop the export
    measured: dict[str, Any] = field(default_factory=dict)  # more for `parity.json`


class ExportTarget(ABC):
    """A format that models are exported to. Abstract; every subclass is final and has a file of its own."""

    name: ClassVar[str]  # of `--to`
    engine: ClassVar[str]  # what encodes, as `parity.json` names it
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32",)
    layouts: ClassVar[tuple[str, ...]] = ("frugalclip",)

    @abstractmethod
    def check(self, model: Model) -> None:
        """Refuse a model that the format has no counterpart for.

        Raises:
            ModelError: naming the setting, and a target that takes it.
        """

    @abstractmethod
    def write(self, model: Model, folder: Path, settings: ExportSettings) -> ExportNotes:
        """Write weights, tokenizer, preprocessing and `export.json` into an empty folder.

        Raises:
            ModelError: for what turns out not to be exportable.
            MissingExtra: where a library is not installed.
        """

    @abstractmethod
    def read(self, folder: Path, settings: ExportSettings) -> ReadBack:
        """The folder as the library reads it that it was written for."""

    @abstractmethod
    def example(self, folder: Path) -> str:
        """Lines of Python that encode with the folder."""


def version(package: str) -> str:
    """A package with its version, such as `onnxruntime 1.31.1`."""
    return f"{package} {metadata.version(package)}"


def write_record(folder: Path, target: ExportTarget, model: Model, settings: ExportSettings) -> None:
    """Write `export.json`, which says what was exported."""
    content = {
        "format": 1,
        "to": target.name,
        "model": model.fingerprint,
        "given": settings.given,
        "precision": settings.precision,
        "layout": settings.layout,
    }
    write_json(folder / RECORD, content)
