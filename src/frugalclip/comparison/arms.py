"""The arms of a comparison: recipes of ours, and programs of other libraries."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import RecipeError
from frugalclip.core.paths import user_path
from frugalclip.core.yaml_text import read_yaml
from frugalclip.training.recipe import Recipe, load_recipe

_TITLES = {"name", "description", "source", "run_here"}  # settings of a recipe that do not change the run


class CommandArm(Settings):
    """An arm file with a `command` instead of a recipe."""

    name: str | None = Field(None, description="of the arm; default the name of the file")
    description: str = Field("", description="one sentence")
    source: str = Field("", description="where the settings come from")
    command: list[str] = Field(
        min_length=1,
        description="program and arguments; the path of the job is appended, and python means this one",
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="passed on in the job")


@dataclass(frozen=True)
class Arm:
    """One arm: either a recipe or a command."""

    name: str
    recipe: Recipe | None = None
    command: tuple[str, ...] | None = None
    settings: dict[str, Any] | None = None
    description: str = ""

    def recipe_settings(self) -> dict[str, Any] | None:
        """The recipe without settings at their defaults, or None for a command.

        A setting that is added to the package later then leaves the jobs of older trials equal.
        """
        return None if self.recipe is None else self.recipe.model_dump(mode="json", exclude_defaults=True)

    def content(self) -> dict[str, Any]:
        """What the arm does, without its names and descriptions."""
        if self.recipe is None:
            return {"command": list(self.command or ()), "settings": self.settings or {}}
        return {key: value for key, value in (self.recipe_settings() or {}).items() if key not in _TITLES}

    def as_json(self) -> dict[str, Any]:
        """The arm as `compare.json` holds it."""
        kind = "recipe" if self.recipe else "command"
        return {"name": self.name, "kind": kind, "description": self.description, **self.content()}


def read_arms(words: Sequence[str]) -> list[Arm]:
    """Read arms and overrides from the words of a command line.

    Args:
        words: `RECIPE` or `NAME:RECIPE` for each arm, a name or a path. `key=value` overrides every recipe.

    Raises:
        RecipeError: for fewer than two arms, a name given twice, or an invalid recipe.
    """
    overrides = [word for word in words if "=" in word and not Path(word).is_file()]
    given = [word for word in words if word not in overrides]
    arms = [_read_arm(word, overrides) for word in given]
    if len(arms) < 2:
        found = f"'{given[0]}' alone is" if given else "nothing is"
        raise RecipeError(
            f"{found} no comparison; give two arms or more, "
            "such as: frugalclip compare clip siglip --seeds 3 --out runs/compare"
        )
    names = [arm.name for arm in arms]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RecipeError(
            f"two arms are called '{twice}'; give them different names, "
            f"such as {twice}-a:{twice} {twice}-b:{twice}."
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
    path = user_path(source)
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
    """Names of the first two arms with equal content, or None."""
    for i, first in enumerate(arms):
        for second in arms[i + 1 :]:
            if first.content() == second.content():
                return first.name, second.name
    return None
