"""Assign images to the clusters of their captions, and captions to the clusters of their images.

Source: ProtoCLIP, arXiv 2206.10996, section III (`training/{loss,clustering,train}.py`). Every episode, the
projected features of each modality are clustered; a sample's target is the cluster of its partner.
Prototypical Back Translation expresses those clusters by the student's own features, so that the gap between
the modalities cancels; an external teacher can give clusters too. Centres are means of unit vectors
and are not made unit vectors again, and a cluster without samples keeps a logit of zero, both as published.

Not shared with the released code: rows drawn with replacement, labels that outlive their episode, prototypes
of zeros where there is no episode.
"""

import copy
import math
from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from frugalclip.core.distributed import from_main, gather
from frugalclip.core.errors import RecipeError
from frugalclip.core.numerics import cluster_means, kmeans, nearest_centres
from frugalclip.core.random import generator
from frugalclip.functional import unit
from frugalclip.objectives.base import Dims, Features, Needs, Objective, ObjectiveConfig, ObjectiveOutput
from frugalclip.towers.heads.projection import ProjectionHead

NONE = -1  # label of a row that the clustering has not seen


class Config(ObjectiveConfig):
    image: str = Field("main", description="image view")
    text: str = Field("caption", description="text view")
    number: int | None = Field(
        None,
        ge=1,
        description="prototypes of each modality; null: a tenth of the episode's samples, or of all where "
        "they are fewer. Paper: 20,000 of 200,000",
    )
    hidden: int = Field(2048, gt=0, description="width of the heads' hidden layers; paper: 2048")
    out: int = Field(128, gt=0, description="width of the projected space; paper: 128")
    layers: int = Field(1, ge=0, description="hidden layers of the heads; paper: 1")
    temperature: float = Field(0.01, ge=0, description="of the soft targets; 0 is hard targets. Paper: 0.01")
    back_translation: bool = Field(
        True, description="prototypes are expressed by the student's own features (PBT)"
    )
    external: str | None = Field(
        None,
        description="teacher whose pooled text or image features are clustered too, such as a store of "
        "sentence vectors",
    )
    external_number: int | None = Field(
        None, ge=1, description="prototypes of the external teacher; null: as many as for a modality"
    )
    external_weight: float = Field(1.0, ge=0, description="multiplies the external term; paper: 1")
    scale: float = Field(
        1 / 0.07,
        gt=0,
        le=100,
        description="initial multiplier of dot products with prototypes; learned, at most 100. Paper: 1/0.07",
    )
    features: Literal["exact", "reuse"] = Field(
        "exact",
        description="exact: every episode is encoded before it is trained on; reuse: features of a row's "
        "last training pass are clustered",
    )
    steps: int = Field(20, ge=1, description="updates of a clustering; paper: 20")
    restarts: int = Field(3, ge=1, description="clusterings of which the best is kept; paper: 3")


def prototype_loss(
    projected: Tensor,
    prototypes: Tensor,
    scale: Tensor,
    labels: Tensor,
    *,
    teacher_prototypes: Tensor | None = None,
    temperature: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of rows against prototypes (`training/loss.py: ProtoLoss`).

    Args:
        projected: (batch, dim) unit vectors of the student.
        prototypes: (prototypes, dim) in the student's space.
        scale: () multiplies dot products.
        labels: (batch,) int64 prototype of each row in the teacher's clustering.
        teacher_prototypes: (prototypes, teacher's dim), for soft targets.
        temperature: of the soft targets; 0 is hard targets.

    Returns:
        () mean over rows in nats, ln(prototypes) where all prototypes are equal; and () share of rows whose
        own prototype wins.
    """
    logits = scale * projected @ prototypes.to(projected.dtype).T  # (batch, prototypes)
    accuracy = (logits.detach().argmax(dim=1) == labels).to(logits.dtype).mean()
    if temperature <= 0 or teacher_prototypes is None:
        return F.cross_entropy(logits, labels), accuracy
    teacher = teacher_prototypes.to(projected.dtype)
    targets = torch.softmax(teacher[labels] @ teacher.T / temperature, dim=1)
    return F.cross_entropy(logits, targets), accuracy


class Prototypes(Objective):
    Config = Config
    ids: Tensor
    labels: Tensor
    own: Tensor
    translated: Tensor
    external: Tensor
    remembered: Tensor
    filled: Tensor
    is_ready: Tensor

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config
        rows = (
            min(dims.episode, dims.samples) if dims.samples else dims.episode
        )  # an episode of fewer samples shows them several times
        self.number = config.number or max(1, rows // 10)
        self.external_number = config.external_number or self.number
        if not dims.episode:
            raise RecipeError(
                "objectives.prototypes clusters every episode, and the recipe has none; set episode.samples, "
                "such as episode.samples=20000."
            )
        for name, number in (
            ("number", self.number),
            ("external_number", self.external_number if config.external else 1),
        ):
            if number > dims.episode:
                raise RecipeError(
                    f"objectives.prototypes.{name} is {number:,}, but an episode has {dims.episode:,} "
                    "samples; set fewer, or more episode.samples."
                )
            if dims.samples and number > dims.samples:
                raise RecipeError(
                    f"objectives.prototypes.{name} is {number:,}, but there are {dims.samples:,} samples to "
                    "train on; "
                    f"set {max(1, dims.samples // 10):,} or so."
                )
        if config.external and config.features == "reuse":
            raise RecipeError(
                "objectives.prototypes.features is reuse, which stores the student's features only; set "
                "features=exact or leave external out."
            )
        text_head = ProjectionHead([dims.embedding, *[config.hidden] * config.layers, config.out])
        self.text_head, self.image_head = text_head, copy.deepcopy(text_head)  # equal at the start
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))
        rows = dims.episode if config.features == "exact" else max(dims.samples, dims.episode)
        self.register_buffer("ids", torch.zeros(rows, dtype=torch.int64))  # ascending where filled
        self.register_buffer(
            "labels", torch.full((3, rows), NONE, dtype=torch.int32)
        )  # of images, of captions, of the external teacher
        self.register_buffer(
            "own", torch.zeros(2, self.number, config.out)
        )  # centres of images and of captions
        self.register_buffer(
            "translated", torch.zeros(2, self.number, config.out)
        )  # captions' clusters by images, and the other way
        self.register_buffer(
            "external", torch.zeros(2, self.external_number if config.external else 0, config.out)
        )  # by images, by captions
        self.register_buffer(
            "remembered", torch.zeros(2, rows if config.features == "reuse" else 0, config.out)
        )
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self._projected: Tensor | None = None  # (2, batch, out) of the step under way
        self.register_buffer("is_ready", torch.zeros((), dtype=torch.bool))

    def needs(self) -> Needs:
        c = self.config
        teachers = frozenset({f"{c.external}:{c.text}"}) if c.external else frozenset()
        return Needs(
            images=frozenset({c.image}),
            texts=frozenset({c.text}),
            fields=frozenset({"id"}),
            teachers=teachers,
            episode=c.features == "exact",
        )

    def project(self, views: Features) -> tuple[Tensor, Tensor]:
        """Unit vectors (batch, out) of images and of captions in the space of the prototypes."""
        image, text = views.images[self.config.image].embedding, views.texts[self.config.text].embedding
        return unit(self.image_head(image)), unit(self.text_head(text))

    @torch.no_grad()
    def begin_episode(self, features: Iterable[Features]) -> None:
        """Cluster an episode.

        `features` holds this process's share of it, and nothing where features are reused.
        """
        if self.config.features == "reuse":
            self._cluster_remembered()
            return
        ids, images, texts, teachers = [], [], [], []
        for views in features:
            image, text = self.project(views)
            ids.append(gather(views.fields["id"]))
            images.append(gather(image))
            texts.append(gather(text))
            if self.config.external:
                teachers.append(
                    gather(views.targets[self.config.external].texts[self.config.text].embedding.float())
                )
        if sum(map(len, ids)) < max(self.number, self.external_number if self.config.external else 0):
            self.is_ready.fill_(False)  # the rest of the run is too short to be clustered, so the term is 0
            return
        order = torch.argsort(torch.cat(ids))
        self._store(
            torch.cat(ids)[order],
            torch.cat(images)[order],
            torch.cat(texts)[order],
            torch.cat(teachers)[order] if teachers else None,
        )

    def _store(self, ids: Tensor, images: Tensor, texts: Tensor, teacher: Tensor | None) -> None:
        """Cluster rows sorted by id."""
        rows, labels = len(ids), []
        self.ids[:rows] = ids
        self.filled.fill_(rows)
        for place, points in enumerate((images, texts)):
            centres = self._centres(points, self.number, f"prototypes/{place}")
            self.own[place] = centres
            labels.append(nearest_centres(points, centres))
        self.translated[0] = cluster_means(images, labels[1], self.number)
        self.translated[1] = cluster_means(texts, labels[0], self.number)
        if teacher is not None:
            labels.append(
                nearest_centres(teacher, self._centres(teacher, self.external_number, "prototypes/external"))
            )
            for place, points in enumerate((images, texts)):
                self.external[place] = cluster_means(points, labels[2], self.external_number)
        self.labels[: len(labels), :rows] = torch.stack(labels).int()
        self.is_ready.fill_(True)

    def _centres(self, points: Tensor, k: int, stream: str) -> Tensor:
        """(k, dim) centres, those of the main process; more rows than an episode has are thinned evenly."""
        thinned = points[:: -(-len(points) // self.dims.episode)]
        c = self.config
        found = kmeans(
            thinned, k, steps=c.steps, restarts=c.restarts, generator=generator(self.dims.seed, stream)
        )
        return from_main(found.centres)

    def _cluster_remembered(self) -> None:
        filled = int(self.filled)
        if filled >= max(self.number, min(self.dims.episode, self.dims.samples)):
            self._store(
                self.ids[:filled].clone(), self.remembered[0, :filled], self.remembered[1, :filled], None
            )

    def forward(self, views: Features) -> ObjectiveOutput:
        c, scale = self.config, self.log_scale.exp()
        image, text = self.project(views)  # (batch, out) each
        self._projected = torch.stack([image.detach(), text.detach()])
        nothing = 0 * (image.sum() + text.sum() + scale)  # every process waits for the gradient of the heads
        if not self.is_ready:
            return ObjectiveOutput(nothing, {"known": torch.tensor(0.0)})
        labels, known = self._labels(views.fields["id"])
        if not known.any():
            return ObjectiveOutput(nothing, {"known": known.float().mean()})
        image, text = image[known], text[known]
        spaces = self.translated if c.back_translation else self.own.flip(0)
        pairs = ((image, spaces[0], labels[1], self.own[1]), (text, spaces[1], labels[0], self.own[0]))
        found = [
            prototype_loss(h, space, scale, y[known], teacher_prototypes=t, temperature=c.temperature)
            for h, space, y, t in pairs
        ]
        loss = (found[0][0] + found[1][0]) / 2
        logs = {"accuracy": (found[0][1] + found[1][1]) / 2, "scale": scale, "known": known.float().mean()}
        if c.external:
            outside = [
                prototype_loss(h, self.external[place], scale, labels[2][known])[0]
                for place, h in enumerate((image, text))
            ]
            loss = loss + c.external_weight * (outside[0] + outside[1]) / 2
            logs["external_loss"] = (outside[0] + outside[1]) / 2
        return ObjectiveOutput(loss, logs)

    def _labels(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(3, batch) int64 labels of rows, and (batch,) whether the clustering knows them."""
        filled = int(self.filled)
        place = torch.searchsorted(self.ids[:filled], ids).clamp(max=filled - 1)
        labels = self.labels[:, place].long()
        return labels, (self.ids[place] == ids) & (labels[0] != NONE)

    @torch.no_grad()
    def after_step(self, views: Features) -> None:
        """Clamp the scale; where features are reused, remember those of this step."""
        self.log_scale.clamp_(0, math.log(100))
        if self.config.features == "reuse":
            assert self._projected is not None, "scored before"
            self._remember(gather(views.fields["id"]), torch.stack([gather(one) for one in self._projected]))

    def _remember(self, ids: Tensor, features: Tensor) -> None:
        ids, order = torch.sort(ids, stable=True)
        is_last = torch.cat(
            [ids[1:] != ids[:-1], torch.ones_like(ids[:1], dtype=torch.bool)]
        )  # a row of some weight may come twice in a step
        ids, features = ids[is_last], features[:, order[is_last]]
        filled = int(self.filled)
        place = torch.searchsorted(self.ids[:filled], ids)
        is_known = (
            self.ids[place.clamp(max=max(filled - 1, 0))] == ids
            if filled
            else torch.zeros_like(ids, dtype=torch.bool)
        )
        self.remembered[:, place[is_known]] = features[:, is_known]
        new = ~is_known
        number = min(int(new.sum()), len(self.ids) - filled)
        if number:
            rows = new.nonzero()[:number, 0]
            self.ids[filled : filled + number] = ids[rows]
            self.remembered[:, filled : filled + number] = features[:, rows]
            order = torch.argsort(
                self.ids[: filled + number]
            )  # kept ascending, so that rows are found by bisection
            self.ids[: filled + number] = self.ids[order]
            self.remembered[:, : filled + number] = self.remembered[:, order]
            self.labels[:, : filled + number] = torch.cat(
                [self.labels[:, :filled], torch.full_like(self.labels[:, :number], NONE)], dim=1
            )[:, order]
            self.filled.fill_(filled + number)
