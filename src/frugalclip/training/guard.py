"""The guard of a run: data that a model which is trained further must not forget.

It is measured before the first step and at every evaluation point. A run ends early where the guard has lost
so much that no weights between start and end keep it. Pairs of the guard may be replayed: they join the
training rows, and none of them is measured.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from frugalclip.core.errors import DataError
from frugalclip.core.random import uniform
from frugalclip.core.stored import StoredRecord
from frugalclip.core.users_text import command_line
from frugalclip.data.manifest import Manifest
from frugalclip.data.splits import divide
from frugalclip.evaluation.zeroshot import ZeroshotTask
from frugalclip.models import Model
from frugalclip.sources.open import open_data
from frugalclip.training.sections import EvaluationConfig, GuardConfig
from frugalclip.training.validation import Validator

TOP1, MEAN_R1 = "zeroshot/top1", "retrieval/mean_r1"
_RECALLS = ("retrieval/i2t_r1", "retrieval/t2i_r1")


class GuardState(StoredRecord):
    """What a run knows of its guard: in `state.json` of its checkpoints."""

    start: dict[str, float] = Field(description="metrics of the model that the run started from")
    stopped: str | None = Field(default=None, description="why the run ended early")


@dataclass(frozen=True)
class GuardRows:
    """The rows of a guard: those that are measured, and those that are trained on."""

    measured: Manifest
    replayed: Manifest | None = None
    notes: list[str] = field(default_factory=list)


def headline(rows: Validator | ZeroshotTask) -> str:
    """The one metric that stands for a data set.

    It is the share of images named right where captions name classes, else the mean of both recalls.
    """
    task = rows.zeroshot if isinstance(rows, Validator) else rows
    names_classes = len(task.rows) >= 2 * len(set(task.labels[:, 0].tolist()))
    return TOP1 if names_classes else MEAN_R1


def headline_value(metrics: dict[str, float], name: str) -> float:
    """A headline metric among those that a validator measures or guesses, in percent."""
    return metrics[name] if name != MEAN_R1 else sum(metrics[one] for one in _RECALLS) / 2


def read_guard(config: GuardConfig, *, rows: int, seed: int) -> GuardRows:
    """Read a guard and keep what is replayed apart from what is measured.

    Args:
        config: the `guard` section, with a path.
        rows: of the training data, of which `replay` is a share.
        seed: of the run; decides which pairs are replayed.

    Raises:
        DataError: if there is no such data, or nothing is left to measure.
    """
    assert config.path is not None
    everything = open_data(config.path, columns=config.columns or None)
    if not config.replay:
        return GuardRows(everything.where(config.where))
    split = divide(everything, where=config.where, validation="auto")
    if split.validation is None:
        raise DataError(
            f"guard.replay is {config.replay:g}, and {config.path} has too few rows to keep some apart; set "
            f"guard.replay=0, or divide it first: {command_line('data', 'divide', config.path)}"
        )
    wanted = round(rows * config.replay / (1 - config.replay))
    keys = split.train.codes("id").view(np.uint64)
    drawn = np.argsort(uniform(seed, "replay", keys, 1)[:, 0], kind="stable")[:wanted]
    replayed = split.train.take(np.sort(drawn))
    share = len(replayed) / (rows + len(replayed))
    note = f"replays {len(replayed):,} pairs of the guard, {share:.0%} of the training rows"
    return GuardRows(split.validation, replayed, [note])


class Guard:
    """Measures a model on the rows of a guard.

    Args:
        config: the `guard` section.
        rows: the measured rows.
        model: gives preprocessing and frozen backbones.
    """

    def __init__(self, config: GuardConfig, rows: Manifest, model: Model) -> None:
        settings = EvaluationConfig(rows=config.rows, label_field=config.label_field)
        self.config, self.validator = config, Validator(rows, settings, model)
        self.headline = headline(self.validator)
        self.state: GuardState | None = None

    @property
    def notes(self) -> list[str]:
        """Rows that cannot be measured."""
        lost = len(self.validator.faults)
        return [f"{lost:,} images of the guard cannot be read and are not measured"] if lost else []

    def begin(self, model: Model) -> None:
        """Measure the model that a run starts from."""
        self.state = GuardState(start=self.validator.measure(model))

    def measure(self, model: Model) -> dict[str, float]:
        """Metrics of a model in training; notes where it is beyond repair."""
        assert self.state is not None, "measured at the start, or read from the checkpoint"
        found = self.validator.measure(model)
        if sentence := self._beyond_repair(found):
            self.state = self.state.model_copy(update={"stopped": sentence})
        return found

    def _beyond_repair(self, found: dict[str, float]) -> str | None:
        assert self.state is not None
        start, now, chance = (
            headline_value(one, self.headline) for one in (self.state.start, found, self.validator.chance)
        )
        lead, share = start - chance, start / 100
        noise = 2 * 100 * math.sqrt(share * (1 - share) / max(1, len(self.validator.retrieval.rows)))
        if lead <= 0 or start - now <= max(self.config.stop_at * lead, noise):  # few rows jump by themselves
            return None
        return (
            f"the guard fell from {start:.1f} to {now:.1f} % ({self.headline}, chance {chance:.1f}), more "
            f"than guard.stop_at={self.config.stop_at:g} of its lead over chance; lower optimizer.lr, or set "
            "guard.replay=0.5"
        )
