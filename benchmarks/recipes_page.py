"""Write docs/recipes.md and what `frugalclip recipes` reads: every recipe with its passes, size and cost.

Run: python benchmarks/recipes_page.py (after objectives.py)
"""

import tempfile
from pathlib import Path
from typing import Any

from _common import RESULTS

from frugalclip.core.records import read_json, write_json
from frugalclip.training.catalogue import SAMPLES
from frugalclip.training.planning import Plan, plan_recipe
from frugalclip.training.recipe import Recipe, known_recipes, load_recipe
from frugalclip.verbs.train import train

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "recipes.md"
REFERENCE = ROOT / "src" / "frugalclip" / "recipes" / "reference.json"
WITHOUT_ARRAYS = {"token_wise", "masked_distillation", "lexical"}  # no public code to compare with
WITHOUT_RUNS = {  # arrays are met, or formulas; no record shows a gain yet
    "finetune",
    "tinyclip-manual",
    "tinyclip-auto",
    "tinyclip-staged",
    "tinyclip-staged-auto",
    "tldr-captioner",
}
UNPUBLISHED = {"aclip-neighbours", "siglip-declip", "slip-protoclip", "two-stage"}  # sums of nobody's paper
TABLE = (
    "| recipe | status | passes | parameters | GFLOP a sample | step | minutes |",
    "|---|---|---|---|---|---|---|",
)
HEAD = """# Recipes

Written by `python benchmarks/recipes_page.py`. `frugalclip recipes` prints the same, and
`frugalclip recipes show NAME` every setting of one recipe. What recipes reach stands in
[results](results.md), which one to take in [choose a recipe](choose-a-recipe.md).

- **Passes** are image + text passes of a step, and in brackets those without gradient.
- **Parameters** and **GFLOP a sample** are what `frugalclip plan` counts: forward and backward of every
  pass, teachers and episodes included.
- **Step** is a measured training step over one of `clip`, with the same towers and batch.
- **Minutes** are those of 16,000 samples on one CPU thread. A dash: not measured, or other towers.

## What is proven

| method | objectives | proof |
|---|---|---|
| CLIP, ALIGN, SigLIP | `contrastive`, `sigmoid` | authors' arrays; N processes equal one |
| SLIP | `contrastive`, `simclr` | authors' arrays |
| DeCLIP | `multiview`, `simsiam`, `masked_text`, `neighbours` | authors' arrays; the intended ring queue |
| A-CLIP | `attentive_mask`, `multiview`, `simclr`, `byol` | authors' arrays, formulas repaired |
| ProtoCLIP | `contrastive`, `prototypes` | authors' arrays; clusterings as good as faiss |
| FLAME | `facets` over a cached language model | authors' arrays; packed facets equal separate prompts |
| LiT, `pretrained` | `contrastive` over frozen backbones | cached features equal fresh ones; exact fit |
| FILIP, DeFILIP | `token_wise` | formula and invariants: **experimental** |
| LexVLA | `lexical` | formula and invariants: **experimental** |
| MaskCLIP | `masked_distillation` | invariants: **experimental** |
| TinyCLIP | `affinity`, `sparsity`, `feature_matching` | arrays met, no runs yet: **experimental** |
| TL;DR | `captioning` | arrays of the quantiser met, no runs yet: **experimental** |
| L2-SP, WiSE-FT (`finetune`) | `contrastive` | formulas and exact ends; no record yet: **experimental** |

Sums that nobody published (`aclip-neighbours`, `siglip-declip`, `slip-protoclip`, `two-stage`) are
experimental too: their terms are proven, their sum is not.

## Adding up

A recipe is a sum. This one takes a term out of A-CLIP and adds two:

```yaml
extends: aclip                                        # one level; what is not named stays
objectives:
  byol: null                                          # takes a term out
  masked_text: {weight: 0.2, during: [0.5, 1]}        # counts in the second half
  neighbours: {weight: 0.2, images: [main@kept, second@kept], texts: [caption]}
```

- `VIEW@kept`, `VIEW@masked` and `VIEW@visible` are made by `attentive_mask`, `masked_text` and
  `masked_distillation`. Any objective may name one, and it is encoded once.
- `views.NAME.contains: [main, second]` is a crop around other crops.
- `texts.NAME: {of: caption, augment: {}}` changes the words of the caption that `caption` drew.
- `teachers: {NAME: {from: ema}}` is a moving average; `from:` may also be a model or an embedding store.
- `episode: {samples: 4096}` is for `prototypes`; `during: [start, end]` works for any objective.
- `optimizer.groups: [{match: ^network\\.image\\., until: 0.98}]` freezes the image tower near the end.
- Weight 0 leaves training exactly as without the term. Every sum is exact under `micro_batch` and on N
  processes.
"""


def measured() -> dict[str, float]:
    """Recipe -> seconds of a training step of 64 samples, towers of 64 patches, one CPU thread."""
    path = RESULTS / "objectives.json"
    return dict(read_json(path)["seconds"]) if path.is_file() else {}


def minutes() -> dict[str, float]:
    """Recipe -> minutes of 16,000 samples on one CPU thread, where a record says so."""
    found = {name: SAMPLES / 64 * seconds / 60 for name, seconds in measured().items()}
    costs = read_json(RESULTS.parent / "emoji.json")["costs"]
    for arm, name in {"default": "clip-small", "frugal": "frugal"}.items():
        found[name] = SAMPLES / costs[arm]["samples_seen"] * costs[arm]["cpu_seconds"] / 60
    return found


def status(recipe: Recipe) -> str:
    """proven, experimental, or not run here."""
    if not recipe.run_here:
        return "not run here"
    is_experimental = recipe.name in UNPUBLISHED | WITHOUT_RUNS or WITHOUT_ARRAYS & set(recipe.objectives)
    return "experimental" if is_experimental else "proven"


def cost(recipe: Recipe, plan: Plan) -> dict[str, Any]:
    """The fields of `RecipeCost`, which `frugalclip recipes` prints; passes are those of the last stage."""
    passes = [one for one in plan.passes if one.stage == plan.passes[-1].stage]
    trained = [one for one in passes if one.has_gradient]
    steps, times = measured(), minutes()
    ratio = steps[recipe.name] / steps["clip"] if recipe.name in steps else None
    time = times.get(recipe.name)
    return {
        "image_passes": sum(one.tower == "image" for one in trained),
        "text_passes": sum(one.tower == "text" for one in trained),
        "passes_without_gradient": len(passes) - len(trained),
        "parameters": plan.parameters["all"],
        "gflops_per_sample": round(plan.gflops_per_sample, 4),
        "step_ratio": None if ratio is None else round(ratio, 2),
        "minutes": None if time is None else round(time, 2),
        "epochs": recipe.epochs,
    }


def terms(recipe: Recipe) -> str:
    """`0.4 multiview + 0.2 simsiam`, as far as they count; stages one after the other."""
    whole = "stage" if recipe.stages else "run"
    return ", then ".join(_terms(recipe.stage(i), whole=whole) for i in range(len(recipe.stages) or 1))


def _terms(recipe: Recipe, *, whole: str) -> str:
    parts = []
    for name, one in recipe.objectives.items():
        if one.weight:
            first, last = one.during
            window = "" if one.during == (0, 1) else f" ({first:.0%} to {last:.0%} of the {whole})"
            parts.append((f"{one.weight:g} " if one.weight != 1 else "") + name + window)
    return " + ".join(parts)


def row(recipe: Recipe, found: dict[str, Any]) -> str:
    """A line of the table of costs."""
    extra, ratio = found["passes_without_gradient"], found["step_ratio"]
    passes = f"{found['image_passes']} + {found['text_passes']}" + (f" + ({extra})" if extra else "")
    cells = [
        f"`{recipe.name}`",
        status(recipe),
        passes,
        f"{found['parameters'] / 1e6:.1f} M",
        f"{found['gflops_per_sample']:.2f}",
        f"{ratio:.2f} ×" if ratio else "–",
        "–" if found["minutes"] is None else f"{found['minutes']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def given_to(recipe: Recipe, folder: Path) -> list[str]:
    """The overrides that give a recipe its teacher or its start, a model of `clip`'s sizes, for counting."""
    missing = recipe.missing()
    if not missing:
        return []
    if not (folder / "clip").exists():
        train("clip", ["data=sample", "epochs=null", "steps=1", "batch=8"], out=folder / "clip")
    return [f"{name}={'sample' if name == 'guard.path' else folder / 'clip'}" for name in missing]


def main() -> None:
    """Write the page, and the file that `frugalclip recipes` reads."""
    found = {name: load_recipe(name) for name in known_recipes()}
    with tempfile.TemporaryDirectory() as folder:
        words = {name: given_to(recipe, Path(folder)) for name, recipe in found.items()}
        plans = {name: plan_recipe(load_recipe(name, words[name])) for name in found}
    costs = {name: cost(recipe, plans[name]) for name, recipe in found.items()}
    reference = {
        name: {"purpose": recipe.description, "status": status(recipe), "cost": costs[name]}
        for name, recipe in found.items()
    }
    write_json(REFERENCE, {"about": "written by benchmarks/recipes_page.py", "recipes": reference})
    lines = [HEAD]
    for title, here in (("Small", True), ("In the papers' sizes, planned and not run here", False)):
        chosen = [(name, recipe) for name, recipe in found.items() if recipe.run_here is here]
        lines += [f"## {title}", "", *TABLE, *(row(recipe, costs[name]) for name, recipe in chosen), ""]
        lines += [f"- `{name}` ({terms(recipe)}): {recipe.description}" for name, recipe in chosen]
        lines += [""]
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
