"""Projection heads of self-supervised objectives: linear layers with batch normalisation between them.

Source: the heads of SimCLR (arXiv 2002.05709), SimSiam (2011.10566) and BYOL (2006.07733) as SLIP, DeCLIP,
A-CLIP and ProtoCLIP build them. Batch statistics are those of all processes, so that N processes compute what
one would.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from frugalclip.core.distributed import gather, is_active, own_rows


class SynchronisedBatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation over all processes; unlike torch's synchronised one it also runs on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """(batch, width) to the same."""
        self._check_input_dim(input)
        if not (self.training and is_active()):
            return super().forward(input)
        return super().forward(gather(input))[own_rows(len(input), device=input.device)]


class ProjectionHead(nn.Sequential):
    """Linear layers; each but the last is followed by batch normalisation and a rectifier.

    Args:
        widths: of the input, of each hidden layer and of the output: a head of one linear layer has two.
        bias: of the linear layers.
        last_norm: also normalise the output.
    """

    def __init__(self, widths: Sequence[int], *, bias: bool = True, last_norm: bool = False) -> None:
        layers: list[nn.Module] = []
        for place, (before, after) in enumerate(itertools.pairwise(widths)):
            is_last = place == len(widths) - 2
            layers.append(nn.Linear(before, after, bias=bias))
            layers += [SynchronisedBatchNorm1d(after)] if last_norm or not is_last else []
            layers += [] if is_last else [nn.ReLU(inplace=True)]
        super().__init__(*layers)

    def forward(self, input: Tensor) -> Tensor:
        """(batch, width) to (batch, out), in float32 or better, which batch statistics need."""
        x = input if input.dtype == torch.float64 else input.float()
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)
