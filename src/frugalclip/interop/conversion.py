"""What a reader of a foreign model gives, and how foreign tensors find their place in our network: each once, none left over."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from frugalclip.core.errors import ModelError, known_names
from frugalclip.data.tokens import Tokenizer
from frugalclip.loading.views import Preprocess, Triple
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.sizes import TransformerConfig

NamesOfLayer = Mapping[str, tuple[str, ...]]
OPEN_CLIP: NamesOfLayer = {  # our name in a block: theirs; several are laid end to end
    "norm_attention": ("ln_1",),
    "attention.qkv": (
        "attn.in_proj_",
    ),  # of a multi-head attention of torch, whose parameters are in_proj_weight and in_proj_bias
    "attention.out": ("attn.out_proj",),
    "norm_feed_forward": ("ln_2",),
    "feed_forward.enter": ("mlp.c_fc",),
    "feed_forward.leave": ("mlp.c_proj",),
}
TIMM: NamesOfLayer = {
    "norm_attention": ("norm1",),
    "attention.qkv": ("attn.qkv",),
    "attention.out": ("attn.proj",),
    "norm_feed_forward": ("norm2",),
    "feed_forward.enter": ("mlp.fc1",),
    "feed_forward.leave": ("mlp.fc2",),
}
HUGGING_FACE: NamesOfLayer = {
    "norm_attention": ("layer_norm1",),
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": ("self_attn.out_proj",),
    "norm_feed_forward": ("layer_norm2",),
    "feed_forward.enter": ("mlp.fc1",),
    "feed_forward.leave": ("mlp.fc2",),
}
SCALES = {
    "attention.out": ("ls_1.gamma", "ls1.gamma"),
    "feed_forward.leave": ("ls_2.gamma", "ls2.gamma"),
}  # of a branch, in either library
_UNREAD = (
    "attn_mask",
    "position_ids",
    "input_resolution",
    "context_length",
    "vocab_size",
    "num_batches_tracked",
)  # constants, not weights


@dataclass(frozen=True)
class Parts:
    """A foreign model as ours."""

    network: DualEncoder  # in evaluation mode
    tokenizer: Tokenizer
    preprocess: Preprocess
    source: str  # as given, such as open_clip:ViT-B-32@FILE
    architecture: str  # as its library calls it
    logit_bias: float | None = None  # of models trained with the sigmoid loss
    notes: tuple[str, ...] = ()  # what was assumed, and how to say otherwise

    @property
    def activation(self) -> str:
        """Of the feed-forward layers; of either tower where they differ."""
        towers = {"images": self.network.config.image, "texts": self.network.config.text}
        found = {
            name: tower.activation for name, tower in towers.items() if isinstance(tower, TransformerConfig)
        }
        return (
            ", ".join(f"{kind} ({name})" for name, kind in found.items())
            if len({*found.values()}) > 1
            else next(iter(found.values()))
        )

    @property
    def origin(self) -> dict[str, Any]:
        """Where the model comes from, as JSON: what a checkpoint of it keeps beside the weights."""
        return {
            "source": self.source,
            "architecture": self.architecture,
            "activation": self.activation,
            "logit_bias": self.logit_bias,
            "notes": list(self.notes),
        }


class Conversion:
    """Foreign tensors on their way into our network.

    Args:
        tensors: of the file, by their names there.
        where: the file and what it is read as, for messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, where: str) -> None:
        self.where = where
        self._left = {name: tensor for name, tensor in tensors.items() if not name.endswith(_UNREAD)}
        self._state: dict[str, Tensor] = {}
        self._names: dict[str, str] = {}  # ours: theirs

    def has(self, name: str) -> bool:
        """Whether the file holds this tensor, and it was not taken yet."""
        return name in self._left

    def take(self, name: str) -> Tensor:
        """A tensor of any shape such as (width, dim), in float32.

        Raises:
            ModelError: when the file does not hold it.
        """
        if name not in self._left:
            near = known_names(name, self._left, limit=3) if self._left else "nothing is left in it."
            raise ModelError(
                f"{self.where}: there is no tensor '{name}', which this architecture has; is it the one of these weights? {near}"
            )
        tensor = self._left.pop(name)
        return tensor.float() if tensor.is_floating_point() else tensor

    def put(self, ours: str, *theirs: str, change: Callable[[Tensor], Tensor] | None = None) -> None:
        """Give one of our tensors its value: theirs, end to end where there are several, after `change`; shapes such as (dim, width)."""
        taken = [self.take(name) for name in theirs]
        value = taken[0] if len(taken) == 1 else torch.cat(taken)
        self._state[ours], self._names[ours] = value if change is None else change(value), theirs[0]

    def set(self, ours: str, value: Tensor) -> None:
        """Give one of our tensors, of any shape such as (), a value that was worked out."""
        self._state[ours] = value

    def linear(self, ours: str, *theirs: str, bias: bool = True) -> None:
        """Weight and bias of a linear map or a normalisation."""
        for kind in ("weight", "bias") if bias else ("weight",):
            self.put(f"{ours}.{kind}", *(f"{name}.{kind}" for name in theirs))

    def layers(self, ours: str, theirs: str, *, depth: int, names: NamesOfLayer) -> None:
        """The blocks of a transformer. A branch's scale (layer scale) is multiplied into the map that it follows, which is exact."""
        for i in range(depth):
            for own, others in names.items():
                target, sources = f"{ours}.blocks.{i}.{own}", [f"{theirs}.{i}.{other}" for other in others]
                self.put(f"{target}.weight", *(_parameter(source, "weight") for source in sources))
                if self.has(_parameter(sources[0], "bias")):
                    self.put(f"{target}.bias", *(_parameter(source, "bias") for source in sources))
                else:  # attention without bias, as some of timm's
                    self._state[f"{target}.bias"] = torch.zeros(len(self._state[f"{target}.weight"]))
                for scale in SCALES.get(own, ()):
                    if self.has(f"{theirs}.{i}.{scale}"):
                        self._scale(target, self.take(f"{theirs}.{i}.{scale}"))

    def _scale(self, target: str, gamma: Tensor) -> None:
        self._state[f"{target}.weight"] = self._state[f"{target}.weight"] * gamma[:, None]
        self._state[f"{target}.bias"] = self._state[f"{target}.bias"] * gamma

    def divide(self, theirs: str, rows: Mapping[str, int]) -> None:
        """Give several of our tensors the rows of one of theirs, in order; `rows` says how many each has."""
        tensor = self.take(theirs)
        if len(tensor) != sum(rows.values()):
            expected = sum(rows.values())
            raise ModelError(
                f"{self.where}: '{theirs}' has {len(tensor)} rows, this architecture expects {expected}; is it the one of these weights?"
            )
        for ours, part in zip(rows, tensor.split(list(rows.values())), strict=True):
            self._state[ours], self._names[ours] = part.contiguous(), theirs

    def lookup(self, name: str, *, rows: int, found: int) -> None:
        """The token embedding, with rows of zeros for tokens that only our tokenizer has, such as the mask.

        Args:
            name: theirs.
            rows: of our network.
            found: rows that their architecture has.
        """
        self.put(
            "text.lookup.weight",
            name,
            change=lambda x: torch.cat([x, x.new_zeros(rows - found, x.shape[1])]) if len(x) == found else x,
        )

    def into(self, network: nn.Module) -> None:
        """Fill the network; every tensor of the file must have been used and have the shape that is expected.

        Raises:
            ModelError: naming the first tensor that does not fit.
        """
        own = network.state_dict()
        if self._left:
            first = ", ".join(sorted(self._left)[:3])
            raise ModelError(
                f"{self.where}: {len(self._left)} tensors have no place in this architecture, such as {first}; is it the one of these weights?"
            )
        for name, tensor in self._state.items():
            if name in own and own[name].shape != tensor.shape:
                found, expected = tuple(tensor.shape), tuple(own[name].shape)
                raise ModelError(
                    f"{self.where}: '{self._names.get(name, name)}' gives our {name} the shape {found}, this architecture expects {expected}; "
                    "is it the one of these weights?"
                )
        counters = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
        network.load_state_dict(counters | self._state)


def _parameter(module: str, kind: str) -> str:
    return f"{module}{kind}" if module.endswith("_") else f"{module}.{kind}"


def scale_settings(log_scale: Tensor) -> dict[str, float]:
    """Settings of `ModelConfig` for a learned scale: its logarithm (), which the clamp must leave as it is."""
    scale = float(log_scale.exp())
    return {"scale": scale, "scale_min": min(1.0, scale), "scale_max": max(100.0, scale)}


def triple(values: Any, default: Triple) -> Triple:
    """Mean or deviation of the three channels as a file has it: a number for each, one for all, or nothing."""
    if values is None:
        return default
    red, green, blue = values if isinstance(values, list | tuple) else (values,) * 3
    return float(red), float(green), float(blue)


@contextmanager
def understood(where: str) -> Iterator[None]:
    """Turn what a configuration of the wrong form raises into one sentence.

    Raises:
        ModelError: in place of the errors that Python has for wrong types, keys and values.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else error!r}"
        raise ModelError(
            f"{where}: its configuration cannot be understood ({reason}); restore the file that its library wrote."
        ) from error


def refuse_unknown(
    settings: Mapping[str, Any],
    known: Collection[str],
    *,
    unset: Collection[Any] = (None, False, 0, 0.0, "", "linear"),
    where: str,
) -> None:
    """Stop at a setting that changes the computation and that we have no counterpart for.

    Args:
        settings: of a foreign architecture.
        known: names that are read.
        unset: values that leave the computation as it is.
        where: the architecture, for the message.

    Raises:
        ModelError: naming the setting.
    """
    for name, value in settings.items():
        if name not in known and not any(
            value is one or (value == one and type(value) is type(one)) for one in unset
        ):
            raise ModelError(
                f"{where} has {name}: {value}, for which our towers have no counterpart; choose another architecture."
            )
