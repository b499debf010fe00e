"""The design of a comparison: arms, reference, protocol, repetitions and fractions of the pairs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from frugalclip.comparison.arms import Arm, equal_arms
from frugalclip.comparison.protocol import ProtocolConfig
from frugalclip.core.config import Settings
from frugalclip.core.errors import RecipeError, known_names
from frugalclip.data.splits import parse_fractions


@dataclass(frozen=True)
class Design:
    """What is compared with what, and how often."""

    arms: Sequence[Arm]
    reference: str
    protocol: ProtocolConfig  # resolved
    seeds: int = 1
    fractions: Sequence[float] = (1.0,)  # shares of the training pairs, the last of which is 1
    full_data: Collection[str] = ()  # arms that are trained on all pairs only
    has_independent_seeds: bool = False  # every arm has its own randomness

    @property
    def names(self) -> list[str]:
        """The names of the arms."""
        return [arm.name for arm in self.arms]

    @property
    def others(self) -> list[str]:
        """The names of the arms but the reference."""
        return [name for name in self.names if name != self.reference]

    @property
    def primary(self) -> str:
        """Name of the metric of the verdicts."""
        return self.protocol.primary


class ComparisonSettings(Settings):
    """How arms are compared: the options of `frugalclip compare`, and keywords of `frugalclip.compare`."""

    seeds: int = Field(3, ge=1, description="runs of every arm; 3 to screen, 6 to claim")
    samples: int | None = Field(
        None, ge=1, description="samples that every run sees; null: each recipe's own length"
    )
    seconds: float | None = Field(
        None,
        gt=0,
        description="seconds of every run instead; the measured speed of each arm gives its samples",
    )
    fractions: str | tuple[float, ...] = Field(
        (1.0,), description="also train on fractions of the pairs, such as 1/8,1/4,1, for data efficiency"
    )
    full_data: tuple[str, ...] = Field(
        (), description="arms that are trained on all pairs only, such as a costly reference"
    )
    data: str | None = Field(None, description="the data set, instead of the protocol's or the recipes'")
    protocol: Path | ProtocolConfig | None = Field(
        None, description="YAML file with training rows and metrics; null: metrics on the validation set"
    )
    hold_out: str | None = Field(
        None, description="field whose values are held out of training in turn, and evaluated"
    )
    split: str | None = Field(None, description="split that the metrics are evaluated on, such as validation")
    reference: str | None = Field(None, description="arm that the others are compared with; null: the first")
    jobs: int = Field(1, ge=1, description="trials at a time")
    clock: Literal["auto", "cpu", "wall"] = Field(
        "auto", description="clock of seconds; auto: the processor's on a CPU, the wall's on a GPU"
    )
    independent_seeds: bool = Field(
        False, description="separate randomness for each arm; arms with equal recipes always have it"
    )

    @model_validator(mode="after")
    def _has_one_length(self) -> Self:
        if self.samples is not None and self.seconds is not None:
            raise ValueError("--samples and --seconds are both given; keep one of them")
        return self

    @property
    def shares(self) -> list[float]:
        """The fractions of the pairs as numbers."""
        given = self.fractions
        return parse_fractions(given if isinstance(given, str) else ",".join(map(str, given or (1,))))


def make_design(arms: Sequence[Arm], protocol: ProtocolConfig, settings: ComparisonSettings) -> Design:
    """Check the names of arms and fill in defaults.

    Args:
        arms: at least two.
        protocol: resolved.
        settings: of the comparison; equal arms have separate randomness whatever they say.

    Raises:
        RecipeError: for an unknown arm.
    """
    known = [arm.name for arm in arms]
    given = [("--reference", name) for name in (settings.reference,) if name is not None]
    for option, name in [*given, *(("--full-data", name) for name in settings.full_data)]:
        if name not in known:
            raise RecipeError(f"{option} {name} is not one of the arms; {known_names(name, known)}")
    return Design(
        arms=arms,
        reference=settings.reference or known[0],
        protocol=protocol,
        seeds=settings.seeds,
        fractions=settings.shares,
        full_data=frozenset(settings.full_data),
        has_independent_seeds=settings.independent_seeds or equal_arms(arms) is not None,
    )
