"""Contrast an image with the nearest recent neighbour of its caption.

Source: DeCLIP, arXiv 2110.05208, section 3.2 (NNS), after NNCLR (arXiv 2104.14548). The queue is a true ring
over the texts of all processes: the released one drops what does not fit before its end, is not in the
checkpoint, and each process keeps its own. It starts empty and only filled places are searched, where the
released one starts with random vectors. The released code scores images against neighbours only;
`symmetric` adds the other direction.
"""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from frugalclip.core.distributed import gather, own_rows, world_size
from frugalclip.functional import unit
from frugalclip.objectives.base import Dims, Features, Needs, Objective, ObjectiveConfig, ObjectiveOutput


class Config(ObjectiveConfig):
    images: tuple[str, ...] = Field(("main", "second"), min_length=1, description="image views")
    texts: tuple[str, ...] = Field(
        ("caption", "augmented"), min_length=1, description="text views; the last one enters the queue first"
    )
    size: int = Field(65536, gt=0, description="texts that the queue holds; DeCLIP: 65536")
    symmetric: bool = Field(False, description="also contrast neighbours with images; DeCLIP's code does not")


def ring_places(pointer: int, *, rows: int, size: int) -> Tensor:
    """Where the next rows go: from the pointer on, around the end.

    Args:
        pointer: next place to fill.
        rows: how many, at most `size`.
        size: places of the ring.

    Returns:
        (rows,) int64.
    """
    return (torch.arange(rows) + pointer) % size


def nearest_rows(queries: Tensor, bank: Tensor) -> Tensor:
    """The most similar row of a bank for each query, without gradient.

    Args:
        queries: (batch, dim) unit vectors.
        bank: (rows, dim) unit vectors, at least one.

    Returns:
        (batch, dim) rows of the bank.
    """
    with torch.no_grad():
        return bank[(queries.detach().to(bank.dtype) @ bank.T).argmax(dim=1)]


def neighbour_loss(
    images: Tensor,
    neighbours: Tensor,
    scale: Tensor,
    *,
    neighbour_candidates: Tensor | None = None,
    own: Tensor | None = None,
) -> Tensor:
    """Softmax cross-entropy of each image against its caption's neighbour, among all neighbours.

    Args:
        images: (batch, dim) unit vectors.
        neighbours: (batch, dim) unit vectors, row i is the neighbour of the caption of image i.
        scale: () multiplies cosines.
        neighbour_candidates: (candidates, dim) of all processes; default the own ones.
        own: (batch,) int64 position of the own rows among the candidates; default 0, 1, 2, …

    Returns:
        () mean over rows, in nats.
    """
    candidates = neighbours if neighbour_candidates is None else neighbour_candidates
    own = torch.arange(len(images), device=images.device) if own is None else own
    return F.cross_entropy(scale * images @ candidates.to(images.dtype).T, own)


class Neighbours(Objective):
    Config = Config
    bank: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config
        self.register_buffer(
            "bank", torch.zeros(config.size, dims.embedding)
        )  # (size, dim) unit rows where filled
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))  # next place to fill
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def needs(self) -> Needs:
        return Needs(images=frozenset(self.config.images), texts=frozenset(self.config.texts))

    def forward(self, views: Features) -> ObjectiveOutput:
        filled = int(self.filled)
        fill = self.filled / self.config.size
        if not filled:  # the queue is still empty: zero, but of what later steps train
            embeddings = [views.images[name].embedding for name in self.config.images]
            return ObjectiveOutput((views.scale + sum(x.sum() for x in embeddings)) * 0, {"fill": fill})
        images = [unit(views.images[name].embedding) for name in self.config.images]
        own = own_rows(len(images[0]), device=images[0].device)
        terms, cosines = [], []
        for name in self.config.texts:
            text = unit(views.texts[name].embedding)  # (batch, dim)
            found = nearest_rows(text, self.bank[:filled])
            cosines.append((text.detach() * found).sum(dim=1).mean())
            everybody = gather(found)
            for image in images:
                terms.append(
                    neighbour_loss(image, found, views.scale, neighbour_candidates=everybody, own=own)
                )
                if self.config.symmetric:
                    terms[-1] = (
                        terms[-1]
                        + neighbour_loss(
                            found.to(image.dtype),
                            image,
                            views.scale,
                            neighbour_candidates=gather(image),
                            own=own,
                        )
                    ) / 2
        logs = {
            "fill": fill,
            "cosine": torch.stack(cosines).mean(),
            "chance": torch.tensor(float(len(own) * world_size())).log(),
        }
        return ObjectiveOutput(torch.stack(terms).mean(), logs)

    @torch.no_grad()
    def after_step(self, views: Features) -> None:
        """Put the texts of this step into the queue, those of all processes in their order."""
        for name in reversed(self.config.texts):
            self.push(gather(unit(views.texts[name].embedding.detach())))

    def push(self, rows: Tensor) -> None:
        """Put (rows, dim) unit vectors into the ring; of more than it holds, the last ones stay."""
        size = self.config.size
        start = int(self.pointer) + max(0, len(rows) - size)
        kept = rows[-size:]
        self.bank[ring_places(start, rows=len(kept), size=size).to(self.bank.device)] = kept.to(
            self.bank.dtype
        )
        self.pointer.fill_((start + len(kept)) % size)
        self.filled.fill_(min(size, int(self.filled) + len(rows)))
