"""Kernel ridge regression: a fitted text head that maps texts to the mean embedding of their images.

Source: the direction, from texts to the space of images, follows Zhang, Xiang & Gong 2017, arXiv 1611.05088.
A regression towards texts draws every prediction to the mean, so that a few texts become the nearest
neighbour of everything (hubs); towards images it does not. Weighted kernel ridge regression: Saunders et al.
1998; with fewer anchors than texts, Williams & Seeger 2001 (Nystroem).

A text of the training data is mapped exactly to its images, any other text only near its own. An image of a
new concept is then assigned to a known name. Chao et al. 2016, arXiv 1605.04253, subtract a constant from the
scores of known names ("calibrated stacking"). Here the same regression, read as a Gaussian process (Rasmussen
& Williams 2006, eq. 2.26), gives the variance of a text, and `novelty` adds it to the score: one channel of
the embedding holds it for texts, and a constant for images.

An image backbone that was trained to tell classes apart knows more names than the data has. With `classes`
the name of each is a further text. Its image is the direction in which the backbone's own score of the class
grows among the training images, by ridge regression from embeddings to scores. Names near "zebra" then lie
where the backbone sees zebras, though no training text names one (semantic embeddings of a classifier's
classes, as in Norouzi et al. 2014, arXiv 1312.5650, but learned in the space of images).

A fit takes seconds and needs no learning rate. Training may follow and move the fitted weights (`train`).
"""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from torch import Tensor, nn

from frugalclip.core.errors import RecipeError
from frugalclip.core.numerics import evenly_spaced
from frugalclip.functional import unit
from frugalclip.towers.base import FitData, FitInput, Head, HeadConfig, Side

MOST_IMAGES = 20_000  # evenly spaced ones, from whose scores the directions of classes are found
CLASS_RIDGE = 0.1  # of that regression, in units of the mean variance of a direction


def texts_to_fit(data: FitData, *, kind: str, most: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """What a text head is fitted to: each text beside the mean embedding of the images it is drawn with.

    Args:
        data: the training data.
        kind: of the head, for the message.
        most: texts at most, those that are drawn most often; None takes all.

    Returns:
        (texts, width) features, (texts, dim) float64 targets, and (texts,) float64 how often each is drawn.

    Raises:
        RecipeError: if the backbone gives several vectors a text.
    """
    rows, texts, chances = data.pairs(weighted=True)
    drawn = torch.from_numpy(chances)
    images = np.unique(rows)
    embedded = data.image_embeddings(images)
    numbers, text_of = np.unique(texts, return_inverse=True)
    index = torch.from_numpy(text_of)
    weights = torch.zeros(len(numbers), dtype=torch.float64).index_add_(0, index, drawn)
    shown = embedded[torch.from_numpy(np.searchsorted(images, rows))] * drawn[:, None]  # (pairs, dim)
    sums = torch.zeros(len(numbers), embedded.shape[1], dtype=torch.float64).index_add_(0, index, shown)
    targets = sums / weights[:, None]
    if most is not None and len(numbers) > most:
        chosen = torch.argsort(-weights, stable=True)[:most].sort().values
        numbers, targets, weights = numbers[chosen.numpy()], targets[chosen], weights[chosen]
    vectors = data.text_features(numbers)
    if vectors.ndim == 3:
        raise RecipeError(
            f"head.kind {kind} takes one vector a text, and the backbone gives {vectors.shape[1]}; "
            "set options.prompt=single."
        )
    return vectors, targets, weights


def class_directions(embeddings: Tensor, scores: Tensor) -> Tensor:
    """Directions in which the scores of classes grow.

    Args:
        embeddings: (images, dim).
        scores: (images, classes) of a classifier; their mean and spread do not matter.

    Returns:
        (classes, dim) float64 unit vectors, by ridge regression; 0 for a class of constant scores.
    """
    x, y = embeddings.double(), scores.double()
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    squares = x.T @ x
    ridge = CLASS_RIDGE * squares.diagonal().mean().clamp_min(1e-12)
    identity = torch.eye(len(squares), dtype=squares.dtype, device=squares.device)
    return unit(torch.linalg.solve(squares + ridge * identity, x.T @ y).T)


class KernelRidgeConfig(HeadConfig):
    """Settings of a text head: a sum over training texts, weighted by their similarity."""

    sides: ClassVar[frozenset[Side]] = frozenset({"text"})
    kind: Literal["kernel_ridge"]
    anchors: int = Field(6000, ge=1, description="texts of the sum, at most: those that are drawn most often")
    sharpness: tuple[PositiveFloat, ...] = Field(
        (1.0,),
        min_length=1,
        description="g of exp(-g |a - b|^2) between centred unit vectors; one for each of several backbones",
    )
    parts: tuple[PositiveInt, ...] = Field(
        (), description="width of each of several backbones; their kernels are multiplied"
    )
    ridge: float = Field(0.4, gt=0, description="noise variance of a text that is drawn once an epoch")
    novelty: float = Field(
        0.0,
        ge=0,
        description="added to the score (-1 to 1) of a text of unknown position; needs an image head of kind "
        "whitening",
    )
    train: bool = Field(False, description="whether training moves the fitted weights")
    classes: float = Field(
        0.0,
        ge=0,
        description="how often the name of each class counts as drawn that the image backbone was trained "
        "to tell apart; 0: not at all",
    )

    @model_serializer(mode="wrap")
    def _dump(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out an unset later setting, so that older models keep their fingerprints."""
        return {name: value for name, value in write(self).items() if name != "classes" or value}

    @field_validator("sharpness", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | float | str) else value

    @model_validator(mode="after")
    def _agrees(self) -> "KernelRidgeConfig":
        if len(self.sharpness) != max(1, len(self.parts)):
            raise ValueError(
                f"sharpness has {len(self.sharpness)} numbers, and parts has {len(self.parts)}; "
                f"give one number for each part"
            )
        return self

    def forward_gflops(self, *, width: int, dim: int) -> float:
        """Forward arithmetic for one vector and the largest number of anchors, in 10^9 operations."""
        return 2 * self.anchors * (width + dim + (self.anchors if self.novelty else 0)) * 1e-9

    def kept_numbers(self, *, width: int) -> float:
        """Numbers that the backward pass keeps for one vector."""
        return float(self.anchors if self.train else 0)

    def build(self, *, width: int, dim: int) -> "KernelRidge":
        """The head of these sizes.

        Raises:
            RecipeError: if the parts do not add up to the width of the backbones.
        """
        if self.parts and sum(self.parts) != width:
            raise RecipeError(
                f"head.parts add up to {sum(self.parts)}, and model.text.width is {width}; "
                f"give the width of each backbone."
            )
        return KernelRidge(self, width=width, dim=dim)


class KernelRidge(Head):
    """Fitted text head."""

    mean: Tensor
    anchors: Tensor
    noise: Tensor  # (anchors,) ridge divided by how often an anchor is drawn

    def __init__(self, config: KernelRidgeConfig, *, width: int, dim: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("anchors", torch.zeros(0, width))
        self.register_buffer("noise", torch.zeros(0))
        self._precision: Tensor | None = None
        self.weight = nn.Parameter(torch.zeros(0, dim), requires_grad=config.train)

    def fit_inputs(self, side: Side) -> frozenset[FitInput]:
        """Text features, and the embeddings of their images."""
        return frozenset({"text_features", "image_features", "image_embeddings"})

    def fit(self, data: FitData, *, side: Side) -> str:
        """Fit to every text of the training data, weighted by how often it is drawn."""
        vectors, targets, weights = texts_to_fit(data, kind=self.config.kind)
        known, more = data.known_classes() if self.config.classes else None, ""
        if known is not None:
            rows = evenly_spaced(data.rows, MOST_IMAGES)
            scores = data.image_features(rows) @ known.weight.T
            directions = class_directions(data.image_embeddings(rows), scores)
            length = targets.norm(dim=1).mean()
            vectors = torch.cat([vectors, data.features_of(known.names).to(vectors)])
            targets = torch.cat([targets, length * directions.to(targets)])
            weights = torch.cat([weights, weights.new_full((len(known.names),), self.config.classes)])
            more = f" and {len(known.names):,} classes of the image backbone"
        self.fit_to(vectors, targets, weights)
        if self.config.novelty:
            images_head = data.head("image")
            assert images_head is not None, "image features are stored, so the image tower has a backbone"
            images_head.set_level(self.config.novelty**0.5)
        return f"{len(vectors) - (0 if known is None else len(known.names)):,} texts{more}"

    @torch.no_grad()
    def fit_to(self, vectors: Tensor, targets: Tensor, weights: Tensor) -> None:
        """Fit texts to the embeddings of their images.

        Args:
            vectors: (texts, width) features of distinct texts.
            targets: (texts, dim) mean embedding of the images that a text is drawn with.
            weights: (texts,) how often a text is drawn, above 0.
        """
        c = self.config
        x, y, w = vectors.double(), targets.double(), weights.double()
        self.mean.copy_((w[:, None] * x).sum(dim=0) / w.sum())
        texts = self._placed(x, self.mean.to(x))
        chosen = torch.sort(torch.argsort(-w, stable=True)[: c.anchors]).values
        anchors = texts[chosen]
        among = self._near(anchors, anchors)
        if len(chosen) == len(texts):
            solved = torch.linalg.solve(among + torch.diag(c.ridge / w), y)
        else:
            left, right = c.ridge * among, torch.zeros(len(anchors), y.shape[1], dtype=y.dtype)
            for part in torch.arange(len(texts)).split(2048):
                near = self._near(texts[part], anchors)
                left += near.T @ (w[part, None] * near)
                right += near.T @ (w[part, None] * y[part])
            left += torch.eye(len(anchors), dtype=left.dtype) * (1e-10 * float(left.diagonal().mean()))
            solved = torch.linalg.solve(left, right)
        device = self.mean.device
        self.anchors = anchors.to(device, self.mean.dtype)
        self.noise = (c.ridge / w[chosen]).to(device, self.mean.dtype)
        self._precision = None
        solved = solved.to(
            device, self.mean.dtype
        ).contiguous()  # LAPACK's column order would change sums after loading
        self.weight = nn.Parameter(solved, requires_grad=c.train)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., dim)."""
        near = self._near(self._placed(x.to(self.mean.dtype), self.mean), self.anchors)
        place = near @ self.weight
        if not self.config.novelty:
            return place
        level = self.config.novelty**0.5  # image embeddings hold it too, so that the product is `novelty`
        return torch.cat([unit(place[..., :-1]), level * self.unknown(near)[..., None]], dim=-1)

    def unknown(self, near: Tensor) -> Tensor:
        """Variance of texts under the Gaussian process, given the anchors, from 0 to 1.

        Args:
            near: (..., anchors) kernel of the texts and the anchors.
        """
        if (
            self._precision is None
            or self._precision.device != near.device
            or self._precision.dtype != near.dtype
        ):
            among = self._near(self.anchors.double(), self.anchors.double()) + torch.diag(self.noise.double())
            self._precision = torch.cholesky_inverse(torch.linalg.cholesky(among)).to(near.dtype)
        return (1 - ((near @ self._precision) * near).sum(dim=-1)).clamp(0, 1)

    def _placed(self, x: Tensor, mean: Tensor) -> Tensor:
        """Centre; scale each part to the root of its sharpness.

        One product is then that of the parts' kernels.
        """
        parts = (x - mean).split(self.config.parts or x.shape[-1], dim=-1)
        return torch.cat(
            [unit(part) * g**0.5 for part, g in zip(parts, self.config.sharpness, strict=True)], dim=-1
        )

    def _near(self, a: Tensor, b: Tensor) -> Tensor:
        """exp(-sum of g |a - b|^2) of `_placed` texts: (..., width), (anchors, width) to (..., anchors)."""
        return torch.exp(2 * (a @ b.T - sum(self.config.sharpness)))

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: dict[str, Any], prefix: str, *rest: Any
    ) -> None:
        """Take the saved number of anchors.

        If it is the same, fill in place, since an optimiser may hold the weight.
        """
        saved = state_dict.get(f"{prefix}anchors")
        if saved is not None and len(saved) != len(self.anchors):
            self.anchors, self.noise = self.anchors.new_zeros(saved.shape), self.noise.new_zeros(len(saved))
            self.weight = nn.Parameter(
                self.weight.new_zeros(len(saved), self.weight.shape[1]), requires_grad=self.config.train
            )
        self._precision = None
        super()._load_from_state_dict(state_dict, prefix, *rest)
