"""The small sections of a recipe: data, evaluation, episode, checkpoints and stages."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from frugalclip.compression.base import ChangeConfig
from frugalclip.core.config import Settings, shorthand
from frugalclip.data.ledger import MAX_ERROR_FRACTION


class DataConfig(Settings):
    """The `data` section; a plain word is the path."""

    path: str | None = Field(
        None,
        description="sample, a folder, CSV, TSV, JSONL, Parquet, tars, a saved Hugging Face dataset or a "
        "manifest",
    )
    where: str | None = Field(None, description="rows to train on, such as split=train,is_flag=false")
    validation: str = Field(
        "auto", description="validation set: auto, none, or a condition such as split=val"
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="names of the image and caption columns where they are not recognised",
    )
    weights: str = Field(
        "auto",
        description="how often to draw a row: auto (the column weight, if any), none, or a field that holds "
        "numbers",
    )
    workers: int = Field(0, ge=0, description="decoding processes, for sets that do not fit the cache")
    cache_bytes: int = Field(
        2**31, ge=0, description="sets whose decoded images need no more are decoded once, into memory"
    )
    max_error_fraction: float = Field(
        MAX_ERROR_FRACTION,
        ge=0,
        le=1,
        description="share of bad samples that a run tolerates; beyond it, the run stops and names them",
    )


DataSection = Annotated[DataConfig, BeforeValidator(shorthand("path"))]


class EvaluationConfig(Settings):
    """The `evaluation` section: how a run is evaluated while it trains."""

    points: int = Field(
        20, ge=1, description="evaluations over the run, evenly spaced; the last is at its end"
    )
    rows: int = Field(2000, ge=10, description="validation rows at each point, at most")
    label_field: str | None = Field(
        None, description="field that names the classes; null: label, else the caption"
    )
    baselines: bool = Field(
        True,
        description="whether the end of the run also measures what copying from the training images reaches",
    )


class GuardConfig(Settings):
    """The `guard` section: data that a model which is trained further must not forget.

    A plain word is the path.
    """

    path: str | None = Field(None, description="a data set as for `data`; null: nothing is watched")
    where: str | None = Field(None, description="rows of it, such as split=val")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="names of the image and caption columns where they are not recognised",
    )
    label_field: str | None = Field(
        None, description="field that names the classes; null: label, else the caption"
    )
    rows: int = Field(2000, ge=10, description="rows measured at each point, at most")
    replay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training rows that are pairs of the guard; they are not measured",
    )
    stop_at: float = Field(
        0.5,
        gt=0,
        le=1,
        description="the run ends where the guard has lost more than this share of its lead over chance",
    )
    max_loss: float = Field(
        1.0,
        ge=0,
        description="points that the guard may lose at the weights that are chosen between the ends",
    )
    points: int = Field(
        11, ge=2, description="weights between start and end that are measured, both ends among them"
    )


GuardSection = Annotated[GuardConfig, BeforeValidator(shorthand("path"))]


class EpisodeConfig(Settings):
    """The `episode` section: how many samples objectives read at once, before they are trained on."""

    samples: int = Field(
        gt=0, description="samples of an episode, rounded to whole steps; ProtoCLIP: 200,000"
    )

    def steps(self, batch: int) -> int:
        """Steps of an episode."""
        return max(1, round(self.samples / batch))


class CheckpointConfig(Settings):
    """The `checkpoints` section."""

    every: int | None = Field(
        None, ge=1, description="steps between checkpoints; null: at every evaluation point"
    )
    keep: int = Field(2, ge=1, description="newest checkpoints to keep")


class StageConfig(Settings):
    """One entry of `stages`: where a stage of the run differs from the recipe."""

    name: str = Field("", description="for messages; empty: its number")
    share: float | None = Field(
        None, gt=0, le=1, description="length as a share of the run; one stage may take what is left"
    )
    steps: int | None = Field(None, ge=1, description="length in steps, in place of `share`")
    change: SerializeAsAny[ChangeConfig] | None = Field(
        None, description="how the network changes before the stage: a file of compression/, or your own"
    )
    objectives: dict[str, Any] = Field(
        default_factory=dict, description="merged into the recipe's by name; null removes one"
    )
    views: dict[str, Any] = Field(default_factory=dict, description="merged into the recipe's by name")
    optimizer: dict[str, Any] = Field(default_factory=dict, description="merged into the recipe's")
    schedule: dict[str, Any] = Field(
        default_factory=dict, description="merged into the recipe's; it runs over this stage alone"
    )
    gates: dict[str, Any] | None = Field(None, description="gates of this stage; null: the recipe's")

    @model_validator(mode="after")
    def _has_one_length(self) -> Self:
        if self.share is not None and self.steps is not None:
            raise ValueError("share and steps are both given; leave one out")
        return self
