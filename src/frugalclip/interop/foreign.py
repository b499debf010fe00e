"""What reading a foreign model gives, and helpers for reading configurations that other libraries wrote."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypedDict

from torch import Tensor

from frugalclip.core.errors import ModelError
from frugalclip.core.preprocess import Preprocess, Triple
from frugalclip.data.tokens import Tokenizer
from frugalclip.interop.source import ModelSource
from frugalclip.interop.tensor_maps import TensorTable
from frugalclip.towers.dual import SCALE_LIMIT, DualEncoder


@dataclass(frozen=True)
class ForeignFormat:
    """A format of models with two towers."""

    scheme: str  # of its sources, such as hf
    form: str  # how a source is written, for messages
    read: "Callable[[ModelSource], ForeignModel]"


@dataclass(frozen=True)
class ForeignModel:
    """A foreign model as ours, with the table that turns it back."""

    network: DualEncoder  # in evaluation mode
    tokenizer: Tokenizer
    preprocess: Preprocess
    source: str  # as given, such as open_clip:ViT-B-32@FILE
    architecture: str  # as its library calls it
    table: TensorTable
    unused: Mapping[str, Tensor] = field(
        default_factory=dict
    )  # tensors of the file without effect on embeddings
    notes: tuple[str, ...] = ()  # what was assumed, and how to say otherwise

    @property
    def logit_bias(self) -> float | None:
        """Bias of the sigmoid loss, of models trained with it."""
        return float(self.unused["logit_bias"]) if "logit_bias" in self.unused else None

    @property
    def activation(self) -> str:
        """Of the feed-forward layers; of either tower where they differ."""
        towers = {"images": self.network.config.image, "texts": self.network.config.text}
        found = {name: getattr(tower, "activation", None) for name, tower in towers.items()}
        found = {name: activation for name, activation in found.items() if activation is not None}
        if len({*found.values()}) == 1:
            return next(iter(found.values()))
        return ", ".join(f"{activation} ({name})" for name, activation in found.items())

    @property
    def origin(self) -> dict[str, Any]:
        """Where the model comes from, as JSON, which a checkpoint of it keeps beside the weights."""
        return {
            "source": self.source,
            "architecture": self.architecture,
            "activation": self.activation,
            "logit_bias": self.logit_bias,
            "notes": list(self.notes),
        }

    def export_tensors(self) -> dict[str, Tensor]:
        """The network's weights under the names and in the shapes of the file that it came from."""
        return self.table.export(self.network.state_dict(), unused=self.unused)


class ScaleSettings(TypedDict):
    """Settings of `ModelConfig` for the scale."""

    scale: float
    scale_min: float
    scale_max: float


def scale_settings(log_scale: Tensor) -> ScaleSettings:
    """Settings of `ModelConfig` for a learned scale, whose clamp leaves its logarithm, (), as it is."""
    scale = float(log_scale.exp())
    if not scale <= SCALE_LIMIT:
        raise ModelError(
            f"the model's scale of cosines is {scale:g}, expected at most {SCALE_LIMIT:g}; copy its weights "
            "again."
        )
    return {"scale": scale, "scale_min": min(1.0, scale), "scale_max": max(100.0, scale)}


def triple(values: Any, default: Triple) -> Triple:
    """Mean or standard deviation of the three channels, from three numbers, one for all, or None."""
    if values is None:
        return default
    red, green, blue = values if isinstance(values, list | tuple) else (values,) * 3
    return float(red), float(green), float(blue)


@contextmanager
def understood(where: str) -> Iterator[None]:
    """Turn the errors that a configuration of the wrong form raises into one sentence.

    Raises:
        ModelError: in place of Python's errors for wrong types, keys and values.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else error!r}"
        raise ModelError(
            f"{where}: its configuration cannot be understood ({reason}); "
            "restore the file that its library wrote."
        ) from error


def refuse_unknown(
    settings: Mapping[str, Any],
    known: Collection[str],
    *,
    unset: Collection[Any] = (None, False, 0, 0.0, "", "linear"),
    where: str,
) -> None:
    """Refuse settings that change the computation and have no counterpart in our towers.

    Args:
        settings: of a foreign architecture.
        known: names that are read.
        unset: values that leave the computation as it is.
        where: the architecture, for the message.

    Raises:
        ModelError: naming the setting.
    """
    for name, value in settings.items():
        is_unset = any(value is one or (value == one and type(value) is type(one)) for one in unset)
        if name not in known and not is_unset:
            raise ModelError(
                f"{where} has {name}: {value}, for which our towers have no counterpart; "
                "choose another architecture."
            )
