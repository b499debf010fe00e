"""The ways to a model that advice ranks: a recipe, its settings, and how many samples it sees.

From scratch, a run ends with heads fitted in closed form, which costs seconds (results/closing-fit.json).
Lengths grow by four, so that all shorter runs together cost less than the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from frugalclip.core.overrides import as_pairs
from frugalclip.training.recommendation import has_pretrained_parts

FINETUNE = "finetune"  # a recipe, and the name of its route
CLOSING_FIT: dict[str, Any] = {
    "stages": [
        {"name": "contrast"},
        {"name": "closing fit", "steps": 1, "change": {"kind": "closing_fit"}},
    ]
}


@dataclass(frozen=True)
class Route:
    """One way to a model."""

    name: str
    about: str
    recipe: str
    lengths: tuple[int, ...] = ()  # samples seen; empty where the recipe sets its own
    has_fit: bool = False  # whether a closing fit is added
    least_pairs: int = 0
    origin: Literal["scratch", "pretrained", "model"] = "scratch"
    settings: tuple[str, ...] = ()  # `key=value` pairs of its own
    start: float | None = None  # headline metric of the model that it goes on from, in percent

    def words(self, samples: int | None, data: str, settings: Sequence[str] = ()) -> list[str]:
        """The `key=value` pairs of a run.

        Args:
            samples: that it sees; None for the recipe's own length.
            data: path of the data.
            settings: further ones of the user's.
        """
        own: dict[str, Any] = {"data": data}
        if samples is not None:
            own |= {"samples": samples, "epochs": None}
        if self.has_fit:
            own |= CLOSING_FIT
        return [*as_pairs(own), *self.settings, *settings]


ROUTES = (
    Route("pretrained", "fitted heads on frozen pretrained backbones", "pretrained", origin="pretrained"),
    Route("clip-small", "from scratch, one crop", "clip-small", (4_000, 16_000, 64_000, 256_000), True),
    Route("frugal", "from scratch, four crops a picture", "frugal", (4_000, 16_000, 64_000, 256_000), True),
    Route("clip", "from scratch, transformers", "clip", (64_000, 256_000, 1_024_000), least_pairs=10_000),
)


@dataclass(frozen=True)
class Candidate:
    """A route at one length."""

    route: Route
    samples: int | None  # None where the recipe sets the length itself

    @property
    def name(self) -> str:
        """Unique among candidates, and a name for a folder."""
        return self.route.name if self.samples is None else f"{self.route.name}-{self.samples}"


def finetune_route(model: str, *, start: float, rate: float) -> Route:
    """Training a given model further, without a guard.

    Args:
        model: a MODEL.
        start: its headline metric on the data, in percent.
        rate: peak learning rate.
    """
    settings = as_pairs({"init_from": model, "guard": None, "optimizer.lr": rate})
    about = f"{model} trained further"
    return Route(FINETUNE, about, FINETUNE, origin="model", settings=tuple(settings), start=start)


def candidates(pairs: int, more: Sequence[Route] = ()) -> list[Candidate]:
    """What can be tried on so many pairs with what is installed, shorter runs of a route first.

    Args:
        pairs: to train on.
        more: further routes.
    """
    routes = [one for one in (*ROUTES, *more) if pairs >= one.least_pairs]
    if not has_pretrained_parts():
        routes = [one for one in routes if one.origin != "pretrained"]
    return [Candidate(one, samples) for one in routes for samples in one.lengths or (None,)]
