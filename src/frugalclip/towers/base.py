"""Base classes of towers and heads: settings with their costs, modules, and the data of a fit.

A new tower is a configuration and a module that fill in `ImageTowerConfig` and `ImageTower`, or
`TextTowerConfig` and `TextTower`. Code outside `towers/` depends on `supports`, the costs and the shapes,
never on the kind.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from frugalclip.core.config import Settings
from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Gates, ImageInput, TextInput, Tokens, TowerOutput
from frugalclip.towers.blocks import Lookup

if TYPE_CHECKING:
    from frugalclip.towers.units import Units

Ability = Literal["dropped_patches", "cls_attention", "masked_words", "next_words", "token_outputs", "gates"]
WISHES: dict[Ability, str] = {
    "dropped_patches": "drops patches",
    "cls_attention": "reads the attention of [CLS]",
    "masked_words": "predicts masked words",
    "next_words": "predicts the next word",
    "token_outputs": "reads token outputs",
    "gates": "gates heads, neurons, channels or layers",
}
Reads = Literal["pooled", "tokens"]
Side = Literal["image", "text"]
FitInput = Literal["image_features", "text_features", "image_embeddings", "text_embeddings"]


class ImageTowerConfig(Settings, ABC):
    """Base class of the settings of image towers. Costs are per image."""

    if TYPE_CHECKING:  # fields of every subclass, which keeps its own order of settings
        width: int
        resolution: int

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the token outputs."""

    @property
    @abstractmethod
    def tokens(self) -> int:
        """Length of the token outputs of a whole image."""

    @property
    def stored_gflops(self) -> float:
        """Share of `forward_gflops` that a feature store saves, in 10^9 operations.

        0 for a tower that is trained.
        """
        return 0.0

    def narrower_widths(self) -> Sequence[int]:
        """Widths of smaller towers that start from the first channels of every weight of this one.

        Empty for a tower of which single units may be cut instead (`Tower.units`), or nothing.
        """
        return ()

    def at_width(self, width: int) -> Self:
        """These settings with another of `narrower_widths`, in every stage in proportion."""
        return type(self).model_validate(self.model_dump(by_alias=True) | {"size": None, "width": width})

    @abstractmethod
    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic for one image of which `tokens` are encoded, in 10^9 operations."""

    @abstractmethod
    def kept_numbers(self, *, tokens: int) -> float:
        """Numbers that the backward pass keeps for one image of which `tokens` are encoded."""

    @abstractmethod
    def build(self, *, dim: int) -> "ImageTower":
        """The tower, with weights that are not drawn yet."""


class TextTowerConfig(Settings, ABC):
    """Base class of the settings of text towers. Costs are per text."""

    if TYPE_CHECKING:  # a field of every subclass; 0: the width of the joint embedding
        width: int

    encodes_texts: ClassVar[bool] = True  # False: the model is image-only
    factors_tokens: ClassVar[bool] = (
        False  # whether the token embedding may have a low rank, `embedding_rank`
    )

    @property
    def stored_gflops(self) -> float:
        """Share of `forward_gflops` that a feature store saves, in 10^9 operations.

        0 for a tower that is trained.
        """
        return 0.0

    @abstractmethod
    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic for one text of `tokens`, in 10^9 operations."""

    @abstractmethod
    def kept_numbers(self, *, tokens: int) -> float:
        """Numbers that the backward pass keeps for one text of `tokens`."""

    def renumbered(self, numbers: Mapping[int, int]) -> Self:
        """These settings with the new ids, by old ones, of the tokens that they name: by default none."""
        return self

    @abstractmethod
    def build(self, *, vocabulary: int, context: int, dim: int) -> "TextTower":
        """The tower, with weights that are not drawn yet."""


class Tower(nn.Module, ABC):
    """Base class of image and text towers."""

    supports: frozenset[Ability] = frozenset()
    description = ""  # completes "which ... does not support"
    advice = ""  # a setting that helps where something is not supported
    has_steps = False  # True: it rounds on its way, so that a last bit may move an output by a step

    def check(self, wishes: Iterable[Ability]) -> None:
        """Refuse what this tower does not support.

        Raises:
            RecipeError: for the first wish that is not supported, with a setting that helps.
        """
        refused = set(wishes) - self.supports
        for wish in WISHES:
            if wish in refused:
                raise RecipeError(
                    f"an objective {WISHES[wish]}, which {self.description} does not support; {self.advice}."
                )

    @abstractmethod
    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights."""

    def clamp(self) -> None:
        """Hold learned scales in their range; called after every optimiser step."""

    @property
    def fitted_head(self) -> "Head | None":
        """The head that may be fitted in closed form to `features`.

        None where the tower is trained as a whole.
        """
        return None

    @property
    def units(self) -> "Units | None":
        """The channels, heads and neurons that may be cut; None where the tower cannot be made smaller."""
        return None

    def features(self, inputs: Any, /) -> Tensor:
        """Input of the head that is fitted.

        Args:
            inputs: pixels (batch, 3, height, width), or texts.

        Returns:
            (batch, width), or (batch, patches, width) or (batch, facets, width).
        """
        raise AssertionError("only towers with a head that is fitted have features apart")

    def fit_features(self, data: "FitData") -> None:
        """Fit what `features` need, before any head is fitted."""


class ImageTower(Tower):
    """Base class of image towers."""

    @abstractmethod
    def forward(
        self,
        images: ImageInput,
        *,
        keep: Tensor | None = None,
        with_tokens: bool = False,
        with_attention: bool = False,
        gates: Gates | None = None,
    ) -> TowerOutput:
        """Encode images.

        Args:
            images: pixels (batch, 3, height, width of the image), normalised, or features of a frozen
                backbone.
            keep: (batch, kept) int64 patches to keep, in any order; None keeps all.
            with_tokens: also return token outputs.
            with_attention: also return the [CLS] attention.
            gates: multipliers of heads, neurons, channels and layers.

        Raises:
            RecipeError: if the tower does not support what is requested.
        """

    def check_forward(self, *, keep: Tensor | None, with_attention: bool, gates: Gates | None) -> None:
        """Refuse arguments of `forward` that this tower does not support.

        Args:
            keep: (batch, kept) int64 patches to keep, or None.
            with_attention: whether the [CLS] attention is requested.
            gates: multipliers, or None.

        Raises:
            RecipeError: for the first one that is not supported.
        """
        given: dict[Ability, bool] = {
            "dropped_patches": keep is not None,
            "cls_attention": with_attention,
            "gates": gates is not None,
        }
        self.check(wish for wish, is_given in given.items() if is_given)


class TextTower(Tower):
    """Base class of text towers."""

    @property
    def token_embedding(self) -> Lookup | None:
        """The vectors of the tokens, which may be cut or factored; None for a tower without its own."""
        return None

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the token embedding, which are counted apart."""
        return (
            0 if self.token_embedding is None else sum(p.numel() for p in self.token_embedding.parameters())
        )

    @abstractmethod
    def forward(
        self, texts: TextInput, *, with_tokens: bool = False, gates: Gates | None = None
    ) -> TowerOutput:
        """Encode texts.

        Args:
            texts: token ids (batch, length), strings, or features of a frozen backbone.
            with_tokens: also return token outputs.
            gates: multipliers of heads, neurons, channels and layers.

        Raises:
            RecipeError: if the tower does not support what is requested.
        """


@dataclass(frozen=True)
class KnownClasses:
    """Classes that a frozen image backbone was trained to tell apart, with its own linear classifier."""

    names: tuple[str, ...]
    weight: Tensor  # (classes, width) for the backbone's features

    def beside(self, width: int) -> "KnownClasses":
        """The same classes for features with `width` further numbers behind them."""
        return KnownClasses(self.names, torch.nn.functional.pad(self.weight, (0, width)))


class FitData(ABC):
    """Training data for fitting a head in closed form: features that frozen backbones stored.

    Images are named by rows of the data set, texts by the numbers that `pairs` gives.
    """

    device: torch.device  # of the network
    rows: np.ndarray  # (images,) usable rows

    @abstractmethod
    def head(self, side: Side) -> "Head | None":
        """The head of a tower, or None where it has none."""

    @abstractmethod
    def texts(self) -> np.ndarray:
        """(texts,) numbers of every distinct text."""

    @abstractmethod
    def text_tokens(self, texts: np.ndarray) -> Tokens:
        """Token ids of (texts,): (texts, length)."""

    @abstractmethod
    def pairs(self, *, weighted: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(pairs,) rows, (pairs,) texts and (pairs,) float64 chances that a row is drawn with a text.

        With `weighted`, chances are multiplied by how often the row is drawn, relative to the mean row.
        """

    @abstractmethod
    def pixels(self, rows: np.ndarray) -> Iterator[Tensor]:
        """Batches of (rows, 3, height, width) pixels, normalised, as evaluation prepares images."""

    @abstractmethod
    def image_views(self, rows: np.ndarray) -> Tensor:
        """Features of all views of (rows,), end to end: (views, width)."""

    @abstractmethod
    def image_features(self, rows: np.ndarray) -> Tensor:
        """Features of (rows,), each the mean over its views: (rows, width) or (rows, patches, width)."""

    @abstractmethod
    def text_features(self, texts: np.ndarray) -> Tensor:
        """Features of (texts,): (texts, width) or (texts, facets, width)."""

    @abstractmethod
    def known_classes(self) -> KnownClasses | None:
        """What the frozen image backbone was trained to tell apart; None where that is not known."""

    @abstractmethod
    def features_of(self, texts: Sequence[str]) -> Tensor:
        """Features of texts that need not be in the data, such as names of classes: (texts, width)."""

    @abstractmethod
    def image_embeddings(self, rows: np.ndarray) -> Tensor:
        """Embeddings of the mean features of (rows,) by the image tower: (rows, dim) float64."""

    @abstractmethod
    def text_embeddings(self, texts: np.ndarray) -> Tensor:
        """Embeddings of (texts,) by the text tower: (texts, dim)."""


class HeadConfig(Settings, ABC):
    """Base class of the settings of heads.

    Costs are per vector or token that the head reads; a head without arithmetic leaves them at 0.
    """

    sides: ClassVar[frozenset[Side]] = frozenset({"image", "text"})  # of the towers that take the head

    @property
    def reads(self) -> Reads:
        """Output of the backbone that the head reads."""
        return "pooled"

    def forward_gflops(self, *, width: int, dim: int) -> float:
        """Forward arithmetic for one vector of `width`, in 10^9 operations."""
        return 0.0

    def kept_numbers(self, *, width: int) -> float:
        """Numbers that the backward pass keeps for one vector of `width`."""
        return 0.0

    @abstractmethod
    def build(self, *, width: int, dim: int) -> "Head":
        """The head from vectors of `width` to embeddings of `dim`."""


class Head(nn.Module, ABC):
    """Base class of heads: the output of a backbone to an embedding."""

    codebook_source: str | None = None  # language model whose words an embedding counts; None: no words

    def fit_inputs(self, side: Side) -> frozenset[FitInput]:
        """Training data that `fit` reads where the head belongs to the tower of a side.

        Empty for a head that is not fitted.
        """
        return frozenset()

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights."""

    def fit(self, data: FitData, *, side: Side) -> str:
        """Fit in closed form, before the first step.

        Args:
            data: gives what `fit_inputs` declares.
            side: of the tower that the head belongs to.

        Returns:
            What the head is fitted to, such as "24 pictures".

        Raises:
            RecipeError: if the data, or the other tower's head, does not suit this head.
        """
        raise AssertionError("only heads with fit_inputs are fitted")

    def set_level(self, level: float) -> None:
        """Fill the channel that the head keeps free with a constant.

        Raises:
            RecipeError: if the head keeps no channel free.
        """
        raise RecipeError(
            "head.novelty of a text head needs a free channel in the image head; set "
            "model.image.head.kind=whitening, or novelty=0."
        )

    def clamp(self) -> None:
        """Hold learned scales in their range; called after every optimiser step."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., dim); a head that reads tokens: (batch, patches, width) to (batch, dim)."""
