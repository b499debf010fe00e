"""The top words of a lexical model as vectors that an embedding store holds."""

from collections.abc import Mapping
from typing import Any, Literal, final

from torch import Tensor

from frugalclip.core.preprocess import Preprocess
from frugalclip.core.types import CachedFeatures
from frugalclip.features.vectors import TextTokenizer
from frugalclip.models import Model
from frugalclip.serving.lexical import STORED, packed, top_words


@final
class WordVectors:
    """An encoder whose vectors hold word numbers and weights, see `lexical.packed`.

    Args:
        model: with words.
    """

    reads: Literal["images"] = "images"
    scale: float | None = None

    def __init__(self, model: Model) -> None:
        self.model = model

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return 2 * min(STORED, self.model.dim)

    @property
    def preprocess(self) -> Preprocess:
        """That of the model."""
        return self.model.preprocess

    @property
    def tokenizer(self) -> TextTokenizer:
        """That of the model."""
        return self.model.tokenizer

    @property
    def fingerprint(self) -> str:
        """Of the model, and how many words are kept."""
        return f"{self.model.fingerprint}-words-{STORED}"

    @property
    def description(self) -> Mapping[str, Any]:
        """Of the model."""
        return self.model.description

    def encode_image(self, images: Tensor | CachedFeatures, *, normalize: bool = True) -> Tensor:
        """(batch, 3, height, width) pixels to (batch, 2 * top) words and weights of the unit embedding."""
        return packed(*top_words(self.model.encode_image(images)))

    def encode_text(self, texts: list[str], *, normalize: bool = True) -> Tensor:
        """Texts to (batch, 2 * top), likewise."""
        return packed(*top_words(self.model.encode_text(texts)))
