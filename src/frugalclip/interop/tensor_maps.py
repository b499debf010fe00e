"""Tensor maps: which tensors of a foreign model hold the numbers of which of ours, in both directions.

A format is a table of rows. A row names tensors of the file, tensors of our network and an invertible change
between them. `TensorTable.fill` reads the table from left to right and `TensorTable.export` from right to
left, so that import and export cannot disagree.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from frugalclip.core.errors import ModelError, known_names
from frugalclip.towers.sizes import TransformerConfig

CONSTANTS = ("attn_mask", "position_ids", "input_resolution", "context_length", "vocab_size")
"""Endings of names in files that hold no weights."""


class Change(ABC):
    """Invertible change between tensors of a file and tensors of ours. Abstract; every subclass is final."""

    def to_ours(self, theirs: list[Tensor]) -> list[Tensor]:
        """Our tensors, from those of the file, of any shape such as (dim, width).

        Raises:
            ValueError: if a size does not fit, as the rest of a sentence that begins with the tensor's name.
        """
        return self._to_ours(theirs)

    def to_theirs(self, ours: list[Tensor]) -> list[Tensor]:
        """The tensors of the file, from ours, of any shape such as (width, dim)."""
        return self._to_theirs(ours)

    @abstractmethod
    def _to_ours(self, theirs: list[Tensor]) -> list[Tensor]: ...

    @abstractmethod
    def _to_theirs(self, ours: list[Tensor]) -> list[Tensor]: ...


@dataclass(frozen=True)
class Identity(Change):
    """Both sides hold the same tensors."""

    def _to_ours(self, theirs: list[Tensor]) -> list[Tensor]:
        return theirs

    def _to_theirs(self, ours: list[Tensor]) -> list[Tensor]:
        return ours


@dataclass(frozen=True)
class Transpose(Change):
    """A matrix whose rows are the other side's columns."""

    def _to_ours(self, theirs: list[Tensor]) -> list[Tensor]:
        return [tensor.T for tensor in theirs]

    def _to_theirs(self, ours: list[Tensor]) -> list[Tensor]:
        return [tensor.T for tensor in ours]


@dataclass(frozen=True)
class Kernel(Change):
    """A convolution of patches, (width, 3, patch, patch), which is a linear map (width, 3 * patch^2) here."""

    patch: int

    def _to_ours(self, theirs: list[Tensor]) -> list[Tensor]:
        return [tensor.flatten(1) for tensor in theirs]

    def _to_theirs(self, ours: list[Tensor]) -> list[Tensor]:
        return [tensor.reshape(len(tensor), 3, self.patch, self.patch) for tensor in ours]


@dataclass(frozen=True)
class LeadingAxes(Change):
    """Ours has axes of length one in front."""

    number: int

    def _to_ours(self, theirs: list[Tensor]) -> list[Tensor]:
        return [tensor[(None,) * self.number] for tensor in theirs]

    def _to_theirs(self, ours: list[Tensor]) -> list[Tensor]:
        return [tensor.reshape(tensor.shape[self.number :]) for tensor in ours]


@dataclass(frozen=True)
class Scalar(Change):
    """One number, () here and `shape` there."""

    shape: tuple[int, ...] = ()

    def _to_ours(self, theirs: list[Tensor]) -> list[Tensor]:
        if any(tensor.numel() != 1 for tensor in theirs):
            raise ValueError(f"has {theirs[0].numel()} numbers, expected one")
        return [tensor.reshape(()) for tensor in theirs]

    def _to_theirs(self, ours: list[Tensor]) -> list[Tensor]:
        return [tensor.reshape(self.shape) for tensor in ours]


@dataclass(frozen=True)
class SplitRows(Change):
    """The same rows on both sides, split into tensors in different ways, such as queries, keys and values."""

    theirs: tuple[int, ...]  # rows of each tensor
    ours: tuple[int, ...]

    def _to_ours(self, theirs: list[Tensor]) -> list[Tensor]:
        whole = torch.cat(theirs)
        if len(whole) != sum(self.ours):
            raise ValueError(f"has {len(whole)} rows, this architecture expects {sum(self.ours)}")
        return list(whole.split(list(self.ours)))

    def _to_theirs(self, ours: list[Tensor]) -> list[Tensor]:
        return list(torch.cat(ours).split(list(self.theirs)))


@dataclass(frozen=True)
class ExtraRows(Change):
    """Ours has rows of zeros behind theirs: tokens that only our tokenizer has, such as the mask."""

    theirs: int
    ours: int

    def _to_ours(self, theirs: list[Tensor]) -> list[Tensor]:
        return [self._filled(tensor) for tensor in theirs]

    def _to_theirs(self, ours: list[Tensor]) -> list[Tensor]:
        return [tensor[: self.theirs] for tensor in ours]

    def _filled(self, tensor: Tensor) -> Tensor:
        if len(tensor) != self.theirs:
            return tensor  # the check of shapes names it
        return torch.cat([tensor, tensor.new_zeros(self.ours - self.theirs, *tensor.shape[1:])])


@dataclass(frozen=True)
class Default(Change):
    """A value that ours has and the file leaves out, such as a bias of zero."""

    value: Tensor

    def _to_ours(self, theirs: list[Tensor]) -> list[Tensor]:
        return [self.value]

    def _to_theirs(self, ours: list[Tensor]) -> list[Tensor]:
        return []


@dataclass(frozen=True)
class BranchScale(Change):
    """A linear map and the scale of its branch (layer scale), which are one linear map here: import is exact.

    Export writes the product and a scale of ones, which computes the same.
    """

    def _to_ours(self, theirs: list[Tensor]) -> list[Tensor]:
        weight, bias, gamma = theirs
        return [weight * gamma[:, None], bias * gamma]

    def _to_theirs(self, ours: list[Tensor]) -> list[Tensor]:
        return [*ours, torch.ones_like(ours[1])]


@dataclass(frozen=True)
class TensorMap:
    """One row of a table."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    change: Change = Identity()


@dataclass(frozen=True)
class UnusedTensor:
    """A tensor of the file without effect on embeddings, which our network does without."""

    name: str
    rows: int | None = None  # of the zeros that export writes where it was not kept; None: it is left out


@dataclass(frozen=True)
class TensorTable:
    """The tensor maps of a foreign model."""

    maps: tuple[TensorMap, ...]
    unused: tuple[UnusedTensor, ...] = ()

    def fill(self, network: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> dict[str, Tensor]:
        """Fill a network, in float32; every tensor of the file must be used and have the expected shape.

        Args:
            network: ours, of the architecture that the table was made for.
            tensors: of the file, by name.
            where: the file and what it is read as, for messages.

        Returns:
            Those tensors of the file that our network does without, which `export` takes.

        Raises:
            ModelError: naming the first tensor that does not fit.
        """
        left = {name: tensor for name, tensor in tensors.items() if not name.endswith(CONSTANTS)}
        unused = {one.name: left.pop(one.name) for one in self.unused if one.name in left}
        state: dict[str, Tensor] = {}
        for row in self.maps:
            taken = [_taken(left, name, where=where) for name in row.theirs]
            try:
                found = row.change.to_ours(taken)
            except ValueError as error:
                name = row.theirs[0]
                raise ModelError(f"{where}: '{name}' {error}; is it the one of these weights?") from error
            state |= zip(row.ours, found, strict=True)
        if left:
            first = ", ".join(sorted(left)[:3])
            raise ModelError(
                f"{where}: {len(left)} tensors have no place in this architecture, such as {first}; "
                "is it the one of these weights?"
            )
        self._check_shapes(network, state, where=where)
        network.load_state_dict(state)
        return unused

    def export(
        self, state: Mapping[str, Tensor], *, unused: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The tensors of a foreign file from those of our network: the inverse of `fill`.

        Args:
            state: `state_dict` of our network.
            unused: what `fill` gave; zeros take the place of those that the format needs.

        Returns:
            Tensors by their names in the foreign format, on the CPU.

        Raises:
            ModelError: for a tensor of ours that has no place in the format.
        """
        if strange := sorted(state.keys() - {name for row in self.maps for name in row.ours}):
            raise ModelError(
                f"'{strange[0]}' and {len(strange) - 1} more tensors have no place in this format; export "
                "another one."
            )
        tensors: dict[str, Tensor] = {}
        for row in self.maps:
            ours = [state[name].detach().cpu() for name in row.ours]
            tensors |= zip(row.theirs, row.change.to_theirs(ours), strict=True)
        for one in self.unused:
            if unused is not None and one.name in unused:
                tensors[one.name] = unused[one.name]
            elif one.rows is not None:
                tensors[one.name] = torch.zeros(one.rows)
        return {name: tensor.contiguous() for name, tensor in tensors.items()}

    def _check_shapes(self, network: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
        own = network.state_dict()
        for row in self.maps:
            for name in row.ours:
                if state[name].shape != own[name].shape:
                    found, expected = tuple(state[name].shape), tuple(own[name].shape)
                    raise ModelError(
                        f"{where}: '{(row.theirs or row.ours)[0]}' gives our {name} the shape {found}, "
                        f"this architecture expects {expected}; is it the one of these weights?"
                    )


def _taken(left: dict[str, Tensor], name: str, *, where: str) -> Tensor:
    if name not in left:
        near = known_names(name, left, limit=3) if left else "nothing is left in it."
        raise ModelError(
            f"{where}: there is no tensor '{name}', which this architecture has; "
            f"is it the one of these weights? {near}"
        )
    tensor = left.pop(name)
    return tensor.float() if tensor.is_floating_point() else tensor


def pair(ours: str, theirs: str, change: Change = Identity()) -> TensorMap:
    """A row of one tensor on either side."""
    return TensorMap((ours,), (theirs,), change)


def linear(ours: str, theirs: str, *, bias: bool = True) -> tuple[TensorMap, ...]:
    """Weight and bias of a linear map or a normalisation."""
    return tuple(pair(f"{ours}.{kind}", f"{theirs}.{kind}") for kind in ("weight", "bias")[: 1 + bias])


@dataclass(frozen=True)
class LayerNames:
    """What a library calls the modules of a transformer layer: `{}` stands for weight or bias."""

    norm_attention: str
    qkv: tuple[str, ...]  # one fused map, or queries, keys and values
    out: str
    norm_feed_forward: str
    enter: str
    leave: str
    out_scale: str = ""  # of the branch (layer scale), where a file has it
    leave_scale: str = ""


OPEN_CLIP = LayerNames(
    norm_attention="ln_1.{}",
    qkv=("attn.in_proj_{}",),
    out="attn.out_proj.{}",
    norm_feed_forward="ln_2.{}",
    enter="mlp.c_fc.{}",
    leave="mlp.c_proj.{}",
    out_scale="ls_1.gamma",
    leave_scale="ls_2.gamma",
)
TIMM = LayerNames(
    norm_attention="norm1.{}",
    qkv=("attn.qkv.{}",),
    out="attn.proj.{}",
    norm_feed_forward="norm2.{}",
    enter="mlp.fc1.{}",
    leave="mlp.fc2.{}",
    out_scale="ls1.gamma",
    leave_scale="ls2.gamma",
)
HUGGING_FACE = LayerNames(
    norm_attention="layer_norm1.{}",
    qkv=("self_attn.q_proj.{}", "self_attn.k_proj.{}", "self_attn.v_proj.{}"),
    out="self_attn.out_proj.{}",
    norm_feed_forward="layer_norm2.{}",
    enter="mlp.fc1.{}",
    leave="mlp.fc2.{}",
)


def layers(
    ours: str,
    theirs: str,
    config: TransformerConfig,
    names: LayerNames,
    *,
    present: Collection[str] | None,
) -> tuple[TensorMap, ...]:
    """The layers of a transformer.

    Args:
        ours: prefix of our module.
        theirs: prefix of their list of layers.
        config: sizes of our layers.
        names: of their modules.
        present: tensors of the file, some of which are optional (biases of attention, layer scale); None for
            the form with biases and without layer scale.
    """
    rows: list[TensorMap] = []
    for i in range(config.depth):
        own, other = f"{ours}.blocks.{i}", f"{theirs}.{i}"
        rows += _weight_and_bias(f"{own}.norm_attention", f"{other}.{names.norm_attention}")
        rows += _qkv(f"{own}.attention.qkv", other, config.heads[i] * config.head_dim, names.qkv, present)
        rows += _branch_end(f"{own}.attention.out", other, names.out, names.out_scale, present)
        rows += _weight_and_bias(f"{own}.norm_feed_forward", f"{other}.{names.norm_feed_forward}")
        rows += _weight_and_bias(f"{own}.feed_forward.enter", f"{other}.{names.enter}")
        rows += _branch_end(f"{own}.feed_forward.leave", other, names.leave, names.leave_scale, present)
    return tuple(rows)


def _weight_and_bias(ours: str, theirs: str) -> list[TensorMap]:
    return [pair(f"{ours}.{kind}", theirs.format(kind)) for kind in ("weight", "bias")]


def _qkv(
    ours: str, layer: str, rows: int, names: tuple[str, ...], present: Collection[str] | None
) -> list[TensorMap]:
    """One fused map of `3 * rows` rows here; one or three there, with or without bias."""
    split = Identity() if len(names) == 1 else SplitRows(theirs=(rows,) * 3, ours=(3 * rows,))
    maps = []
    for kind in ("weight", "bias"):
        theirs = tuple(f"{layer}.{name.format(kind)}" for name in names)
        if kind == "bias" and present is not None and theirs[0] not in present:
            maps.append(TensorMap((f"{ours}.bias",), (), Default(torch.zeros(3 * rows))))
        else:
            maps.append(TensorMap((f"{ours}.{kind}",), theirs, split))
    return maps


def _branch_end(
    ours: str, layer: str, name: str, scale: str, present: Collection[str] | None
) -> list[TensorMap]:
    """The map that ends a branch, with the branch's scale where the file has one."""
    if not scale or present is None or f"{layer}.{scale}" not in present:
        return _weight_and_bias(ours, f"{layer}.{name}")
    theirs = (f"{layer}.{name.format('weight')}", f"{layer}.{name.format('bias')}", f"{layer}.{scale}")
    return [TensorMap((f"{ours}.weight", f"{ours}.bias"), theirs, BranchScale())]
