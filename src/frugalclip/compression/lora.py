"""Train low-rank additions in the place of a model's weights.

Source: LoRA, arXiv 2106.09685. The towers are frozen, and every linear layer that the settings name gets an
addition that begins at zero, so that the network computes what it did.
"""

from pydantic import Field

from frugalclip.compression.base import ChangeConfig, GateSource, NetworkChange
from frugalclip.core.errors import RecipeError
from frugalclip.core.preprocess import Preprocess
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.lora import LoraConfig


class Config(ChangeConfig, LoraConfig):
    """Settings of the additions."""

    seed: int = Field(0, ge=0, description="draws the additions")


class LowRank(NetworkChange):
    """Adds what is trained to the linear layers of both towers."""

    Config = Config

    def __call__(
        self, network: DualEncoder, *, gates: GateSource | None, preprocess: Preprocess
    ) -> DualEncoder:
        """The network with additions; see `NetworkChange`."""
        if len(network.pretrained_towers()) == 2:
            raise RecipeError(
                "change.kind=lora adds to towers of ours, and both are pretrained backbones; set "
                "model.image.lora.rank or model.text.lora.rank in the recipe that trains them."
            )
        c = self.config
        settings = {name: getattr(c, name) for name in LoraConfig.model_fields}
        network.add_lora(LoraConfig(**settings), seed=c.seed)
        return network
