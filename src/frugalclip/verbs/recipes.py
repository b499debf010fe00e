"""`frugalclip recipes`: every recipe with its purpose, cost and status, and every setting of one recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.padding import Padding
from rich.text import Text

from frugalclip.core.reference import SettingValue, values
from frugalclip.core.terminal import Terminal
from frugalclip.training.catalogue import RecipeCost, RecipeEntry, recipe_entries
from frugalclip.training.recipe import Recipe, load_recipe, recipe_layers
from frugalclip.training.recommendation import TABLE

DEFAULT, DERIVED = "default", "derived"
YOURS = "yours"  # status of a recipe that is not in the package
_STYLES = {"proven": "green", "experimental": "yellow", "not run here": "dim"}


@dataclass(frozen=True)
class SourcedValue:
    """A setting of a recipe, and the file that sets it."""

    value: SettingValue
    origin: str  # a recipe's name, "default", or "derived" from another setting such as a size


@dataclass(frozen=True)
class RecipeReference:
    """One recipe with every setting."""

    recipe: Recipe
    status: str
    cost: RecipeCost | None  # None for a recipe that is not in the package
    settings: tuple[SourcedValue, ...]


def recipes() -> list[RecipeEntry]:
    """Every recipe of the package with its purpose, cost and status."""
    return recipe_entries()


def recipe_reference(name: str, overrides: Sequence[str] = ()) -> RecipeReference:
    """Every setting of a recipe with its value, unit, default and source.

    Args:
        name: a recipe of the package, or the path of a YAML file.
        overrides: `key=value` pairs, as for `train`.

    Raises:
        RecipeError: when the recipe is not found or not valid.
    """
    recipe = load_recipe(name, overrides)
    layers = recipe_layers(name)
    known = {entry.name: entry for entry in recipes()}
    entry = known.get(name)
    settings = tuple(
        SourcedValue(each, _origin(each, layers, overrides))
        for each in values(recipe)
        if each.setting.name not in ("name", "description", "source", "run_here")
    )
    return RecipeReference(recipe, entry.status if entry else YOURS, entry.cost if entry else None, settings)


def show(entries: Sequence[RecipeEntry]) -> None:
    """Print the list of recipes."""
    console = Terminal()
    for entry in entries:
        status = (entry.status, _STYLES.get(entry.status, ""))
        console.print(Text.assemble((entry.name, "bold"), "  ", status))
        for line in (entry.purpose, cost_in_words(entry.cost)):
            console.print(Padding(Text(line), (0, 0, 0, 4), expand=False))
    console.print("\nWhere to start, by the number of pairs:")
    for row in TABLE:
        alternative = f", or {row.pretrained} over frozen backbones" if row.pretrained else ""
        line = f"{row.size} pairs: {row.scratch}{alternative}; {row.evidence.replace('`', '')}."
        console.print(Padding(Text(line), (0, 0, 0, 4), expand=False))
    console.print(
        "\nMinutes are those of 16,000 samples on one CPU thread, where they were measured."
        "\nfrugalclip recipes show NAME lists every setting of a recipe."
    )


def show_reference(reference: RecipeReference) -> None:
    """Print one recipe with every setting."""
    console = Terminal()
    recipe = reference.recipe
    for label, text in (
        (recipe.name, recipe.description),
        ("status", reference.status),
        ("cost", cost_in_words(reference.cost) if reference.cost else f"see frugalclip plan {recipe.name}"),
        ("source", recipe.source),
    ):
        console.print(Text.assemble((label, "bold"), f": {text}"))
    section = None
    for each in reference.settings:
        setting = each.value.setting
        if (first := setting.name.partition(".")[0]) != section:
            section = first
            console.print()
        is_set = each.origin not in (DEFAULT, DERIVED)
        value = (f"{setting.name}={each.value.value}", "bold" if is_set else "")
        source = each.origin + ("" if each.value.is_default else f"; default {setting.default}")
        console.print(Text.assemble(value, (f"  {setting.unit}", "cyan"), (f"  ({source})", "dim")))
        if setting.description:
            console.print(Padding(Text(setting.description, "dim"), (0, 0, 0, 4), expand=False))


def cost_in_words(cost: RecipeCost) -> str:
    """The cost of a recipe on one line."""
    passes = f"{cost.image_passes} + {cost.text_passes} passes"
    if cost.passes_without_gradient:
        passes += f" (and {cost.passes_without_gradient} without gradient)"
    words = [
        passes,
        f"{cost.parameters / 1e6:.1f}M parameters",
        f"{cost.gflops_per_sample:.2f} GFLOP a sample",
    ]
    if cost.step_ratio is not None:
        words.append(f"{cost.step_ratio:.2f} x clip's step")
    if cost.minutes is not None:
        words.append(f"{cost.minutes:.1f} min")
    return ", ".join(words)


def _origin(
    each: SettingValue, layers: Sequence[tuple[str, dict[str, Any]]], overrides: Sequence[str]
) -> str:
    """The file that sets a value: the first whose mappings reach it."""
    path = each.setting.name.split(".")
    if any(each.setting.name.startswith(pair.partition("=")[0]) for pair in overrides):
        return "command line"
    for name, content in layers:
        if _reaches(content, path):
            return name
    return DEFAULT if each.is_default else DERIVED


def _reaches(content: Any, path: Sequence[str]) -> bool:
    """Whether mappings set a dotted name, themselves or by a word that stands for a section."""
    for part in path:
        if not isinstance(content, Mapping):
            return True
        if part not in content:
            return False
        content = content[part]
    return True
