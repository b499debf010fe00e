"""Predict, from the visible patches of an image, the features of the EMA tower at the hidden ones.

Source: MaskCLIP (Dong et al., arXiv 2208.12262, section 3.2), the baseline of A-CLIP. There is no public
code, so nothing here is checked against the authors' and the objective is experimental. From the paper:
75 % of the patches are hidden, a decoder of one transformer layer, targets are soft assignments of the
teacher's patch features by an online tokeniser (a linear head and its moving average), weight 0.05. Three
different papers are called MaskCLIP; this is the one on masked self-distillation.
"""

import copy
import math
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from frugalclip.core.averages import follow, momentum_at
from frugalclip.functional import unit
from frugalclip.objectives.base import (
    Batch,
    Dims,
    Features,
    Needs,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    Selection,
    row_draws,
)
from frugalclip.towers.blocks import Block, LayerGates


class Config(ObjectiveConfig):
    view: str = Field("main", description="image view; the visible part is called VIEW@visible")
    hidden: float = Field(0.75, gt=0, lt=1, description="share of the patches that are hidden; paper: 0.75")
    teacher: str = Field("ema", description="name of the teacher, which encodes the whole view")
    codes: int = Field(1024, gt=1, description="entries of the online tokeniser")
    temperature: float = Field(0.1, gt=0, description="of the student's and the teacher's assignments")
    momentum: tuple[float, float] = Field(
        (0.999, 0.9999), description="of the tokeniser's average; paper: 0.999 rising to 0.9999"
    )


def distillation_loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy between the teacher's and the student's assignments.

    Args:
        student: (places, codes) logits.
        teacher: (places, codes) logits; no gradient flows into them.
        temperature: divides both.

    Returns:
        () mean over places in nats; ln(codes) where the student is indifferent.
    """
    student, teacher = (
        logits if logits.dtype == torch.float64 else logits.float() for logits in (student, teacher.detach())
    )
    targets = torch.softmax(teacher / temperature, dim=1)
    return -(targets * torch.log_softmax(student / temperature, dim=1)).sum(dim=1).mean()


class MaskedDistillation(Objective):
    Config = Config
    trains_embeddings = False

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config
        width, self.patches = dims.image_width, dims.patch_grid[0] * dims.patch_grid[1]
        self.visible = max(
            1, math.floor(self.patches * (1 - config.hidden) + 1e-9)
        )  # 1 - 0.8 is a little less than 0.2
        head_dim = next(size for size in (64, 32, 16, 8, 1) if width % size == 0)
        self.blank = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)  # at every hidden patch
        self.places = nn.Parameter(torch.randn(1, self.patches, width) * width**-0.5)
        self.decoder = Block(
            width, heads=width // head_dim, head_dim=head_dim, neurons=4 * width, activation="gelu"
        )
        self.tokeniser = nn.Linear(width, config.codes, bias=False)
        self.average = copy.deepcopy(self.tokeniser).requires_grad_(False)

    def needs(self) -> Needs:
        view, seen = self.config.view, f"{self.config.teacher}:{self.config.view}"
        visible = f"{view}@visible"
        return Needs(
            images=frozenset({visible}), tokens=frozenset({visible, seen}), teachers=frozenset({seen})
        )

    def kept_patches(self) -> dict[str, int]:
        return {f"{self.config.view}@visible": self.visible}

    def prepare(self, batch: Batch, targets: Mapping[str, Features]) -> dict[str, Selection]:
        draws = row_draws(batch, self.patches, seed=self.dims.seed, stream=f"visible/{self.config.view}")
        return {
            f"{self.config.view}@visible": Selection(
                keep=draws.argsort(dim=1)[:, : self.visible].sort(dim=1).values
            )
        }

    def forward(self, views: Features) -> ObjectiveOutput:
        c = self.config
        name = f"{c.view}@visible"
        seen, keep = views.images[name].tokens, views.selections[name].keep
        truth = views.targets[c.teacher].images[c.view].tokens
        assert seen is not None, "in the needs"
        assert truth is not None, "in the needs"
        assert keep is not None, "made in prepare"
        own = self.blank.dtype  # towers may compute in less
        seen, truth = (
            seen[:, seen.shape[1] - self.visible :].to(own),
            truth[:, truth.shape[1] - self.patches :].to(own),
        )  # without [CLS]
        x = self.blank.expand(len(seen), self.patches, -1)
        x = x.scatter(1, keep[:, :, None].expand(-1, -1, seen.shape[2]), seen) + self.places
        x, _ = self.decoder(x, mask=None, gates=LayerGates(), with_attention=False)
        is_hidden = torch.ones(len(seen), self.patches, dtype=torch.bool, device=seen.device).scatter(
            1, keep, False
        )
        student = self.tokeniser(unit(x[is_hidden]))  # (places, codes)
        with torch.no_grad():
            teacher = self.average(unit(truth[is_hidden]))
        loss = distillation_loss(student, teacher, temperature=c.temperature)
        agreement = (student.detach().argmax(dim=1) == teacher.argmax(dim=1)).float().mean()
        return ObjectiveOutput(loss, {"chance": torch.tensor(float(c.codes)).log(), "accuracy": agreement})

    def after_step(self, views: Features) -> None:
        """The tokeniser's average follows it."""
        start, end = self.config.momentum
        follow(self.average, self.tokeniser, momentum=momentum_at(views.progress, start=start, end=end))
