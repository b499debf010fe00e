"""Contrast by words and patches: each patch with its best word, each word with its best patch.

Source: FILIP, arXiv 2111.07783, section 3.1, eq. 3 and 4, as DeCLIP's repository re-implements it
(`filip.py`: tokens mapped to 256, a scale of its own). Padding never takes part; the released code lets it.
[CLS] counts as a patch, start and end as words. The term has no part at inference,
where images and texts are compared by their embeddings.
"""

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from frugalclip.core.distributed import gather, own_rows, world_size
from frugalclip.functional import unit
from frugalclip.objectives.base import Dims, Features, Needs, Objective, ObjectiveConfig, ObjectiveOutput


class Config(ObjectiveConfig):
    image: str = Field("main", description="image view")
    text: str = Field("caption", description="text view")
    out: int = Field(256, gt=0, description="width in which tokens are compared; FILIP: 256")
    scale: float = Field(
        1 / 0.07, gt=0, le=100, description="initial multiplier of similarities; learned, at most 100"
    )
    chunk: int = Field(
        64,
        ge=1,
        description="texts compared at a time with all images: memory grows with batch x chunk x patches x "
        "words",
    )


def token_similarity(images: Tensor, texts: Tensor, is_word: Tensor) -> tuple[Tensor, Tensor]:
    """Late interaction of every image with every text.

    Args:
        images: (batch, patches, dim) unit vectors.
        texts: (texts, length, dim) unit vectors.
        is_word: (texts, length) bool, False at padding.

    Returns:
        (batch, texts) mean over patches of the best word, and (batch, texts) mean over words of the best
        patch.
    """
    cosines = torch.einsum("bpd,tld->btpl", images, texts)  # (batch, texts, patches, length)
    words = is_word[None, :, None, :]
    from_image = cosines.masked_fill(~words, float("-inf")).amax(dim=3).mean(dim=2)
    best_patch = cosines.amax(dim=2).masked_fill(~is_word[None], 0)  # (batch, texts, length)
    return from_image, best_patch.sum(dim=2) / is_word.sum(dim=1).clamp(min=1)


class TokenWise(Objective):
    Config = Config

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config
        self.image_map = nn.Linear(dims.image_width, config.out, bias=False)
        self.text_map = nn.Linear(dims.text_width, config.out, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))

    def needs(self) -> Needs:
        c = self.config
        return Needs(
            images=frozenset({c.image}), texts=frozenset({c.text}), tokens=frozenset({c.image, c.text})
        )

    def forward(self, views: Features) -> ObjectiveOutput:
        patches, words = views.images[self.config.image].tokens, views.texts[self.config.text].tokens
        assert patches is not None, "in the needs"
        assert words is not None, "in the needs"
        is_word = words.detach().abs().amax(dim=2) > 0  # towers give zeros at padding
        kind = self.image_map.weight.dtype  # towers may compute in less
        images, texts = unit(self.image_map(patches.to(kind))), unit(self.text_map(words.to(kind)))
        scale, own = self.log_scale.exp(), own_rows(len(images), device=images.device)
        to_text = scale * self._similarities(images, gather(texts), gather(is_word))[0]
        to_image = scale * self._similarities(gather(images), texts, is_word)[1].T
        loss = (F.cross_entropy(to_text, own) + F.cross_entropy(to_image, own)) / 2
        hits = (to_text.detach().argmax(dim=1) == own).float().mean()
        return ObjectiveOutput(
            loss,
            {"chance": torch.tensor(float(len(own) * world_size())).log(), "accuracy": hits, "scale": scale},
        )

    def _similarities(self, images: Tensor, texts: Tensor, is_word: Tensor) -> tuple[Tensor, Tensor]:
        """`token_similarity` of all pairs, some texts at a time."""
        parts = [
            token_similarity(images, t, w)
            for t, w in zip(texts.split(self.config.chunk), is_word.split(self.config.chunk), strict=True)
        ]
        return torch.cat([part[0] for part in parts], dim=1), torch.cat([part[1] for part in parts], dim=1)

    @torch.no_grad()
    def after_step(self, views: Features) -> None:
        """Clamp the scale."""
        self.log_scale.clamp_(0, math.log(100))
