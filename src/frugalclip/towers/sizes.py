"""Sizes of a transformer: a name gives width and depth; heads and neurons may differ by layer."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from frugalclip.core.config import Settings, shown
from frugalclip.towers.blocks import NORM_EPS, Activation, Transformer

MOST_LAYERS = 1000  # each is built by itself
Blocks = Annotated[int, Field(le=MOST_LAYERS)]  # of a stage of a residual network


def from_size(values: dict[str, Any], sizes: Mapping[str, tuple[int, Any]], *, second: str) -> dict[str, Any]:
    """Settings in which the width and a second entry, where they are not given, are those of a named size.

    Args:
        values: settings as given.
        sizes: name -> width and second entry.
        second: the name of the second entry, such as depth.

    Raises:
        ValueError: for a size that is not known.
    """
    given = values.get("size")
    if given is not None and (not isinstance(given, str) or given not in sizes):
        raise ValueError(f"size {shown(given)} is not known; expected one of {', '.join(sizes)}")
    width, other = sizes[given or "tiny"]
    return {**values, "width": values.get("width") or width, second: values.get(second) or other}


class TransformerConfig(Settings):
    """Base class of the settings of transformers.

    Sizes are filled in, so that a pruned tower is written like any other.
    """

    SIZES: ClassVar[dict[str, tuple[int, int]]] = {}  # name: (width, depth)
    LATER: ClassVar[tuple[str, ...]] = ("norm_eps",)  # settings that were added later: see `_dump`

    size: str | None = Field(None, description="named width and depth: nano, micro, tiny, small, base, large")
    width: int = Field(0, ge=0, description="channels of the residual stream; 0: from size")
    depth: int = Field(0, ge=0, le=MOST_LAYERS, description="layers; 0: from size")
    head_dim: int = Field(0, ge=0, description="channels of a head; 0: 64, or 32 below width 384")
    heads: tuple[int, ...] = Field((), description="heads of each layer; empty: width / head_dim in all")
    neurons: tuple[int, ...] = Field(
        (), description="feed-forward neurons of each layer; empty: 4 * width in all"
    )
    activation: Activation = Field(
        "gelu", description="quick_gelu for OpenAI's weights, gelu_tanh for some of SigLIP's"
    )
    norm_eps: float = Field(NORM_EPS, gt=0, description="added to variances; CLIP: 1e-5, SigLIP: 1e-6")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: object) -> object:
        """Derive what is not given from the size."""
        return from_size(values, cls.SIZES, second="depth") if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _derive(self) -> Self:
        head_dim = self.head_dim or (64 if self.width >= 384 else 32)
        if not self.heads and self.width % head_dim:
            raise ValueError(
                f"width {self.width} is not a multiple of head_dim {head_dim}; set head_dim or heads"
            )
        heads = self.heads or (self.width // head_dim,) * self.depth
        neurons = self.neurons or (4 * self.width,) * self.depth
        for name, layers in (("heads", heads), ("neurons", neurons)):
            if len(layers) != self.depth:
                raise ValueError(f"{name} names {len(layers)} layers, expected depth {self.depth}")
        for name, value in (("head_dim", head_dim), ("heads", heads), ("neurons", neurons)):
            object.__setattr__(self, name, value)  # the settings are frozen afterwards
        return self

    @model_serializer(mode="wrap")
    def _dump(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out later settings at their default, so that older models keep their fingerprints."""
        fields = type(self).model_fields
        return {
            name: value
            for name, value in write(self).items()
            if name not in self.LATER or getattr(self, name) != fields[name].default
        }

    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic of the layers for one sequence of `tokens`, in 10^9 operations."""
        total = 0
        for heads, neurons in zip(self.heads, self.neurons, strict=True):
            inner = heads * self.head_dim
            total += 2 * tokens * self.width * (4 * inner + 2 * neurons)  # projections and feed-forward
            total += 4 * tokens * tokens * inner  # scores and mixture
        return total * 1e-9

    def kept_numbers(self, *, tokens: int) -> float:
        """Numbers that the backward pass keeps for one sequence of `tokens`."""
        total = 0
        for heads, neurons in zip(self.heads, self.neurons, strict=True):
            total += tokens * (4 * self.width + 5 * heads * self.head_dim + 2 * neurons + 2 * heads * tokens)
        return total

    def build_layers(self) -> Transformer:
        """The stack of blocks of these sizes."""
        sizes: dict[str, Any] = {"heads": self.heads, "head_dim": self.head_dim, "neurons": self.neurons}
        return Transformer(self.width, **sizes, activation=self.activation, norm_eps=self.norm_eps)
