"""Write docs/recipes.md: every recipe with its passes, size and cost. Run: python benchmarks/recipes_page.py (after objectives.py)."""

from pathlib import Path

from _common import RESULTS

from frugalclip.core.records import read_json
from frugalclip.training.planning import Plan, plan_recipe
from frugalclip.training.recipe import Recipe, known_recipes, load_recipe

PAGE = Path(__file__).resolve().parents[1] / "docs" / "recipes.md"
HEAD = """# Recipes

Written by `python benchmarks/recipes_page.py`. Passes, parameters and arithmetic are what `frugalclip plan RECIPE` counts: arithmetic is forward
and backward of every pass, teachers and episodes included, for one sample. "Step" is a measured training step over one of `clip` with the same
towers and batch (`benchmarks/objectives.py`); a recipe without a figure has other towers, or was not measured. What the recipes reach stands in
[results](results.md). A recipe says in `source` where its settings come from and what was changed.

Objectives add up: write a file that `extends` one of these and name another term under `objectives`, or set its weight to 0 to see what it gives.
"""


def measured() -> dict[str, float]:
    """Recipe -> a step over a step of CLIP."""
    path = RESULTS / "objectives.json"
    seconds = read_json(path)["seconds"] if path.is_file() else {}
    return {name: value / seconds["clip"] for name, value in seconds.items()}


def terms(recipe: Recipe) -> str:
    """`0.4 multiview + 0.2 simsiam`, as far as they count."""
    parts = []
    for name, one in recipe.objectives.items():
        if one.weight:
            window = "" if one.during == (0, 1) else f" ({one.during[0]:.0%} to {one.during[1]:.0%} of the run)"
            parts.append((f"{one.weight:g} " if one.weight != 1 else "") + name + window)
    return " + ".join(parts)


def row(recipe: Recipe, plan: Plan, ratio: float | None) -> str:
    trained = [one for one in plan.passes if one.has_gradient]
    passes = f"{sum(one.tower == 'image' for one in trained)} + {sum(one.tower == 'text' for one in trained)}"
    extra = len(plan.passes) - len(trained)
    cells = [
        f"`{recipe.name}`",
        terms(recipe),
        passes + (f", {extra} without gradient" if extra else ""),
        f"{plan.parameters['all'] / 1e6:.1f} M",
        f"{plan.gflops_per_sample:.2f}",
        f"{ratio:.2f} ×" if ratio else "–",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Write the page."""
    found = {name: load_recipe(name) for name in known_recipes()}
    ratios = measured()
    lines = [HEAD]
    for title, here in (("Small", True), ("In the papers' sizes, planned and not run here", False)):
        lines += [f"## {title}", "", "| recipe | terms | image + text passes | parameters | GFLOP a sample | step |", "|---|---|---|---|---|---|"]
        lines += [row(recipe, plan_recipe(recipe), ratios.get(name)) for name, recipe in found.items() if recipe.run_here is here]
        lines += ["", *(f"- `{name}`: {recipe.description}" for name, recipe in found.items() if recipe.run_here is here), ""]
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
