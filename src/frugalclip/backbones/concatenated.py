"""Several text encoders as one backbone: their vectors are concatenated."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from frugalclip.core.errors import ModelError
from frugalclip.core.types import Strings
from frugalclip.data.tokens import Tokenizer
from frugalclip.towers.pretrained import Backbone, BackboneOutput


class ConcatenatedBackbone(Backbone):
    """Text encoders that each tokenise a text for themselves, with their vectors concatenated.

    Args:
        backbones: two or more, each with one vector a text.
        tokenizers: of each; empty for a backbone on the meta device, which encodes nothing.
    """

    def __init__(self, backbones: Sequence[Backbone], tokenizers: Sequence[Tokenizer]) -> None:
        super().__init__()
        self.backbones, self.tokenizers = nn.ModuleList(backbones), list(tokenizers)
        self.width = sum(backbone.width for backbone in backbones)
        self.fingerprint = "+".join(backbone.fingerprint for backbone in backbones)

    def forward(self, inputs: Strings, *, with_tokens: bool = False) -> BackboneOutput:
        """Encode texts: (batch, sum of the widths)."""
        if with_tokens:
            raise ModelError(
                "several encoders split a text in different ways and give no tokens; name one backbone in "
                "model.text.from."
            )
        vectors: list[Tensor] = []
        for backbone, tokenizer in zip(self.backbones, self.tokenizers, strict=True):
            tokens = tokenizer.encode(inputs.texts)
            first = next(backbone.parameters(), None)  # an engine of its own has none
            vectors.append(backbone(tokens if first is None else tokens.to(first.device)).pooled)
        if any(one.ndim != 2 for one in vectors):
            raise ModelError(
                "concatenated encoders give one vector a text each, and one of these gives several; name it "
                "alone in model.text.from."
            )
        return BackboneOutput(torch.cat([one.float().cpu() for one in vectors], dim=1))
