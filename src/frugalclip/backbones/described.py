"""A frozen backbone of images with descriptors of shape and colour beside it.

What simple descriptors see of a drawing and what a network of photos sees complete each other (docs/log.md,
"Pretrained parts, further"). Descriptors are computed from the same pixels as the backbone's features and are
stored with them, so that a fitted head weighs them like any other part.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from frugalclip.functional.descriptors import DESCRIPTORS, DescriptorName, squashed
from frugalclip.towers.pretrained import Backbone, BackboneOutput


class DescribedBackbone(Backbone):
    """A backbone of images whose vector has descriptors behind it.

    Args:
        backbone: with the preprocessing that its weights were trained with, by which pixels are known again.
        descriptors: names, in the order of their numbers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, descriptors: Sequence[DescriptorName]) -> None:
        super().__init__()
        self.backbone, self.descriptors = backbone, tuple(descriptors)
        self.width = backbone.width + sum(DESCRIPTORS[name].width for name in self.descriptors)
        self.fingerprint = "+".join([backbone.fingerprint, *self.descriptors])
        self.preprocess = backbone.preprocess
        if backbone.classes is not None:
            self.classes = backbone.classes.beside(self.width - backbone.width)
        if self.preprocess is not None:  # on the meta device nothing is encoded
            for name in ("mean", "std"):
                values = torch.tensor(getattr(self.preprocess, name))[:, None, None]  # (3, 1, 1)
                self.register_buffer(name, values, persistent=False)

    def forward(self, inputs: Tensor, *, with_tokens: bool = False) -> BackboneOutput:
        """Encode images (batch, 3, height, width): pooled (batch, width), and the backbone's tokens."""
        output = self.backbone(inputs, with_tokens=with_tokens)
        pixels = squashed(255 * (inputs.float() * self.std + self.mean))
        described = [DESCRIPTORS[name].of(pixels) for name in self.descriptors]
        return BackboneOutput(torch.cat([output.pooled.float(), *described], dim=1), output.tokens)
