"""Statistics of batch normalisation for weights between two models.

Running statistics belong to the weights that they were collected with. In between they are collected anew,
on images of the training data, in the order in which a forward pass meets them. What both ends' own
statistics differ by from those of the same images, mixed in proportion, is added, so that each end keeps its
own. Related: Izmailov et al. 2018, arXiv 1803.05407, section 3.2 (statistics of averaged weights); Jordan et
al. 2023, arXiv 2211.08403 (REPAIR).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from frugalclip.core.types import ImageInput
from frugalclip.models import Model

_Norm = nn.modules.batchnorm._BatchNorm  # one base of every number of axes; synchronised ones too
_LEAST = 1e-12  # below any variance that a channel with a signal has


@dataclass(frozen=True)
class _Statistics:
    mean: Tensor  # (channels,)
    variance: Tensor  # (channels,)


def batch_norms(network: nn.Module) -> dict[str, _Norm]:
    """The layers of a network that keep running statistics, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _Norm) and module.running_mean is not None
    }


class NormCorrection:
    """Puts statistics into models between a start and an end.

    Args:
        start: the model at 0.
        end: the model at 1.
        images: batches of images of the training data, as the image tower takes them.
    """

    def __init__(self, start: Model, end: Model, images: Sequence[ImageInput]) -> None:
        self.start, self.end, self.images = start, end, images

    @property
    def is_needed(self) -> bool:
        """Whether the towers have statistics."""
        return bool(self.images) and bool(batch_norms(self.start.network))

    @cached_property
    def _ends(self) -> list[tuple[dict[str, _Statistics], dict[str, _Statistics]]]:
        """Own and collected statistics of start and end."""
        return [(_own(model.network), collected(model, self.images)) for model in (self.start, self.end)]

    @torch.no_grad()
    def apply(self, model: Model, alpha: float) -> None:
        """Fill the statistics of the model at `alpha`, strictly between 0 and 1, in place."""
        found = collected(model, self.images)
        for name, norm in batch_norms(model.network).items():
            mean, log_variance = found[name].mean.clone(), found[name].variance.clamp(min=_LEAST).log()
            for share, (own, its) in zip((1 - alpha, alpha), self._ends, strict=True):
                mean += share * (own[name].mean - its[name].mean)
                ratio = own[name].variance.clamp(min=_LEAST) / its[name].variance.clamp(min=_LEAST)
                log_variance += share * ratio.log()
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(log_variance.exp())


def _own(network: nn.Module) -> dict[str, _Statistics]:
    return {
        name: _Statistics(norm.running_mean.clone(), norm.running_var.clone())
        for name, norm in batch_norms(network).items()
        if norm.running_mean is not None and norm.running_var is not None
    }


@torch.no_grad()
def collected(model: Model, images: Sequence[ImageInput]) -> dict[str, _Statistics]:
    """Mean statistics of batches of images; the model stays as it is."""
    norms = batch_norms(model.network)
    with _collecting(model.network, norms):
        for batch in images:
            model.network.image(batch.to(model.device))
        return _own(model.network)


@contextmanager
def _collecting(network: nn.Module, norms: dict[str, _Norm]) -> Iterator[None]:
    """Let only batch normalisation learn, as plain means over the batches, and undo it afterwards."""
    was_training, state = network.training, {name: t.clone() for name, t in network.state_dict().items()}
    network.eval()
    momenta = {name: norm.momentum for name, norm in norms.items()}
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    try:
        yield
    finally:
        for name, norm in norms.items():
            norm.momentum = momenta[name]
        network.load_state_dict(state)
        network.train(was_training)
