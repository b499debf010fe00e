"""The base class of stages: they read rows and decide, row by row or in groups, which ones stay.

A stage is one file named like it is in a plan, with a `Config` and one final class. A user's own file is
found in the same way, beside the plan (`stage: ./my_file.py`) or as a module (`stage: my_package.my_file`).

Rows come sorted by id. Whatever is drawn at random is drawn from the seed and the id. So no decision depends
on the order of shards, and rows that have nothing to do with the others change nothing for them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, final

import numpy as np
from pydantic import BeforeValidator, Field

from frugalclip.core.config import Settings
from frugalclip.core.paths import user_path
from frugalclip.core.plugins import PluginKind, find_class, known_kinds
from frugalclip.core.random import uniform
from frugalclip.curation.measures import ImageMeasures
from frugalclip.data.manifest import Manifest

PACKAGE = "frugalclip.curation.stages"


# One text or several; a plain word in a plan is a list of one.
Texts = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
]


class CurationStageConfig(Settings):
    """Settings that every stage has: the keys of an entry under `stages` of a plan."""

    stage: str = Field(description="file of the stage; ./FILE.py or a dotted name for your own")
    name: str | None = Field(
        None, pattern=r"^[^/\\]+$", description="name in ledger, report and files; default that of the stage"
    )


@final
@dataclass(frozen=True)
class StageNeeds:
    """What a stage reads besides ids and captions."""

    images: bool = False  # their measures, which one pass over all images makes
    scores: frozenset[str] = frozenset()  # that an earlier stage gives


class Services(Protocol):
    """What a run does for its stages: it keeps what is expensive, so that a later call does not repeat it."""

    def measures_of(self, manifest: Manifest, *, name: str) -> ImageMeasures:
        """Measures of the images of another data set, in the order of its rows."""
        ...

    def store_folder(self, name: str) -> Path:
        """A folder in which a stage keeps vectors."""
        ...


@final
@dataclass(frozen=True, eq=False)
class StageRows:
    """The rows that earlier stages kept, sorted by id, and what is known of them."""

    manifest: Manifest
    measures: ImageMeasures | None  # in the order of the rows, where the stage needs them
    scores: Mapping[str, np.ndarray]  # name -> (rows,) that earlier stages gave
    seed: int
    services: Services
    share: float = 1.0  # of all rows, where a dry run draws some

    def __len__(self) -> int:
        return len(self.manifest)

    @property
    def images(self) -> ImageMeasures:
        """Their measures, which `needs` asks for."""
        assert self.measures is not None, "the stage's needs() lacks images=True"
        return self.measures

    @cached_property
    def codes(self) -> np.ndarray:
        """(rows,) uint64, a hash of each id."""
        return self.manifest.codes("id").view(np.uint64)

    def draws(self, purpose: str) -> np.ndarray:
        """(rows,) uniform numbers from the plan's seed, a purpose and the ids."""
        return uniform(self.seed, f"curate/{purpose}", self.codes, 1)[:, 0]


@final
class Verdict:
    """What a stage decides about its rows: all stay until they are dropped.

    Args:
        rows: how many there are.
    """

    def __init__(self, rows: int) -> None:
        self.reasons = np.full(rows, None, dtype=object)  # (rows,) None where the row stays
        self.values = np.full(rows, np.nan)  # (rows,) what the stage measured
        self.thresholds = np.full(rows, np.nan)  # (rows,) what the value was compared with
        self.keepers = np.full(rows, None, dtype=object)  # (rows,) id of the row that it repeats
        self.scores: dict[str, np.ndarray] = {}  # name -> (rows,), for later stages and the manifest
        self.captions: Sequence[Sequence[str]] | None = None  # of every row, where the stage writes some
        self.notes: list[str] = []

    @property
    def is_kept(self) -> np.ndarray:
        """(rows,) bool."""
        return ~self.reasons.astype(bool)

    def drop(
        self,
        mask: np.ndarray,
        reason: str,
        *,
        values: np.ndarray | None = None,
        threshold: float | None = None,
        keepers: Sequence[str] | np.ndarray | None = None,
    ) -> None:
        """Drop the rows of a mask that no earlier reason has dropped.

        Args:
            mask: (rows,) bool.
            reason: one of the stage's.
            values: (rows,) what was measured.
            threshold: what the values were compared with.
            keepers: (rows,) ids of the rows that stay in their place.
        """
        dropped = mask & self.is_kept
        self.reasons[dropped] = reason
        if values is not None:
            self.values[dropped] = np.asarray(values, dtype=np.float64)[dropped]
        if threshold is not None:
            self.thresholds[dropped] = threshold
        if keepers is not None:
            self.keepers[dropped] = np.asarray(keepers, dtype=object)[dropped]


class CurationStage(ABC):
    """Base class of stages; every subclass is final.

    Args:
        config: its settings.
        folder: where paths in the plan start.
    """

    Config: ClassVar[type[CurationStageConfig]]
    reasons: ClassVar[Mapping[str, str]]  # code -> plain words
    value: ClassVar[str] = ""  # what the values are, with their unit
    compares_rows: ClassVar[bool] = False  # whether it drops more of all rows than of a sample (dry run)
    gives: ClassVar[tuple[str, ...]] = ()  # names of its scores

    def __init__(self, config: Any, folder: Path) -> None:
        self.config = config
        self.folder = folder

    def needs(self) -> StageNeeds:
        """What it reads besides ids and captions."""
        return StageNeeds()

    def describe(self) -> Mapping[str, Any]:
        """What decides its result besides its settings, as JSON values: contents of files, of models."""
        return {}

    @abstractmethod
    def decide(self, rows: StageRows) -> Verdict:
        """Which rows stay.

        Args:
            rows: sorted by id.
        """


@final
@dataclass(frozen=True)
class PlannedStage:
    """A stage in its place."""

    name: str  # unique within the plan
    stage: CurationStage
    settings: Mapping[str, Any] = field(default_factory=dict)


def plan_path(name: str, folder: Path) -> str:
    """A data set or MODEL that a plan names: a path from the plan's folder if it exists, else the name."""
    path = folder / user_path(name)
    return str(path) if path.exists() else name


STAGES = PluginKind(
    CurationStage, CurationStageConfig, PACKAGE, "stages", "a stage", key="stage", file="plan"
)


def find_stage(kind: str) -> type[CurationStage]:
    """The stage in the file `kind` of our package, in a user's own file, or at a dotted path.

    Raises:
        RecipeError: if there is no such file, or it does not hold exactly one.
    """
    return find_class(kind, STAGES)


def known_stages() -> list[str]:
    """Names of our stages."""
    return known_kinds(PACKAGE)
