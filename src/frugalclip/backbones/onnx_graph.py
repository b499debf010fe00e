"""ONNX graphs that `frugalclip export` wrote, as backbones: they encode without the code of our towers."""

from functools import cached_property
from typing import Any, ClassVar

from frugalclip.backbones.base import BackboneKind, NoOptions, Side
from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Tokens
from frugalclip.data.tokens import Tokenizer
from frugalclip.interop.onnx_folder import GRAPHS, GraphSide, OnnxFolder
from frugalclip.interop.source import ModelSource
from frugalclip.towers.pretrained import Backbone, BackboneOutput


class OnnxBackbone(Backbone):
    """One graph of a folder, computed on the CPU.

    Args:
        folder: of graphs.
        side: which of them.
    """

    def __init__(self, folder: OnnxFolder, *, side: GraphSide) -> None:
        super().__init__()
        self.width = folder.record.dim
        self.fingerprint = folder.checksums[GRAPHS[side]].sha256[:16] if folder.has(side) else ""
        self.preprocess = folder.preprocess
        self._folder, self._encode = folder, None
        self._side: GraphSide = side

    def forward(self, inputs: Any, *, with_tokens: bool = False) -> BackboneOutput:
        """Encode pixels (batch, 3, height, width) or token ids as unit rows (batch, width).

        Raises:
            RecipeError: if tokens are requested, which the graphs do not give.
        """
        if with_tokens:
            raise RecipeError(
                f"onnx:{self._folder.path} gives one vector a sample and no token outputs; use the model "
                "that it was exported from."
            )
        if self._encode is None:
            self._encode = self._folder.encoder(self._side)
        return BackboneOutput(self._encode(inputs.ids if isinstance(inputs, Tokens) else inputs))


class OnnxGraph(BackboneKind[NoOptions]):
    """A graph of a folder that `frugalclip export --to onnx` wrote."""

    form: ClassVar[str] = "onnx:DIR"
    sides: ClassVar[tuple[Side, ...]] = ("image", "text")
    Options = NoOptions

    @classmethod
    def matches(cls, source: ModelSource) -> bool:
        """Sources of the scheme onnx."""
        return source.scheme == "onnx"

    def tokenizer(self) -> Tokenizer:
        return self._folder.tokenizer

    def load(self) -> OnnxBackbone:
        self.options()
        if self.use.is_tuned:
            raise RecipeError(
                f"{self.source} holds ONNX graphs, which are not trained; leave model.{self.use.side}.tune "
                "and lora out, or start from the model that was exported."
            )
        return OnnxBackbone(self._folder, side=self.use.side)

    def on_meta(self) -> OnnxBackbone:
        """The graph itself, which is not opened before it encodes."""
        return self.load()

    @cached_property  # every opening reads the whole folder, for its checksums
    def _folder(self) -> OnnxFolder:
        return OnnxFolder(self.source.folder)
