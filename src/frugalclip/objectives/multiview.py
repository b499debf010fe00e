"""Contrast several views of an image with several views of its caption.

Source: DeCLIP, arXiv 2110.05208, section 3.2 (MVS): two views of each give four pairs. The code weighs all
four alike (`declip_solver.py`, a quarter of the CLIP weight each); the paper keeps the first pair as the CLIP
loss of its own. `weights` sets either. A-CLIP (arXiv 2212.08653) contrasts its two masked views with one
caption.
"""

from typing import Self

import torch
from pydantic import Field, model_validator

from frugalclip.functional import SamePolicy, unit
from frugalclip.objectives.base import (
    Dims,
    Features,
    Fields,
    Needs,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    contrast,
    contrast_logs,
    field_codes,
)


class Config(ObjectiveConfig):
    images: tuple[str, ...] = Field(("main", "second"), min_length=1, description="image views")
    texts: tuple[str, ...] = Field(("caption", "augmented"), min_length=1, description="text views")
    weights: tuple[tuple[float, ...], ...] = Field(
        (), description="a row for each image view, a number for each text view; empty: the mean of all"
    )
    positives: Fields = Field(
        (),
        description="rows that agree in one of these fields are positives of each other: id, caption, label, "
        "…",
    )
    same: SamePolicy = Field(
        "drop",
        description="further positives leave the denominator (drop) or share the target (outside, inside)",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        rows, columns = len(self.images), len(self.texts)
        if self.weights and (len(self.weights) != rows or any(len(row) != columns for row in self.weights)):
            raise ValueError(
                f"expected weights of {rows} image views by {columns} text views, such as "
                f"{[[1 / (rows * columns)] * columns] * rows}"
            )
        if twice := [name for names in (self.images, self.texts) for name in names if names.count(name) > 1]:
            raise ValueError(f"'{twice[0]}' is named twice; name each view once and set its share in weights")
        if not self.pairs():
            raise ValueError(
                "weights are all 0, so nothing would be contrasted; give one pair a weight above 0"
            )
        return self

    def pairs(self) -> dict[tuple[str, str], float]:
        """(image view, text view) -> weight, without those of weight 0."""
        even = 1 / (len(self.images) * len(self.texts))
        all_of_them = {
            (v, t): self.weights[i][j] if self.weights else even
            for i, v in enumerate(self.images)
            for j, t in enumerate(self.texts)
        }
        return {pair: weight for pair, weight in all_of_them.items() if weight}


class Multiview(Objective):
    Config = Config

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config

    def needs(self) -> Needs:
        pairs = self.config.pairs()
        return Needs(
            images=frozenset(image for image, _ in pairs),
            texts=frozenset(text for _, text in pairs),
            fields=frozenset(self.config.positives),
        )

    def forward(self, views: Features) -> ObjectiveOutput:
        c = self.config
        pairs = c.pairs()
        images = {
            name: unit(views.images[name].embedding) for name in dict.fromkeys(image for image, _ in pairs)
        }  # (batch, dim) each
        texts = {name: unit(views.texts[name].embedding) for name in dict.fromkeys(text for _, text in pairs)}
        codes = field_codes(views, c.positives)
        found = {
            (v, t): contrast(images[v], texts[t], views.scale, codes=codes, policy=c.same) for v, t in pairs
        }
        loss = torch.stack([weight * found[pair].loss / 2 for pair, weight in pairs.items()]).sum()
        logs = contrast_logs(
            list(found.values()), batch=len(next(iter(images.values()))), with_same=bool(c.positives)
        )
        logs["chance"] = logs["chance"] * sum(pairs.values())
        return ObjectiveOutput(
            loss, logs | {f"{v}-{t}": one.loss.detach() / 2 for (v, t), one in found.items()}
        )
