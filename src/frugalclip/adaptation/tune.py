"""Heads on frozen features: a linear probe, a residual network, and that network with NMTune's terms.

Source: arXiv 2309.17002 and its code (README flags): AdamW, weight decay 1e-4, cosine schedule, 30 epochs of
batches of 64; learning rate 1e-2 for the linear head and 1e-3 for the network. All arms see the same batches.
Nothing is chosen by the test rows: the last epoch counts, where the authors log every epoch's test accuracy.
"""

import math
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalclip.adaptation.nmtune import NMTuneWeights, ResidualMLP, Variant, nmtune_terms
from frugalclip.core.random import generator, stream_seed
from frugalclip.evaluation.classifiers import Examples

Arm = Literal["linear", "mlp", "nmtune-official", "nmtune-paper"]
ARMS: tuple[Arm, ...] = get_args(Arm)
_VARIANTS: dict[Arm, tuple[Variant, NMTuneWeights]] = {
    "nmtune-official": ("official", NMTuneWeights()),
    "nmtune-paper": ("paper", NMTuneWeights.paper()),
}


@dataclass(frozen=True)
class TuneSettings:
    """How heads are trained; the values of the authors' code."""

    epochs: int = 30
    batch: int = 64
    linear_lr: float = 1e-2
    network_lr: float = 1e-3
    weight_decay: float = 1e-4
    ratio: int = 4  # width of the hidden layer in widths of the features
    layers: int = 1


@final
class TunedHead(nn.Module):
    """A head on frozen features.

    Args:
        width: of the features.
        classes: how many there are.
        arm: the linear one has no network.
        settings: of the network.
    """

    def __init__(self, width: int, classes: int, arm: Arm, settings: TuneSettings) -> None:
        super().__init__()
        self.network: nn.Module = (
            nn.Identity()
            if arm == "linear"
            else ResidualMLP(width, ratio=settings.ratio, layers=settings.layers)
        )
        self.head = nn.Linear(width, classes)
        nn.init.kaiming_uniform_(self.head.weight, a=math.sqrt(5))
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, width) -> (batch, width) reshaped features and (batch, classes) logits."""
        reshaped = self.network(features)
        return reshaped, self.head(reshaped)

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """(rows, classes) for (rows, width)."""
        return self(features)[1]

    def accuracy(self, examples: Examples) -> float:
        """Percent of examples whose class has the highest logit."""
        right = self.logits(examples.features).argmax(dim=1) == examples.labels
        return 100 * float(right.double().mean())

    @torch.no_grad()
    def reshaped(self, features: Tensor) -> Tensor:
        """(rows, width) features as the head sees them."""
        return self(features)[0]


def tuned(
    train: Examples,
    *,
    classes: int,
    arm: Arm,
    seed: int = 0,
    strong: Tensor | None = None,
    settings: TuneSettings | None = None,
) -> TunedHead:
    """Train a head on frozen features.

    Args:
        train: features of the weak view, and labels.
        classes: how many there are.
        arm: which head, and which terms.
        seed: of initial weights and of the order of rows; the same for every arm.
        strong: (rows, width) features of a second view of the same rows; None gives the first one twice.
        settings: of the training.
    """
    settings = settings or TuneSettings()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "tune/weights"))
        model = TunedHead(train.features.shape[1], classes, arm, settings)
    lr = settings.linear_lr if arm == "linear" else settings.network_lr
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=settings.weight_decay)
    order, pieces = generator(seed, "tune/order"), math.ceil(len(train) / settings.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs * pieces)
    second = train.features if strong is None else strong
    model.train()
    for _ in range(settings.epochs):
        # batches of almost one size: batch normalisation cannot take a last one of a single row
        for rows in torch.randperm(len(train), generator=order).tensor_split(pieces):
            inputs = torch.cat([train.features[rows], second[rows]])
            loss = _loss(model, inputs, train.labels[rows].repeat(2), arm)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def _loss(model: TunedHead, inputs: Tensor, labels: Tensor, arm: Arm) -> Tensor:
    features, logits = model(inputs)
    if arm not in _VARIANTS:
        return F.cross_entropy(logits, labels)
    variant, weights = _VARIANTS[arm]
    return nmtune_terms(features, logits, inputs, labels, weights=weights, variant=variant).total
