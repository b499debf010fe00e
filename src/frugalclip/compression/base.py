"""Two seams of a stage: where its gates come from, and how the network changes before it begins.

Both are resolved like objectives: one file named like the `kind` in the recipe, with a `Config` and one final
class, or a file or a module of the user's own.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from frugalclip.compression.vocabulary import VocabularyConfig
from frugalclip.core.config import Settings
from frugalclip.core.errors import RecipeError
from frugalclip.core.plugins import PluginKind, find_class
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.types import Gates, SampledGates
from frugalclip.towers.base import Side
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.units import KeptUnits

PACKAGE = "frugalclip.compression"


@dataclass(frozen=True)
class TowerCut:
    """What is left of a tower."""

    kept: KeptUnits
    gates: Gates | None = None  # of the whole tower, folded into the weights that stay


class GateConfig(Settings):
    """Base of the settings under `gates` in a recipe."""

    kind: str = Field(description="file of the gates; ./FILE.py or a dotted name for your own")


class GateSource(nn.Module, ABC):
    """Gives the gates of every step. Abstract: every subclass is final.

    Its parameters are trained with the network's. The same generator gives the same gates, so that all
    processes and a resumed run draw alike.
    """

    Config: ClassVar[type[GateConfig]]

    def __init__(self, config: Any, network: DualEncoder) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def sample(self, *, generator: torch.Generator) -> SampledGates:
        """Draw the gates of one step, differentiable with respect to the parameters."""

    def clamp(self) -> None:
        """Hold parameters in their range; called after every optimiser step."""

    def evaluated(self, network: DualEncoder) -> DualEncoder:
        """The network as these gates leave it now, for evaluation while they are learned.

        The default is the whole network, for gates that only disturb training.
        """
        return network

    def settle(self) -> dict[Side, TowerCut]:
        """What stays of each tower once nothing is drawn any more.

        Raises:
            RecipeError: for gates that only disturb training and choose nothing.
        """
        raise RecipeError(
            f"gates of kind {self.config.kind} choose no units to keep, and a stage fuses them; set "
            "gates.kind=hard_concrete."
        )


class ChangeConfig(Settings):
    """Base of the settings under `change` of a stage."""

    kind: str = Field(description="file of the change; ./FILE.py or a dotted name for your own")
    vocabulary: VocabularyConfig | None = Field(
        None, description="a smaller token embedding, after everything else; null: it stays"
    )


class NetworkChange(ABC):
    """Makes the network of a stage from that of the stage before. Abstract: every subclass is final.

    The result depends on the arguments only. It also works on the meta device, where `plan` counts.
    """

    Config: ClassVar[type[ChangeConfig]]
    needs_fit: ClassVar[bool] = False  # whether heads are fitted in closed form before the stage's first step

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def __call__(
        self, network: DualEncoder, *, gates: GateSource | None, preprocess: Preprocess
    ) -> DualEncoder:
        """The network to go on with.

        Args:
            network: of the stage before; it may be changed in place.
            gates: of the stage before, if it had any.
            preprocess: how images enter.
        """


GATES = PluginKind(GateSource, GateConfig, PACKAGE, "gates", "a gate source")
CHANGES = PluginKind(NetworkChange, ChangeConfig, PACKAGE, "change", "a network change")


def find_gates(kind: str) -> type[GateSource]:
    """The gate source in the file `kind` of this package, or at a dotted path.

    Raises:
        RecipeError: if there is no such file, or it does not hold exactly one.
    """
    return find_class(kind, GATES)


def find_change(kind: str) -> type[NetworkChange]:
    """The network change in the file `kind` of this package, or at a dotted path.

    Raises:
        RecipeError: if there is no such file, or it does not hold exactly one.
    """
    return find_class(kind, CHANGES)
