"""A tower of a whole model as backbone: of a run, a checkpoint, or a foreign model with two towers."""

from typing import Any, ClassVar

from torch import nn

from frugalclip.backbones.base import BackboneKind, NoOptions, Side, WholeModel
from frugalclip.data.tokens import Tokenizer
from frugalclip.interop.source import ModelSource
from frugalclip.towers.pretrained import Backbone, BackboneOutput


class TowerBackbone(Backbone):
    """A tower of a model, without its projection.

    Args:
        model: with two towers.
        side: which of them.
    """

    def __init__(self, model: WholeModel, *, side: Side) -> None:
        super().__init__()
        self.tower: nn.Module = model.network.image if side == "image" else model.network.text
        config = model.network.config
        self.width = config.image.width if side == "image" else config.text.width or config.dim
        self.fingerprint, self.preprocess = model.fingerprint, model.preprocess

    def forward(self, inputs: Any, *, with_tokens: bool = False) -> BackboneOutput:
        """Encode what the tower encodes: pixels, or token ids."""
        encoded = self.tower(inputs, with_tokens=with_tokens)
        return BackboneOutput(encoded.pooled, encoded.tokens)


class TowerOfModel(BackboneKind[NoOptions]):
    """A tower of a model that `frugalclip.load` opens."""

    form: ClassVar[str] = "a model whose tower is taken"
    sides: ClassVar[tuple[Side, ...]] = ("image", "text")
    has_weight_file: ClassVar[bool] = True
    Options = NoOptions

    @classmethod
    def matches(cls, source: ModelSource) -> bool:
        """Every source that names no encoder alone."""
        if source.scheme == "hf":
            return source.config is not None and "vision_config" in source.config
        return source.scheme not in ("timm", "package", "onnx", "hashed") and source.folder.suffix != ".gguf"

    def tokenizer(self) -> Tokenizer:
        return self.use.open_model(self.source.text).tokenizer

    def load(self) -> TowerBackbone:
        self.options()
        return TowerBackbone(self.use.open_model(self.source.text), side=self.use.side)

    def on_meta(self) -> TowerBackbone:
        """The tower's shape, from the model itself, which has to be there."""
        return self.load().to("meta")
