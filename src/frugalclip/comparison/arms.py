"""The arms of a comparison: recipes, and programs of other libraries."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from frugalclip.core.config import Settings, read_yaml, validated
from frugalclip.core.errors import RecipeError
from frugalclip.training.recipe import Recipe, load_recipe

_TITLES = {
    "name",
    "description",
    "source",
    "run_here",
}  # what a recipe is called does not change what it does


class CommandArm(Settings):
    """An arm file with a `command` instead of a recipe."""

    name: str | None = Field(None, description="of the arm; default the name of the file")
    description: str = Field("", description="one sentence")
    source: str = Field("", description="where the settings come from")
    command: list[str] = Field(
        min_length=1,
        description="program and arguments; the path of the job is appended, and python means this one",
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="handed on in the job")


@dataclass(frozen=True)
class Arm:
    """One arm: either a recipe or a command."""

    name: str
    recipe: Recipe | None = None
    command: tuple[str, ...] | None = None
    settings: dict[str, Any] | None = None
    description: str = ""

    def settings_of_recipe(self) -> dict[str, Any] | None:
        """The recipe without settings that are at their defaults, so that a setting added tomorrow does not make today's trials another job."""
        return None if self.recipe is None else self.recipe.model_dump(mode="json", exclude_defaults=True)

    def content(self) -> dict[str, Any]:
        """What the arm does, without what it is called."""
        if self.recipe is None:
            return {"command": list(self.command or ()), "settings": self.settings or {}}
        return {key: value for key, value in (self.settings_of_recipe() or {}).items() if key not in _TITLES}

    def line(self) -> list[str]:
        """The program and its arguments, before the path of the job."""
        if self.command is None:
            return [sys.executable, "-m", "frugalclip.comparison.trial"]
        return [sys.executable if self.command[0] == "python" else self.command[0], *self.command[1:]]


def read_arms(words: Sequence[str]) -> list[Arm]:
    """Arms and overrides as they stand on a command line.

    Args:
        words: `RECIPE` or `NAME:RECIPE` for each arm, a name or a path, and `key=value` overrides of every recipe among them.

    Raises:
        RecipeError: for fewer than two arms, a name given twice, or a recipe that is not one.
    """
    overrides = [word for word in words if "=" in word and not Path(word).is_file()]
    given = [word for word in words if word not in overrides]
    arms = [_read_arm(word, overrides) for word in given]
    if len(arms) < 2:
        found = f"'{given[0]}' alone is" if given else "nothing is"
        raise RecipeError(
            f"{found} no comparison; give two arms or more, such as: frugalclip compare clip siglip --seeds 3 --out runs/compare"
        )
    names = [arm.name for arm in arms]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RecipeError(
            f"two arms are called '{twice}'; name them apart, such as {twice}-a:{twice} {twice}-b:{twice}."
        )
    return arms


def _read_arm(word: str, overrides: Sequence[str]) -> Arm:
    name, colon, source = word.partition(":")
    if not colon or Path(word).is_file():
        name, source = "", word
    if name and (not name[0].isalnum() or not all(c.isalnum() or c in "-_." for c in name)):
        raise RecipeError(
            f"'{name}' in {word} is no name for an arm; use letters, digits, - and _, such as baseline:clip."
        )
    path = Path(source)
    content = read_yaml(path) if path.is_file() else {}
    if "command" in content:
        arm = validated(CommandArm, content, where=source)
        return Arm(name or arm.name or path.stem, None, tuple(arm.command), arm.settings, arm.description)
    try:
        recipe = load_recipe(source, overrides)
    except RecipeError as error:
        raise RecipeError(f"arm {word}: {error}") from error
    return Arm(name or recipe.name, recipe, description=recipe.description)


def equal_arms(arms: Sequence[Arm]) -> tuple[str, str] | None:
    """Names of the first two arms that do the same, or None."""
    for i, first in enumerate(arms):
        for second in arms[i + 1 :]:
            if first.content() == second.content():
                return first.name, second.name
    return None
