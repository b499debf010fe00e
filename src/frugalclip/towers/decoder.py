"""Text decoder: layers over a causal text tower that read the tokens of an image, and a layer of words.

Source: BLIP's decoder as TL;DR uses it (arXiv 2305.20087): causal self-attention, cross-attention to the
image, a feed-forward layer. As in CoCa (arXiv 2205.01917) the lower layers are the text tower, which does not
see the image. Layers are pre-norm, as in our towers.
"""

import torch
from torch import Tensor, nn

from frugalclip.towers.blocks import Attention, FeedForward, Norm, attend


class CrossAttention(nn.Module):
    """Attention of texts to the tokens of an image.

    Args:
        width: of the texts.
        image_width: of the image's tokens.
        heads: of attention; they divide the width.
    """

    def __init__(self, width: int, *, image_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(image_width, width, bias=False)  # softmax does not see a bias of keys
        self.value = nn.Linear(image_width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """(batch, length, width) and (batch, patches, image width) to (batch, length, width)."""
        q, k, v = (
            y.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (batch, heads, tokens, head_dim)
            for y in (self.query(x), self.key(image), self.value(image))
        )
        return self.out(attend(q, k, v, mask=None).transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to an image, and a feed-forward layer.

    Args:
        width: of the texts.
        image_width: of the image's tokens.
        heads: of both attentions.
    """

    def __init__(self, width: int, *, image_width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_image, self.norm_feed_forward = (Norm(width) for _ in range(3))
        self.attention = Attention(width, heads=heads, head_dim=width // heads)
        self.cross_attention = CrossAttention(width, image_width=image_width, heads=heads)
        self.feed_forward = FeedForward(width, neurons=4 * width, activation="gelu")

    def forward(self, x: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """(batch, length, width), (batch, patches, image width), (length, length) to the first shape."""
        mixed, _ = self.attention(
            self.norm_attention(x), mask=mask, head_gates=None, leave=None, with_attention=False
        )
        x = x + mixed
        x = x + self.cross_attention(self.norm_image(x), image)
        return x + self.feed_forward(self.norm_feed_forward(x), neuron_gates=None)


class TextDecoder(nn.Module):
    """Predicts the next word at every place of a text, from the words up to it and an image.

    Args:
        width: of the token outputs of the text tower.
        image_width: of the image's tokens.
        vocabulary: words.
        depth: layers.
        heads: of attention; they divide the width.
    """

    def __init__(self, width: int, *, image_width: int, vocabulary: int, depth: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(width, image_width=image_width, heads=heads) for _ in range(depth)
        )
        self.norm_after = Norm(width)
        self.output = nn.Linear(width, vocabulary)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def forward(self, texts: Tensor, image: Tensor) -> Tensor:
        """States from which words are predicted.

        Args:
            texts: (batch, length, width) token outputs of a causal text tower.
            image: (batch, patches, image width).

        Returns:
            (batch, length, width); `output` makes (…, vocab) of them.
        """
        length = texts.shape[1]
        mask = torch.full((length, length), float("-inf"), device=texts.device, dtype=texts.dtype).triu(1)
        for layer in self.layers:
            texts = layer(texts, image, mask)
        return self.norm_after(texts)
