"""Learned gates: which channels, heads and neurons of both towers are worth keeping.

Source: TinyCLIP, arXiv 2309.12314, section 3.2, and its code (`l0module.py`), an adaptation of CoFi, arXiv
2204.00408. Every process draws the same gates, where the code draws others on each. Sizes count every
parameter of a tower but the token embedding; the code counts the matrices of its layers. At the end a shift
common to all gates is searched so that the network that is left has the size wanted; the code rounds layer by
layer and misses it.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from frugalclip.compression.base import GateConfig, GateSource, TowerCut
from frugalclip.compression.cutting import cut_network, units_of
from frugalclip.compression.rounding import STEP, TOLERANCE, rounded, rounded_down
from frugalclip.core.types import Gates, SampledGates
from frugalclip.functional import expected_kept, highest, open_probability, sampled_gates, soft_gates
from frugalclip.functional.hard_concrete import ALWAYS
from frugalclip.towers.base import Side
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.units import KeptUnits, UnitCounts, UnitKind, Units

LIMIT = math.log(100)  # of log alpha: an open gate may close again, and a closed one open
KINDS: tuple[UnitKind, ...] = ("hidden", "heads", "neurons")


class Config(GateConfig):
    units: tuple[UnitKind, ...] = Field(KINDS, min_length=1, description="what may be closed")
    towers: tuple[Literal["image", "text"], ...] = Field(
        ("image", "text"), min_length=1, description="towers with gates"
    )
    initial: float = Field(10.0, description="log alpha of every gate at the start: open")
    keep: float = Field(
        0.5, gt=0, le=1, description="share of the parameters of the gated towers, without token embedding"
    )


class HardConcrete(GateSource):
    """Hard-concrete gates of both towers."""

    Config = Config

    def __init__(self, config: Config, network: DualEncoder) -> None:
        super().__init__(config, network)
        self.config = config
        self.units: dict[Side, Units] = units_of(network, config.towers)
        self.full_size: dict[str, float] = {side: float(own.size()) for side, own in self.units.items()}
        self.log_alpha = nn.ParameterDict(
            {
                f"{side}_{kind}": nn.Parameter(torch.full((sum(_widths(units, kind)),), config.initial))
                for side, units in self.units.items()
                for kind in config.units
            }
        )

    def sample(self, *, generator: torch.Generator) -> SampledGates:
        """Draw the gates of one step; see `GateSource`."""
        drawn: dict[str, Tensor] = {}
        for name, log_alpha in self.log_alpha.items():
            noise = torch.rand(log_alpha.shape, generator=generator, dtype=torch.float64)
            drawn[name] = sampled_gates(log_alpha, noise.clamp(ALWAYS, 1 - ALWAYS).to(log_alpha))
        sizes = {side: self._expected_size(side) for side in self.units}
        return SampledGates(
            image=self._gates("image", drawn),
            text=self._gates("text", drawn),
            expected_size=dict(sizes),
            full_size=self.full_size,
            keep=self.config.keep,
        )

    @torch.no_grad()
    def clamp(self) -> None:
        """Hold log alpha between the logarithms of 0.01 and 100."""
        for log_alpha in self.log_alpha.values():
            log_alpha.clamp_(-LIMIT, LIMIT)

    @torch.no_grad()
    def settle(self) -> dict[Side, TowerCut]:
        """Keep the units with the highest log alpha, as many as the size allows; see `GateSource`."""
        return self._cuts(self.config.keep)

    @torch.no_grad()
    def evaluated(self, network: DualEncoder) -> DualEncoder:
        """The cut network of the size that the gates expect now, and of no less than they will keep.

        The network that the stage leaves is the same one, once the gates expect their size.
        """
        expected = sum(float(self._expected_size(side)) for side in self.units)
        share = expected / sum(self.full_size.values())
        return cut_network(network, self._cuts(max(self.config.keep, share)))

    def _cuts(self, keep: float) -> dict[Side, TowerCut]:
        """What stays of each tower when a share of the parameters does."""
        scores = {name: _on_cpu(log_alpha) for name, log_alpha in self.log_alpha.items()}
        kept = _kept_of_size(self.units, scores, keep=keep)
        soft = {name: soft_gates(log_alpha).float() for name, log_alpha in scores.items()}
        cuts: dict[Side, TowerCut] = {}
        for side, units in self.units.items():
            cuts[side] = TowerCut(_units_where(units, side, kept), self._gates(side, soft))
        return cuts

    @property
    def _device(self) -> torch.device:
        return next(iter(self.log_alpha.values())).device

    def _gates(self, side: Side, values: dict[str, Tensor]) -> Gates | None:
        if side not in self.units:
            return None
        units = self.units[side]

        def split(kind: UnitKind) -> tuple[Tensor, ...] | None:
            found = values.get(f"{side}_{kind}")
            return None if found is None else found.split(_widths(units, kind))

        return Gates(hidden=values.get(f"{side}_hidden"), heads=split("heads"), neurons=split("neurons"))

    def _expected_size(self, side: Side) -> Tensor:
        units = self.units[side]

        def expected(kind: UnitKind) -> list[Tensor]:
            widths = _widths(units, kind)
            if kind not in self.config.units:
                return [torch.tensor(float(width), device=self._device) for width in widths]
            probability = open_probability(self.log_alpha[f"{side}_{kind}"])
            return [part.sum() for part in probability.split(widths)]

        size = units.size(UnitCounts(expected("hidden")[0], expected("heads"), expected("neurons")))
        assert isinstance(size, Tensor), "the counts are"
        return size


def _widths(units: Units, kind: UnitKind) -> list[int]:
    """Units of a kind in each layer; of channels, which all layers share, one number."""
    c = units.config
    return [c.width] if kind == "hidden" else list(c.heads if kind == "heads" else c.neurons)


def _on_cpu(log_alpha: Tensor) -> Tensor:
    """(units,) float64; where only sizes are planned, every unit is worth the same."""
    return (
        torch.zeros(log_alpha.shape, device="cpu").double()
        if log_alpha.is_meta
        else log_alpha.detach().double().cpu()
    )


def _kept_of_size(units: dict[Side, Units], scores: dict[str, Tensor], *, keep: float) -> dict[str, Tensor]:
    """Which units stay: (units,) bool by side and kind, in fast numbers where the size can be met with them.

    A shift common to all scores gives whole numbers of channels, heads and neurons near the size wanted; the
    neurons with the scores next to the border make up the rest.
    """
    wanted = keep * sum(float(own.size()) for own in units.values())

    def of_size(*, fast: bool) -> dict[str, Tensor]:
        low, high = -60.0, 60.0
        for _ in range(60):
            middle = (low + high) / 2
            size = _size(units, _kept_at(units, scores, middle, fast=fast))
            low, high = (middle, high) if size <= wanted else (low, middle)
        return _with_neurons(units, scores, _kept_at(units, scores, low, fast=fast), wanted=wanted)

    found = of_size(fast=True)
    is_met = abs(_size(units, found) - wanted) <= TOLERANCE * wanted
    return found if is_met else of_size(fast=False)


def _kept_at(
    units: dict[Side, Units], scores: dict[str, Tensor], shift: float, *, fast: bool
) -> dict[str, Tensor]:
    """(units,) bool by side and kind: the highest scores, as many as are open in expectation at a shift."""
    found: dict[str, Tensor] = {}
    for side, own in units.items():
        for kind in KINDS:
            widths = _widths(own, kind)
            score = scores.get(f"{side}_{kind}")
            found[f"{side}_{kind}"] = (
                torch.ones(sum(widths), dtype=torch.bool, device="cpu")
                if score is None
                else torch.cat([_highest(part, shift, kind=kind, fast=fast) for part in score.split(widths)])
            )
    return found


def _highest(score: Tensor, shift: float, *, kind: UnitKind, fast: bool) -> Tensor:
    opened, most = max(int(kind == "hidden"), expected_kept(score + shift)), len(score)
    if fast and kind != "heads":
        opened = (rounded if kind == "hidden" else rounded_down)(opened, most=most)
    return highest(score, opened)


def _size(units: dict[Side, Units], kept: dict[str, Tensor]) -> float:
    return sum(float(own.size(_counts(own, side, kept))) for side, own in units.items())


def _counts(units: Units, side: Side, kept: dict[str, Tensor]) -> UnitCounts:
    def per_layer(kind: UnitKind) -> list[float]:
        return [float(part.sum()) for part in kept[f"{side}_{kind}"].split(_widths(units, kind))]

    return UnitCounts(float(kept[f"{side}_hidden"].sum()), per_layer("heads"), per_layer("neurons"))


def _with_neurons(
    units: dict[Side, Units], scores: dict[str, Tensor], kept: dict[str, Tensor], *, wanted: float
) -> dict[str, Tensor]:
    """Open the best closed neurons while there is room, in groups; then single ones if that is too coarse."""
    costs = {f"{side}_neurons": 2 * float(kept[f"{side}_hidden"].sum()) + 1 for side in units}
    room = wanted - _size(units, kept)
    for step in (STEP, 1):
        if step == 1 and room <= TOLERANCE * wanted:
            break
        for _, name, places in sorted(_closed(units, scores, kept, step=step), key=lambda group: group[0]):
            cost = costs[name] * len(places)
            if room < cost / 2:
                break
            kept[name][places] = True
            room -= cost
    return kept


def _closed(
    units: dict[Side, Units], scores: dict[str, Tensor], kept: dict[str, Tensor], *, step: int
) -> list[tuple[float, str, list[int]]]:
    """Closed neurons of each layer in groups, the best first: minus mean score, name of the tower, places."""
    groups: list[tuple[float, str, list[int]]] = []
    for side, own in units.items():
        name, first = f"{side}_neurons", 0
        for width in _widths(own, "neurons") if name in scores else ():
            score = scores[name][first : first + width]
            order = torch.argsort(score, descending=True, stable=True).tolist()
            closed = [place for place in order if not kept[name][first + place]]
            for start in range(0, len(closed), step):
                group = closed[start : start + step]
                groups.append((-float(score[group].mean()), name, [first + place for place in group]))
            first += width
    return groups


def _units_where(units: Units, side: Side, kept: dict[str, Tensor]) -> KeptUnits:
    def places(kind: UnitKind) -> tuple[Tensor, ...]:
        return tuple(
            torch.nonzero(part).flatten() for part in kept[f"{side}_{kind}"].split(_widths(units, kind))
        )

    return KeptUnits(
        places("hidden")[0], tuple(range(units.config.depth)), places("heads"), places("neurons")
    )
