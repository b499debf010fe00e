"""Shapes of the project, and the records that pass between its packages.

Legend of the axes named in docstrings:
    batch       samples of one process in one step     candidates  samples of all processes in one step
    dim         width of the joint embedding            width       width of one tower, or of an image
    length      tokens of a sequence                    height      pixels down
    kept        tokens left after dropping              patches     image tokens, without [CLS]
    pairs       unordered pairs of rows                 classes     names that compete in zero-shot
    prototypes  cluster centres                         facets      texts that describe one image
    vocab       entries of a token vocabulary           prompts     texts that describe one class
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class TowerOutput:
    """Output of a tower for one view of a batch."""

    tokens: Tensor | None  # (batch, length, width), only if requested
    pooled: Tensor  # (batch, width)
    embedding: Tensor  # (batch, dim), not normalised
    attention: Tensor | None = (
        None  # (batch, patches) [CLS] attention, mean over layers and heads, only if requested
    )


@dataclass(frozen=True)
class Tokens:
    """Padded token ids of one text view."""

    ids: Tensor  # (batch, length) int64, padded on the right
    lengths: Tensor  # (batch,) int64, tokens up to and including the end token

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Tensor) -> "Tokens":
        """The texts of (kept,) int64 rows."""
        return Tokens(self.ids[rows], self.lengths[rows])

    @property
    def device(self) -> torch.device:
        return self.ids.device

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "Tokens":
        """The same texts on a device."""
        return Tokens(
            self.ids.to(device, non_blocking=non_blocking), self.lengths.to(device, non_blocking=non_blocking)
        )

    def by_length(self) -> Tensor:
        """(batch,) rows by length, so that texts encoded together need little padding."""
        return torch.argsort(self.lengths, stable=True)

    def pin_memory(self) -> "Tokens":
        """The same texts in pinned memory, from which a GPU copies without waiting."""
        return Tokens(self.ids.pin_memory(), self.lengths.pin_memory())


@dataclass(frozen=True)
class Strings:
    """Texts for an encoder with a tokenizer of its own, such as a frozen language model with prompts."""

    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "Strings":
        """The same texts; the encoder moves its own tensors."""
        return self


@dataclass(frozen=True)
class CachedFeatures:
    """Stored features of a frozen backbone, in place of the pixels or token ids that it would encode."""

    values: (
        Tensor  # (batch, width), (batch, facets, width), or (batch, patches, width) for a head over tokens
    )

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Tensor) -> "CachedFeatures":
        """The features of (kept,) int64 rows."""
        return CachedFeatures(self.values[rows])

    @property
    def device(self) -> torch.device:
        return self.values.device

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "CachedFeatures":
        """The same features on a device."""
        return CachedFeatures(self.values.to(device, non_blocking=non_blocking))

    def by_length(self) -> Tensor:
        """(batch,) rows in order: features have no padding."""
        return torch.arange(len(self))

    def pin_memory(self) -> "CachedFeatures":
        """The same features in pinned memory, from which a GPU copies without waiting."""
        return CachedFeatures(self.values.pin_memory())


ImageInput = (
    Tensor | CachedFeatures
)  # pixels (batch, 3, height, width) float32, normalised; or cached features
TextInput = Tokens | Strings | CachedFeatures


@dataclass(frozen=True)
class Selection:
    """How a derived view differs from its source: image tokens kept, or text tokens replaced.

    A selection is named by its derived view, such as `main@kept` or `caption@masked`.
    """

    keep: Tensor | None = None  # (batch, kept) int64 indices of patches
    ids: Tensor | None = None  # (batch, length) int64 token ids after replacement
    labels: Tensor | None = None  # (batch, length) int64, -100 where nothing is to be predicted


@dataclass(frozen=True)
class Batch:
    """One step's samples of one process."""

    rows: Tensor  # (batch,) int64 rows of the data set
    images: dict[str, ImageInput]  # view -> pixels, or features of a frozen backbone
    texts: dict[str, Tokens | CachedFeatures]  # text view -> token ids, or features of a frozen backbone
    boxes: dict[str, Tensor] = field(
        default_factory=dict
    )  # view -> (batch, 4) top, left, height, width in source pixels
    mirrored: dict[str, Tensor] = field(
        default_factory=dict
    )  # view -> (batch,) bool, where left and right are swapped
    fields: dict[str, Tensor] = field(
        default_factory=dict
    )  # field -> (batch,) int64 codes; equal values have equal codes
    turns: Tensor | None = (
        None  # (batch,) int64 earlier draws of each row; with `rows` they seed every random choice
    )
    # view -> (batch,) int64 of a text view the number of its text, else that of the stored augmentation; in
    # the memory of the CPU, where stored teachers look vectors up
    drawn: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Gates:
    """Multipliers that switch units of a tower off: 0 removes, 1 keeps, None leaves a kind open."""

    hidden: Tensor | None = None  # (width,) residual channels, shared by all layers
    heads: tuple[Tensor, ...] | None = None  # a layer: (heads,)
    neurons: tuple[Tensor, ...] | None = None  # a layer: (neurons,)
    layers: Tensor | None = None  # (depth, 2) attention and feed-forward branch of each layer

    def map(self, function: Callable[[Tensor], Tensor]) -> "Gates":
        """The gates with a function applied to every tensor, (width,) and the like."""
        return Gates(
            hidden=None if self.hidden is None else function(self.hidden),
            heads=None if self.heads is None else tuple(map(function, self.heads)),
            neurons=None if self.neurons is None else tuple(map(function, self.neurons)),
            layers=None if self.layers is None else function(self.layers),
        )


@dataclass(frozen=True)
class SampledGates:
    """The gates of one step, and the size that they leave in expectation."""

    image: Gates | None  # of the image tower; None: it has no gates
    text: Gates | None
    expected_size: dict[str, Tensor]  # image, text -> () parameters that stay, without token embedding
    full_size: dict[str, float]  # image, text -> parameters of the whole tower, without token embedding
    keep: float = 1.0  # share of the parameters that are to stay in the end

    def map(self, function: Callable[[Tensor], Tensor]) -> "SampledGates":
        """The gates and sizes with a function applied to every tensor, (width,) and the like."""
        return SampledGates(
            image=None if self.image is None else self.image.map(function),
            text=None if self.text is None else self.text.map(function),
            expected_size={side: function(size) for side, size in self.expected_size.items()},
            full_size=self.full_size,
            keep=self.keep,
        )


@dataclass(frozen=True)
class Needs:
    """What an objective reads. The step encodes the union of all needs once.

    A derived view is written `source@name`; the objective that makes the selection gives it in `prepare`.
    What a teacher encodes is written `teacher:view`, such as `ema:main`.
    """

    images: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()  # views, image or text, whose token outputs are read too
    teachers: frozenset[str] = frozenset()  # `teacher:view`; names of teachers are those of the recipe
    attention: frozenset[str] = (
        frozenset()
    )  # image views, own or `teacher:view`, whose [CLS] attention is read
    fields: frozenset[str] = frozenset()  # manifest fields such as id, caption, label
    causal: frozenset[str] = frozenset()  # text views whose token outputs depend on earlier tokens only
    gates: bool = False  # the sampled gates and their expected size
    episode: bool = False

    def __or__(self, other: "Needs") -> "Needs":
        return Needs(
            images=self.images | other.images,
            texts=self.texts | other.texts,
            tokens=self.tokens | other.tokens,
            teachers=self.teachers | other.teachers,
            attention=self.attention | other.attention,
            fields=self.fields | other.fields,
            causal=self.causal | other.causal,
            gates=self.gates or other.gates,
            episode=self.episode or other.episode,
        )


@dataclass(frozen=True)
class Features:
    """Everything that an objective scores, in the space of one encoder."""

    images: dict[str, TowerOutput]
    texts: dict[str, TowerOutput]
    scale: Tensor  # () exp of the model's learned logit scale
    targets: dict[str, "Features"] = field(default_factory=dict)  # teacher -> its features
    fields: dict[str, Tensor] = field(default_factory=dict)  # field -> (batch,) int64 codes
    selections: dict[str, Selection] = field(default_factory=dict)
    progress: float = 0.0  # share of the stage before this step
    gates: SampledGates | None = None  # if an objective needs them


@dataclass(frozen=True)
class Dims:
    """Sizes that an objective may need to build its heads."""

    image_width: int
    text_width: int
    embedding: int
    vocabulary: int
    context: int
    patch_grid: tuple[int, int]  # (rows, columns)
    batch: int  # samples of one step over all processes
    seed: int = 0  # of the run, for what an objective draws itself
    mask: int = 0  # id of the mask token
    episode: int = 0  # samples of an episode over all processes; 0 where the run has none
    samples: int = 0  # usable samples of the data set; 0 where it is not known
