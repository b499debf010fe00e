"""Fold learned gates into the weights and cut what they have closed: the second half of an automatic stage.

Source: TinyCLIP, arXiv 2309.12314, section 3.2. The authors' `prune` also multiplies the final projection by
the gates of the channels, which their gated tower does not; outputs jump there by 15 to 23 %. Here the
smaller network computes what the gated one does.
"""

from frugalclip.compression.base import ChangeConfig, GateSource, NetworkChange
from frugalclip.compression.cutting import cut_network
from frugalclip.core.errors import RecipeError
from frugalclip.core.preprocess import Preprocess
from frugalclip.towers.dual import DualEncoder


class Config(ChangeConfig):
    """No settings: the gates know how much they keep."""


class Fuse(NetworkChange):
    """The network that the gates of the stage before leave."""

    Config = Config

    def __call__(
        self, network: DualEncoder, *, gates: GateSource | None, preprocess: Preprocess
    ) -> DualEncoder:
        """The smaller network; see `NetworkChange`."""
        if gates is None:
            raise RecipeError(
                "change fuse cuts what gates have closed, and the stage before has none; set gates.kind of "
                "that stage, such as hard_concrete."
            )
        return cut_network(network, gates.settle())
