"""The content of `advice.json`: what was measured, predicted and run."""

from collections.abc import Sequence
from typing import Any

from frugalclip.advising.given import GivenModel
from frugalclip.advising.options import Option, best_of_each_route
from frugalclip.advising.profile import DataProfile
from frugalclip.core.users_text import command_line

VERSION = 1


def new_advice(
    data: str,
    hours: float,
    profile: DataProfile,
    options: Sequence[Option],
    *,
    given: GivenModel | None,
    settings: Sequence[str],
    runs_behind_it: int,
) -> dict[str, Any]:
    """Advice before anything is run (docs/formats.md).

    Args:
        data: its path.
        hours: that runs may take.
        profile: of the data.
        options: every candidate, the highest prediction first.
        given: a model that is there.
        settings: `key=value` pairs of the user's, for the commands.
        runs_behind_it: how many runs the predictions rest on.
    """
    best = best_of_each_route(options, 3600 * hours)
    ranking = [_ranked(one, data, hours, settings) for one in best]
    if given is not None:
        command = command_line("evaluate", given.source, "--data", data)
        ranking = _with(given.ranked(profile, command), ranking)
    return {
        "frugalclip_advice": VERSION,
        "data": data,
        "hours": hours,
        "profile": profile.model_dump(mode="json"),
        "ranking": ranking,
        "options": [one.to_json() for one in options],
        "runs_behind_it": runs_behind_it,
        "trials": [] if given is None else [given.trial.to_json()],
        "chosen": None,
    }


def _ranked(option: Option, data: str, hours: float, settings: Sequence[str]) -> dict[str, Any]:
    route = option.candidate.route
    words = route.words(option.candidate.samples, data, settings)
    command = command_line("train", route.recipe, *words, "--out", f"runs/{option.name}")
    return option.to_json() | {"fits": option.fits(3600 * hours), "command": command}


def _with(row: dict[str, Any], ranking: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A ranking with one more row, before the first that is not above it."""

    def is_below(one: dict[str, Any]) -> bool:
        return not one["fits"] or one["value"] is None or one["value"] <= row["value"]

    place = next((i for i, one in enumerate(ranking) if is_below(one)), len(ranking))
    return [*ranking[:place], row, *ranking[place:]]
