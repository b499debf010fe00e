"""A model that the reader has already: what it reaches without training, and training it further."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from frugalclip.advising.predict import measured
from frugalclip.advising.profile import DataProfile, measure_model
from frugalclip.advising.race import TrialRun
from frugalclip.advising.routes import Route, finetune_route
from frugalclip.data.manifest import Manifest
from frugalclip.models import load
from frugalclip.training.optim import finetuning_rate

NAME = "zero-shot"


@dataclass(frozen=True)
class GivenModel:
    """A MODEL, measured on the rows of a profile."""

    source: str  # the MODEL
    value: float  # headline metric in percent
    memory_gb: float  # of its weights
    rate: float | None  # peak learning rate to train it further with; None where it cannot be trained

    @classmethod
    def measure(cls, source: str | Path, rows: Manifest, *, label_field: str | None) -> Self:
        """Load a MODEL and measure it.

        Args:
            source: the MODEL.
            rows: `measured_rows` of the data.
            label_field: field that names the classes.

        Raises:
            ModelError: if there is no model, or one that does not encode both.
        """
        model = load(source)
        value = measure_model(model, rows, label_field=label_field)
        towers = (model.network.image, model.network.text)
        can_train = all(any(one.requires_grad for one in tower.parameters()) for tower in towers)
        size = sum(one.nbytes for one in model.network.state_dict().values()) / 1e9
        return cls(str(source), value, size, finetuning_rate(model.network) if can_train else None)

    @property
    def routes(self) -> list[Route]:
        """What can be trained from it."""
        return [] if self.rate is None else [finetune_route(self.source, start=self.value, rate=self.rate)]

    @property
    def trial(self) -> TrialRun:
        """The model as a run that has ended, which others have to beat."""
        return TrialRun(NAME, self.value, 0.0, self.source)

    def ranked(self, profile: DataProfile, command: str) -> dict[str, Any]:
        """Its row of a ranking.

        Args:
            profile: that it was measured by.
            command: to measure it on other data.
        """
        found, best = measured(self.value, queries=profile.queries), profile.best_baseline
        beside = "above" if self.value > best else "not above"
        reason = f"measured, not predicted; {beside} the best baseline ({best:.1f} %)"
        if self.rate is None:
            reason += "; its weights are fixed, so it is not trained further"
        return {
            "name": NAME,
            "route": NAME,
            "recipe": None,
            "about": f"{self.source} as it is",
            "samples": None,
            "value": self.value,
            "interval": [found.low, found.high],
            "seconds": 0.0,
            "memory_gb": self.memory_gb,
            "reason": reason,
            "fits": True,
            "command": command,
        }
