"""Teachers: encoders that give targets and are not trained, behind one interface.

A teacher is an average of the student (`from: ema`), a model whose weights stay (`from: MODEL`), or features
computed before (`from: STORE`). An objective names what it reads as `teacher:view`. The step has each teacher
encode exactly that, without gradient, before the student encodes anything. Features of a teacher carry the
teacher's own scale.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from frugalclip.core.averages import follow, momentum_at
from frugalclip.core.config import Settings
from frugalclip.core.errors import RecipeError, known_names, shortened
from frugalclip.core.paths import user_path
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.types import (
    Batch,
    CachedFeatures,
    Features,
    ImageInput,
    Needs,
    TextInput,
    Tokens,
    TowerOutput,
)
from frugalclip.core.users_text import command_line
from frugalclip.data.manifest import Manifest
from frugalclip.data.token_cut import kept_ids
from frugalclip.data.tokens import Tokenizer
from frugalclip.features.format import Kind
from frugalclip.features.rows import FeatureRows
from frugalclip.features.store import Store
from frugalclip.loading.replay import (
    CAPTION_FIELDS,
    StoredTexts,
    at_size,
    refuse_other_images,
    stored_augmentations,
    with_field_texts,
)
from frugalclip.loading.texts import TextViews
from frugalclip.models import Model, load
from frugalclip.towers.dual import DualEncoder

EMA = "ema"


class TeacherConfig(Settings):
    """The keys of `teachers.<name>` in a recipe."""

    model_config = ConfigDict(populate_by_name=True)

    source: str = Field(
        EMA,
        alias="from",
        description="ema, a model (run directory or checkpoint), or an embedding store of the training data",
    )
    momentum: tuple[float, float] = Field(
        (0.996, 1.0),
        description="of an average, on a cosine from the first step to the last; A-CLIP: 0.996 to 1",
    )


@dataclass(frozen=True)
class TeacherRequest:
    """What a step reads of one teacher: names of views, without the teacher's own."""

    images: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()
    attention: frozenset[str] = frozenset()


def averages(teachers: Mapping[str, TeacherConfig]) -> set[str]:
    """Names of the teachers that are averages of the student; ema is one without being listed."""
    return {name for name, config in {EMA: TeacherConfig(), **teachers}.items() if config.source == EMA}


def teacher_of(name: str) -> str:
    """The teacher in `teacher:view`."""
    return name.partition(":")[0]


def request_of(teacher: str, needs: Needs, *, texts: Iterable[str]) -> TeacherRequest:
    """The views of one teacher among the needs of all objectives.

    Args:
        teacher: its name.
        needs: of the objectives.
        texts: names of the recipe's text views; every other name is an image view.
    """
    of: dict[str, frozenset[str]] = {}
    for kind in ("teachers", "tokens", "attention"):
        of[kind] = frozenset(
            name.partition(":")[2]
            for name in getattr(needs, kind)
            if ":" in name and teacher_of(name) == teacher
        )
    is_text = frozenset(texts)
    return TeacherRequest(
        images=of["teachers"] - is_text,
        texts=of["teachers"] & is_text,
        tokens=of["tokens"],
        attention=of["attention"],
    )


class Teacher(nn.Module, ABC):
    """A source of target features. Abstract: every subclass is final."""

    def __init__(self, requested: TeacherRequest) -> None:
        super().__init__()
        self.requested = requested
        self.fingerprint: str | None = None  # of what is kept elsewhere and must not change during a run

    @abstractmethod
    def encode(self, batch: Batch) -> Features:
        """Features of the requested views of a batch, without gradient, with the teacher's own scale."""

    def after_step(self, student: DualEncoder, *, progress: float) -> None:
        """Follow the student after an optimiser step; `progress` is the share of the run that is done."""

    def is_saved(self) -> bool:
        """Whether a checkpoint must hold this teacher's weights."""
        return False


class _TeacherWithTowers(Teacher):
    """A teacher with towers and a scale of its own. Abstract: a subclass chooses how it takes pictures."""

    def __init__(self, requested: TeacherRequest, network: DualEncoder) -> None:
        super().__init__(requested)
        self.image = network.image if requested.images else None
        self.text = network.text if requested.texts else None
        self.log_scale = nn.Parameter(network.log_scale.detach().clone())
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "_TeacherWithTowers":
        """A teacher is never in training mode."""
        return super().train(False)  # pyright: ignore[reportReturnType]

    @torch.no_grad()
    def encode(self, batch: Batch) -> Features:
        """Features of the requested views of a batch, with the scale of these towers."""
        images, texts = {}, {}
        for name in sorted(self.requested.images):
            assert self.image is not None, "kept where images are requested"
            options = {"with_attention": True} if name in self.requested.attention else {}
            with_tokens = name in self.requested.tokens
            images[name] = self.image(self._own(batch.images[name]), with_tokens=with_tokens, **options)
        for name in sorted(self.requested.texts):
            assert self.text is not None, "kept where texts are requested"
            texts[name] = self.text(
                self._own_texts(batch.texts[name]), with_tokens=name in self.requested.tokens
            )
        return Features(images=images, texts=texts, scale=self.log_scale.exp())

    @abstractmethod
    def _own(self, images: ImageInput) -> ImageInput:
        """The student's images as these towers take them."""

    def _own_texts(self, texts: TextInput) -> TextInput:
        """The student's texts as these towers take them."""
        return texts


class EmaTeacher(_TeacherWithTowers):
    """An exponential moving average of the student; at the start its copy.

    The scale is averaged like every other parameter: in log space, where the student learns it.
    """

    def __init__(
        self, requested: TeacherRequest, student: DualEncoder, *, momentum: tuple[float, float]
    ) -> None:
        super().__init__(requested, copy.deepcopy(student))
        self.momentum = momentum

    @torch.no_grad()
    def after_step(self, student: DualEncoder, *, progress: float) -> None:
        """Follow the student's towers and scale.

        Statistics of normalisations are copied: no batch goes through the average in training mode.
        """
        momentum = momentum_at(progress, start=self.momentum[0], end=self.momentum[1])
        self.log_scale.lerp_(student.log_scale.detach(), 1 - momentum)
        for own, theirs in ((self.image, student.image), (self.text, student.text)):
            if own is not None:
                follow(own, theirs, momentum=momentum)
                for average, buffer in zip(own.buffers(), theirs.buffers(), strict=True):
                    average.copy_(buffer)

    def is_saved(self) -> bool:
        """True: an average exists nowhere else."""
        return True

    def _own(self, images: ImageInput) -> ImageInput:
        return images


class FrozenTeacher(_TeacherWithTowers):
    """A model whose weights stay; it takes the student's views at its own resolution and normalisation.

    Texts have the ids of a student whose vocabulary was cut from the model's; the model reads the same tokens
    by its own ids.
    """

    gain: Tensor
    shift: Tensor
    ids: Tensor | None  # (vocab,) the model's ids by the student's; None where they are the same

    def __init__(
        self,
        requested: TeacherRequest,
        model: Model,
        *,
        preprocess: Preprocess,
        ids: np.ndarray | None = None,
    ) -> None:
        super().__init__(requested, model.network)
        self.register_buffer("ids", None if ids is None else torch.from_numpy(ids), persistent=False)
        own, theirs = model.preprocess, preprocess
        self.size, self.fingerprint = own.size, model.fingerprint
        self.register_buffer(
            "gain", (torch.tensor(theirs.std) / torch.tensor(own.std))[:, None, None], persistent=False
        )
        self.register_buffer(
            "shift",
            ((torch.tensor(theirs.mean) - torch.tensor(own.mean)) / torch.tensor(own.std))[:, None, None],
            persistent=False,
        )

    def encode(self, batch: Batch) -> Features:
        """Features of the requested views of a batch, with the model's own scale.

        Raises:
            RecipeError: if the batch holds features of the student's backbone instead of pixels or token ids.
        """
        inputs = [batch.images[name] for name in self.requested.images]
        if any(isinstance(x, CachedFeatures) for x in [*inputs, *map(batch.texts.get, self.requested.texts)]):
            raise RecipeError(
                "a teacher that is a model encodes pixels and token ids, and this run reads stored features "
                "of its own backbone; embed the data with the teacher and name that store, "
                "or set store.images=false."
            )
        return super().encode(batch)

    def _own(self, images: ImageInput) -> Tensor:
        assert isinstance(images, Tensor), "encode refuses cached features"
        return at_size(images, self.size) * self.gain + self.shift

    def _own_texts(self, texts: TextInput) -> TextInput:
        if self.ids is None:
            return texts
        assert isinstance(texts, Tokens), "encode refuses cached features"
        return Tokens(self.ids[texts.ids], texts.lengths)


class StoredTeacher(Teacher):
    """Features of an embedding store: of the augmentation and the text that were drawn for each sample.

    A store without augmentations holds one view of an image, and serves every view. Where it lacks a text,
    such as keywords, the sample's first caption stands for it. A store with augmentations has to hold every
    text. The scale is that of the model that filled the store, or 1 where the store records none.

    Args:
        requested: views to give.
        store: made of this data set, or of one that contains it.
        manifest: the training data.
        shown: the text views of the run; None where nothing is drawn.

    Raises:
        DataError: if images or captions differ from those that were embedded.
        RecipeError: if the store has several vectors of a text, or lacks a text that a view may show.
    """

    scale: Tensor

    def __init__(
        self, requested: TeacherRequest, store: Store, manifest: Manifest, *, shown: TextViews | None = None
    ) -> None:
        super().__init__(requested)
        kinds: list[Kind] = [*(["image"] if requested.images else []), *(["text"] if requested.texts else [])]
        store.require(kinds=kinds)
        if faceted := [kind for kind in kinds if len(store.shape(kind)) > 1]:
            raise RecipeError(
                f"{store.path} holds several {faceted[0]} vectors of one text or picture (facets), "
                "expected one; embed without facets."
            )
        self.fingerprint = store.fingerprint()
        self.store, self.is_augmented = store, stored_augmentations(store) is not None
        captions = _stored_captions(store, manifest) if requested.texts else None
        rows = store.rows_for(manifest.ids, texts=captions)  # (samples,)
        if requested.images and self.is_augmented:
            refuse_other_images(store, rows, manifest)
        self.vectors = {kind: FeatureRows(store, kind, manifest.ids) for kind in kinds}
        self.texts = StoredTexts(captions, shown.numbers()) if captions is not None and shown else None
        if self.texts is not None and shown is not None and self.is_augmented:
            self._refuse_absent_texts(self.texts, shown, manifest)
        self.register_buffer("scale", torch.tensor(store.head.encoder.scale or 1.0), persistent=False)

    def encode(self, batch: Batch) -> Features:
        """The vectors of what was drawn for the batch's rows; zeros where a sample has none."""
        rows = batch.rows.cpu().numpy()

        def encoded(kind: Kind, places: np.ndarray | int) -> TowerOutput:
            vectors = self.vectors[kind].filled(rows, views=places).to(batch.rows.device)  # (batch, dim)
            return TowerOutput(None, vectors, vectors)

        images = {name: encoded("image", self._augmentation(batch, name)) for name in self.requested.images}
        texts = {name: encoded("text", self._text(batch, name, rows)) for name in self.requested.texts}
        return Features(images=images, texts=texts, scale=self.scale)

    def _augmentation(self, batch: Batch, view: str) -> np.ndarray | int:
        """Which vector of each row belongs to an image view."""
        return batch.drawn[view].numpy() if self.is_augmented else 0

    def _text(self, batch: Batch, view: str, rows: np.ndarray) -> np.ndarray | int:
        """Which vector of each row belongs to a text view; the first where the store lacks the text."""
        if self.texts is None or view not in batch.drawn:
            return 0
        return np.maximum(self.texts.places(rows, batch.drawn[view].numpy()), 0)

    def _refuse_absent_texts(self, stored: StoredTexts, shown: TextViews, manifest: Manifest) -> None:
        for view in sorted(self.requested.texts):
            if shown.changes_words(view):
                raise RecipeError(
                    f"texts.{view}.augment changes words, and {self.store.path} holds embeddings of whole "
                    "texts; let the objective read another text view."
                )
            rows, texts, _ = shown.chances(view)
            absent = np.flatnonzero(stored.places(rows, texts) < 0)
            if len(absent):
                text, id = shown.texts(texts[absent[:1]])[0], manifest.ids[rows[absent[0]]]
                raise RecipeError(
                    f"texts.{view} may show '{shortened(text, 60)}' of '{id}', and {self.store.path} does "
                    f"not hold it ({len(absent):,} of {len(texts):,} texts); embed again with --captions "
                    "FIELD for each field that the view reads, or set pick and fields to what is stored."
                )


def _stored_captions(store: Store, manifest: Manifest) -> list[list[str]]:
    """The texts of every sample in the order in which a store has their vectors."""
    fields = store.head.encoder.settings.get(CAPTION_FIELDS, ())
    return [own or [] for own in with_field_texts(manifest, fields).captions()]


def open_stores(configs: Mapping[str, TeacherConfig], needs: Needs) -> dict[str, Store]:
    """The stores among the teachers that some objective reads."""
    names = {teacher_of(one) for one in needs.teachers} & set(configs)
    return {
        name: Store.open(configs[name].source)
        for name in sorted(names)
        if (user_path(configs[name].source) / "store.json").is_file()
    }


def check_teachers(configs: Mapping[str, TeacherConfig], needs: Needs) -> None:
    """Refuse needs of a teacher that the recipe does not have.

    Raises:
        RecipeError: with the nearest known name.
    """
    known = {EMA, *configs}
    for name in sorted({teacher_of(one) for one in needs.teachers} - known):
        raise RecipeError(
            f"teachers.{name} is read by an objective but not in the recipe; {known_names(name, known)} "
            "Add it under 'teachers:'."
        )


def build_teachers(
    configs: Mapping[str, TeacherConfig],
    needs: Needs,
    *,
    texts: Iterable[str],
    student: DualEncoder,
    tokenizer: Tokenizer,
    preprocess: Preprocess,
    manifest: Manifest,
    stores: Mapping[str, Store],
    shown: TextViews | None = None,
) -> dict[str, Teacher]:
    """Build the teachers that some objective reads.

    Args:
        configs: the recipe's `teachers`; `ema` need not be in it.
        needs: of all objectives.
        texts: names of the recipe's text views.
        student: the network that an average follows.
        tokenizer: of the student; a frozen text tower must read the same ids.
        preprocess: of the student.
        manifest: the training data, for stored features.
        stores: of the teachers that are stores, as `open_stores` gives them.
        shown: the text views of the run, for stored features.

    Raises:
        RecipeError: if the recipe has no teacher of that name, or it cannot give what objectives read.
    """
    check_teachers(configs, needs)
    known = {EMA: TeacherConfig(), **configs}
    texts = tuple(texts)
    built: dict[str, Teacher] = {}
    for name in sorted({teacher_of(one) for one in needs.teachers}):
        requested, config = request_of(name, needs, texts=texts), known[name]
        if config.source == EMA:
            built[name] = EmaTeacher(requested, student, momentum=config.momentum)
        elif name in stores:
            if requested.tokens or requested.attention:
                raise RecipeError(
                    f"teachers.{name} is a store, which holds one vector a sample; "
                    "tokens and attention need from: ema or a model."
                )
            built[name] = StoredTeacher(requested, stores[name], manifest, shown=shown)
        else:
            model = load(config.source)
            ids = _own_ids(name, config.source, requested, model=model, tokenizer=tokenizer)
            built[name] = FrozenTeacher(requested, model, preprocess=preprocess, ids=ids)
    return built


def _own_ids(
    name: str, source: str, requested: TeacherRequest, *, model: Model, tokenizer: Tokenizer
) -> np.ndarray | None:
    """(vocab,) ids of a model by those of a student whose vocabulary was cut; None where they are the same.

    Raises:
        RecipeError: for another tokenizer.
    """
    if not requested.texts or model.tokenizer.fingerprint() == tokenizer.fingerprint():
        return None
    found = kept_ids(tokenizer, model.tokenizer)
    if found is None:
        raise RecipeError(
            f"teachers.{name} ({source}) has another tokenizer than this recipe; embed the captions with it "
            f"({command_line('embed', source, 'DATA', '--out', 'STORE')}) and set "
            f"teachers.{name}.from=STORE, or train with its tokenizer."
        )
    return found
