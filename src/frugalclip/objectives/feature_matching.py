"""Regress a teacher's embeddings: the plain baseline of distillation, and a strong one.

Source: CLIP-KD, arXiv 2307.12732, section 3.2 (feature distillation): the squared distance between unit
vectors of student and teacher, for images and for texts. A learned projection bridges different widths; it
belongs to the objective and does not ship.
"""

from pydantic import Field
from torch import Tensor, nn

from frugalclip.core.errors import RecipeError
from frugalclip.functional import unit
from frugalclip.objectives.base import (
    Dims,
    Features,
    Needs,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
)


class Config(ObjectiveConfig):
    teacher: str = Field("teacher", description="name of the teacher")
    teacher_dim: int = Field(
        0, ge=0, description="width of the teacher's embedding if it differs from model.dim; 0: the same"
    )
    image: str = Field("main", description="image view")
    text: str = Field("caption", description="text view")


class FeatureMatching(Objective):
    """Squared distance between the unit vectors of student and teacher."""

    Config = Config

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config
        is_same = config.teacher_dim in (0, dims.embedding)
        sizes = (dims.embedding, config.teacher_dim)
        self.image_bridge, self.text_bridge = (None if is_same else nn.Linear(*sizes) for _ in range(2))

    def needs(self) -> Needs:
        c = self.config
        return Needs(
            images=frozenset({c.image}),
            texts=frozenset({c.text}),
            teachers=frozenset({f"{c.teacher}:{c.image}", f"{c.teacher}:{c.text}"}),
        )

    def forward(self, views: Features) -> ObjectiveOutput:
        c, target = self.config, views.targets[self.config.teacher]
        images = (views.images[c.image].embedding, target.images[c.image].embedding)
        texts = (views.texts[c.text].embedding, target.texts[c.text].embedding)
        image, text = self._distance(*images, self.image_bridge), self._distance(*texts, self.text_bridge)
        return ObjectiveOutput(image + text, {"image": image, "text": text})

    def _distance(self, own: Tensor, theirs: Tensor, bridge: nn.Linear | None) -> Tensor:
        """() mean over (batch, dim) and (batch, dim of the teacher) rows of the squared distance, 0 to 4."""
        if bridge is not None:
            own = bridge(own.to(bridge.weight.dtype))
        if own.shape[1] != theirs.shape[1]:
            raise RecipeError(
                f"objectives.feature_matching compares embeddings of {own.shape[1]} with {theirs.shape[1]} "
                f"of the teacher '{self.config.teacher}'; set teacher_dim={theirs.shape[1]}."
            )
        return (unit(own) - unit(theirs.detach())).square().sum(dim=1).mean()
