"""Close a from-scratch run with a fit: descriptors beside the trained tower, ridge regression from words.

Contrast on a few thousand pairs leaves much on the table: shapes and colours that the small tower does not
see, and names whose words were seen in other names. A fit in closed form takes seconds and uses both. The
trained image tower stays as it is, and descriptors of shape and colour stand beside its embedding (see
`towers.described`). All parts are whitened, descriptors are weighed by cross-validation over captions, and
directions in which images of one caption differ are shrunk (see `towers.heads.whitened_parts`). Ridge
regression maps weighted token counts (see `towers.tfidf`) to these images, as in Zhang, Xiang &
Gong 2017, arXiv 1611.05088. The heads are fitted before the first step of the stage. Settings were chosen on
the training and validation concepts of the emoji pack (docs/log.md).
"""

from pydantic import Field

from frugalclip.compression.base import ChangeConfig, GateSource, NetworkChange
from frugalclip.core.config import validated
from frugalclip.core.preprocess import Preprocess
from frugalclip.towers.described import WIDTHS, DescribedTower
from frugalclip.towers.dual import DualEncoder, ModelConfig

DESCRIPTORS = ("shapes", "coarse shapes", "colours", "layout", "patches")


class Config(ChangeConfig):
    """Settings of the fit."""

    dim: int = Field(512, gt=1, description="width of the joint embedding afterwards")
    power: float = Field(
        0.25, ge=0, le=1, description="whitening: 0 leaves the directions their spread, 1 makes all equal"
    )
    tower: float = Field(
        1.2, ge=0, description="weight of the tower's embedding, beside descriptors of weights about 1"
    )
    sphere: float = Field(
        3.0, gt=0, description="added to the variance within captions; the larger, the less is shrunk"
    )
    ridge: float = Field(1.0, gt=0, description="of the regression: squared weights beside squared errors")


class ClosingFit(NetworkChange):
    """Puts fitted heads in the place of what contrast trained on top of the image tower."""

    Config = Config
    needs_fit = True

    def __call__(
        self, network: DualEncoder, *, gates: GateSource | None, preprocess: Preprocess
    ) -> DualEncoder:
        """The network with both towers replaced; see `NetworkChange`."""
        own, c = network.config, self.config
        image = {
            "kind": "described",
            "tower": own.image.model_dump(mode="json", by_alias=True),
            "embedding": own.dim,
            "mean": preprocess.mean,
            "std": preprocess.std,
            "descriptors": DESCRIPTORS,
            "head": {
                "kind": "whitened_parts",
                "parts": [own.dim, *(WIDTHS[name] for name in DESCRIPTORS)],
                # captions that the tower was trained on cannot weigh it
                "weights": [c.tower, *[None] * len(DESCRIPTORS)],
                "power": c.power,
                "sphere": c.sphere,
            },
        }
        text = {"kind": "tfidf", "head": {"ridge": c.ridge}}
        content = own.model_dump(mode="json", by_alias=True) | {"image": image, "text": text, "dim": c.dim}
        changed = DualEncoder(
            validated(ModelConfig, content, where="change closing_fit: model"),
            vocabulary=network.vocabulary,
            context=network.context,
            seed=None,
        )
        assert isinstance(changed.image, DescribedTower)
        changed.image.tower.load_state_dict(network.image.state_dict())
        changed.log_scale.data.copy_(network.log_scale.data)
        return changed.to(network.log_scale.device)
