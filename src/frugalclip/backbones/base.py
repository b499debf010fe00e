"""Base class of the kinds of backbones: options, tokenizer, the encoder, and its shape without weights."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, Protocol, TypeVar

import torch

from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import RecipeError
from frugalclip.core.preprocess import Preprocess
from frugalclip.data.tokens import Tokenizer
from frugalclip.interop.source import ModelSource
from frugalclip.interop.tokenizers import PassThroughTokenizer
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.pretrained import Backbone

Side = Literal["image", "text"]
OptionsT = TypeVar("OptionsT", bound=Settings)


class WholeModel(Protocol):
    """A model with two towers, of which a backbone takes one; `frugalclip.models.Model` is one."""

    network: DualEncoder
    tokenizer: Tokenizer
    preprocess: Preprocess

    @property
    def fingerprint(self) -> str: ...


OpenModel = Callable[[str], WholeModel]
"""Opens a run, a checkpoint or a foreign model. It is `frugalclip.load`, handed in by models above."""


@dataclass(frozen=True)
class Use:
    """How a tower uses a backbone."""

    side: Side
    open_model: OpenModel
    size: int | None = None  # pixels on a side of the images; None: as the backbone was trained
    is_tuned: bool = False  # its weights, or additions to them, are trained
    device: str | torch.device = "cpu"  # where a frozen language model computes
    where: str = ""  # dotted name of its options, for messages

    @property
    def options_name(self) -> str:
        """Dotted name of the options, for messages."""
        return self.where or f"model.{self.side}.options"


class NoOptions(Settings):
    """Options of a backbone that has none."""


class BackboneKind(ABC, Generic[OptionsT]):
    """A pretrained encoder of one kind. Abstract; every subclass is final and has a file of its own.

    Args:
        source: of this kind; see `matches`.
        use: what the tower needs.
    """

    form: ClassVar[str]  # how a source of this kind is written, for messages
    sides: ClassVar[tuple[Side, ...]]  # towers that it can be the backbone of
    has_weight_file: ClassVar[bool] = False  # of which a source may name the key and the prefix
    Options: type[OptionsT]

    def __init__(self, source: ModelSource, use: Use) -> None:
        self.source, self.use = source, use

    @classmethod
    @abstractmethod
    def matches(cls, source: ModelSource) -> bool:
        """Whether a source is of this kind, from its scheme or its config.json; no weights are read."""

    @classmethod
    def may_match(cls, source: ModelSource) -> bool:
        """Whether a source whose folder is not there yet may turn out to be of this kind."""
        return False

    @classmethod
    def option_names(cls) -> set[str]:
        """Names of its settings."""
        return set(cls.Options.model_fields)  # pyright: ignore[reportGeneralTypeIssues]

    def options(self) -> OptionsT:
        """The options of the source, validated without its weights.

        Raises:
            RecipeError: for an unknown setting, or one without effect.
        """
        given, where = dict(self.source.options), self.use.options_name
        if given and not self.Options.model_fields:
            raise RecipeError(
                f"{where} ({', '.join(given)}) have no effect on {self.source}, which has no options; "
                f"leave them out."
            )
        return validated(self.Options, given, where=where)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer in front of the encoder; no weights are read."""
        return PassThroughTokenizer()

    @abstractmethod
    def load(self) -> Backbone:
        """The encoder; of images, with the preprocessing that its weights were trained with.

        Raises:
            ModelError: for a source that cannot be read, with what to do.
            MissingExtra: where a library or a packaged part is not installed.
        """

    @abstractmethod
    def on_meta(self) -> Backbone:
        """The encoder on the meta device: parameters with names and shapes, for `frugalclip plan`.

        Raises:
            ModelError: where only the weights would tell the architecture.
            MissingExtra: where a library is not installed.
        """
