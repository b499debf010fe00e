"""What a run reads: its rows, divided and counted, and the loader and feature stores of a stage."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from frugalclip.core import distributed
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.core.records import RunDirectory
from frugalclip.core.types import Needs
from frugalclip.core.users_text import command_line
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest, concatenate
from frugalclip.data.repeats import validation_remarks
from frugalclip.data.splits import divide
from frugalclip.loading.loader import BatchSpec, Loader, LoaderConfig, LoaderData, too_few
from frugalclip.loading.replay import Augmentations
from frugalclip.loading.sampling import sampling_weights
from frugalclip.loading.views import PRESETS, ViewConfig
from frugalclip.models import Model
from frugalclip.training.error_policy import ErrorPolicy, Rows
from frugalclip.training.feature_cache import RunStores, fill_caches
from frugalclip.training.guard import GuardRows, read_guard
from frugalclip.training.recipe import Recipe
from frugalclip.training.step import read_views


class RunData:
    """The rows of a run: training and validation, how often each is drawn, and which cannot be used.

    Args:
        recipe: of the run.
        everything: the data set before `data.where`.
        directory: where the ledger is written.
        read: what was left out while the data set was read; None where it came as a manifest.
        command: words that started the run, for messages.

    Raises:
        DataError: if there are too few rows for a step, or more bad ones than `data.max_error_fraction`.
    """

    def __init__(
        self,
        recipe: Recipe,
        everything: Manifest,
        directory: RunDirectory,
        *,
        read: Ledger | None = None,
        command: Sequence[str] = (),
    ) -> None:
        split = divide(everything, where=recipe.data.where, validation=recipe.data.validation)
        self.everything, self.training, self.validation = everything, split.train, split.validation
        self.notes = list(split.notes)
        self.description = recipe.data.model_dump(mode="json", include={"path", "columns"}) | {
            "where": split.where
        }
        if not len(self.training):
            raise DataError(
                f"{everything.name} has no rows to train on; check data.where with "
                f"{command_line('data', 'stats', everything.name)}"
            )
        if len(self.training) < recipe.batch:  # refused before a backbone encodes the whole data set
            raise too_few(
                self.training, len(self.training), [], step=recipe.batch, world=distributed.world_size()
            )
        if self.validation is not None and distributed.is_main():
            self.notes += validation_remarks(self.training, self.validation)
        self.weights = self._weights(recipe.data.weights)
        self.guard = self._read_guard(recipe)
        rows = Rows(self.everything, self.training, self.validation)
        self.error_policy = ErrorPolicy(recipe.data, rows, directory, read=read, command=command)
        self.error_policy.enforce()  # what reading found needs no decoding

    def _read_guard(self, recipe: Recipe) -> GuardRows | None:
        """The guard of the run; pairs that are replayed join the training rows behind them."""
        if recipe.guard.path is None:
            return None
        guard = read_guard(recipe.guard, rows=len(self.training), seed=recipe.seed)
        self.notes += guard.notes
        if guard.replayed is None:
            return guard
        places = {id: row for row, id in enumerate(self.everything.ids)}
        own, known = [places[id] for id in self.training.ids], len(self.everything)
        self.everything = concatenate([self.everything, guard.replayed], name=self.everything.name)
        self.training = self.everything.take([*own, *range(known, len(self.everything))])
        if self.validation is not None:
            self.validation = self.everything.take([places[id] for id in self.validation.ids])
        if self.weights is not None:  # a replayed pair counts as much as the mean row
            mean = np.full(len(guard.replayed), self.weights.mean())
            self.weights = np.concatenate([self.weights, mean])
        return guard

    def _weights(self, setting: str) -> np.ndarray | None:
        """How often to draw each row, with a note: a column may be called weight and mean something else."""
        weights = sampling_weights(self.training, setting)
        if weights is not None:
            name = "weight" if setting == "auto" else setting
            self.notes.append(
                f"rows are drawn in proportion to '{name}'; data.weights=none draws each once an epoch"
            )
        return weights


class StageInputs:
    """The feature stores and the loader of a stage, and the samples that failed to load."""

    def __init__(self, data: RunData, stores: RunStores, loader: Loader, notes: list[str]) -> None:
        self.stores, self.loader, self.notes = stores, loader, notes
        self._ids = data.training.ids
        self._reported = 0  # faults of the loader

    def new_faults(self) -> list[tuple[str, str]]:
        """(id, cause) of the samples that failed since the last call."""
        new = self.loader.faults[self._reported :]
        self._reported += len(new)
        return [(self._ids[row], cause) for row, cause in new]

    def all_faults(self) -> list[tuple[str, str]]:
        """(id, cause) of the samples that failed so far."""
        return [(self._ids[row], cause) for row, cause in self.loader.faults]


def build_inputs(
    recipe: Recipe,
    data: RunData,
    model: Model,
    needs: Needs,
    *,
    replayed: Mapping[str, Augmentations],
    note: Callable[[str], None],
) -> StageInputs:
    """Encode what frozen backbones read of the data, and build the loader of the views that are needed.

    Args:
        recipe: of the stage.
        data: of the run.
        model: gives tokenizer, preprocessing and frozen backbones; its caches are filled.
        needs: of the stage's objectives.
        replayed: image views that are drawn from stored augmentations.
        note: called with remarks while backbones encode.

    Raises:
        RecipeError: if a view is drawn from stored augmentations, and images from features of a backbone.
    """
    images, texts = read_views(needs, images=recipe.views, texts=recipe.texts)
    views = {name: view for name, view in recipe.views.items() if name in images}
    read_texts = {name: text for name, text in recipe.texts.items() if name in texts}
    stores = fill_caches(recipe.store, data.everything, model, views=views, texts=read_texts, note=note)
    if replayed and stores.images is not None:
        raise RecipeError(
            f"views.{min(replayed)} is drawn from the augmentations of a stored teacher, and the frozen "
            "image backbone reads stored features of its own; set store.images=false."
        )
    loader = Loader(
        LoaderData(
            data.training,
            model.tokenizer,
            weights=data.weights,
            image_features=stores.image_features(data.training),
            text_features=stores.text_features(),
        ),
        BatchSpec(
            views=views,
            texts=read_texts,
            batch=recipe.batch // distributed.world_size(),
            size=recipe.model.image.resolution,
            fields=sorted(needs.fields),
            mean=recipe.preprocess.mean,
            std=recipe.preprocess.std,
            replayed=replayed,
        ),
        LoaderConfig(
            seed=recipe.seed,
            rank=distributed.rank(),
            world=distributed.world_size(),
            workers=recipe.data.workers,
            cache=recipe.data.cache_bytes,
            device=model.device if model.device.type != "cpu" else None,
        ),
    )
    is_plain = all(view in (ViewConfig(), PRESETS["none"]) for view in views.values())
    notes = []
    if stores.images is not None and recipe.store.views == 1 and not is_plain:
        notes.append(
            "images are stored as evaluation sees them, so 'views' has no effect; store.views=N stores "
            "augmented ones too"
        )
    return StageInputs(data, stores, loader, notes)
