"""The design of a comparison: arms, reference, protocol, repetitions and fractions of the pairs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from frugalclip.comparison.arms import Arm, equal_arms
from frugalclip.comparison.protocol import ProtocolConfig
from frugalclip.core.errors import RecipeError, known_names


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


def make_design(
    arms: Sequence[Arm],
    protocol: ProtocolConfig,
    *,
    reference: str | None,
    seeds: int,
    fractions: Sequence[float],
    full_data: Sequence[str],
    independent_seeds: bool,
) -> Design:
    """Check the names of arms and fill in defaults.

    Args:
        arms: at least two.
        protocol: resolved.
        reference: name of an arm; default the first.
        seeds: repetitions.
        fractions: shares of the training pairs.
        full_data: names of arms that are trained on all pairs only.
        independent_seeds: every arm has its own randomness; equal arms always have.

    Raises:
        RecipeError: for an unknown arm.
    """
    known = [arm.name for arm in arms]
    given = [("--reference", name) for name in (reference,) if name is not None]
    for option, name in [*given, *(("--full-data", name) for name in full_data)]:
        if name not in known:
            raise RecipeError(f"{option} {name} is not one of the arms; {known_names(name, known)}")
    return Design(
        arms=arms,
        reference=reference or known[0],
        protocol=protocol,
        seeds=seeds,
        fractions=fractions,
        full_data=frozenset(full_data),
        has_independent_seeds=independent_seeds or equal_arms(arms) is not None,
    )
