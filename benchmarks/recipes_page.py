"""Write docs/recipes.md: every recipe with its passes, size and cost. Run: python benchmarks/recipes_page.py (after objectives.py)."""

from pathlib import Path
from typing import Any

from _common import RESULTS

from frugalclip.core.records import read_json, write_json
from frugalclip.training.planning import Plan, plan_recipe
from frugalclip.training.recipe import Recipe, known_recipes, load_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "recipes.md"
REFERENCE = ROOT / "src" / "frugalclip" / "recipes" / "reference.json"
SAMPLES = 16_000  # the run that minutes are given for
WITHOUT_ARRAYS = {"token_wise", "masked_distillation", "lexical"}  # no public code to compare with
UNPUBLISHED = {"aclip-neighbours", "siglip-declip", "slip-protoclip", "two-stage"}  # sums of nobody's paper
TABLE = (
    "| recipe | status | passes | parameters | GFLOP a sample | step | minutes |",
    "|---|---|---|---|---|---|---|",
)
HEAD = """# Recipes

Written by `python benchmarks/recipes_page.py`. Passes, parameters and arithmetic are what `frugalclip plan RECIPE` counts: arithmetic is forward
and backward of every pass, teachers and episodes included, for one sample. "Step" is a measured training step over one of `clip` with the same
towers and batch (`benchmarks/objectives.py`); a recipe without a figure has other towers, or was not measured. What the recipes reach stands in
[results](results.md). A recipe says in `source` where its settings come from and what was changed.

## What is proven

| method | objectives | proof |
|---|---|---|
| CLIP, ALIGN, SigLIP | `contrastive`, `sigmoid` | authors' arrays; N processes and parts of a batch equal the whole |
| SLIP | `contrastive` + `simclr` | the same; each view with its own batch statistics, as published |
| DeCLIP | `multiview` + `simsiam` + `masked_text` + `neighbours` | the same, with the intended ring queue in place of the released one |
| A-CLIP | `attentive_mask` + `multiview` + `simclr` + `byol` | the same, with the repaired formulas; the crop around the views by its invariants |
| ProtoCLIP | `contrastive` + `prototypes` | the same; clusterings as good as the library's |
| FILIP, DeFILIP | `token_wise` | formula and invariants only: **experimental** |
| FLAME | `facets` over a stored language model | authors' arrays; packed facets equal separate prompts on the real language model |
| LexVLA | `lexical` | formulas and invariants, since no code was released: **experimental** |
| LiT, `pretrained` | `contrastive` over frozen backbones | training from a store equals training with the backbone; the fit equals the solved regression |
| MaskCLIP (self-distillation) | `masked_distillation` | no public code to compare with: **experimental** |

## What helps at a small budget

Proof that a method is what its paper says is not proof that it helps in minutes on two cores. What runs here say ([results](results.md), with
intervals; [log](log.md) for what did not help):

| you have | start with | why |
|---|---|---|
| pretrained parts that may be used | `pretrained` | three to four times the best model from nothing on unseen concepts; above floors from 250 pairs |
| a few thousand small pictures | `frugal` | twice open_clip's figure at equal samples, in less than half of its time (later 1.8 times) |
| few pairs with sentences | `declip` without `neighbours` | finds 21.7 % of scenes by caption, CLIP 18.9 (three seeds); twice its time |
| pictures to tell apart by features | `slip` | better on ten of eleven probes (six pairs of runs); on scenes +1.6; twice its time |
| other languages, long captions | a frozen text encoder | names in languages the heads never saw, words after the 77th token |

These gains are per pair: at equal seconds plain CLIP is ahead of `declip` and `slip` for as long as these runs last (1,000 steps). Several views
carry DeCLIP. Two views of half of the patches beat one whole view under the same cuts, with SimCLR and BYOL (`aclip`) by 2.6 points; that attention
chooses the half, and not chance, added nothing here. Neighbours and word-to-patch scores (`defilip`) lost something, training each encoder by itself
first lost most; prototypes are level or behind where no two scenes are alike; SimSiam, self-distillation and back translation changed nothing that
could be shown; an external teacher tightens ProtoCLIP's groups. They may gain more at the papers' length: the recipes are there, in the papers'
sizes too.

## Adding up

A recipe is a sum. This is SLIP on the patches that A-CLIP keeps, with masked words in the second half of the run:

```yaml
extends: aclip                                        # one level; what is not named stays
objectives:
  byol: null                                          # takes a term out
  masked_text: {weight: 0.2, during: [0.5, 1]}        # counts in the second half
  neighbours: {weight: 0.2, images: [main@kept, second@kept], texts: [caption]}
```

- `VIEW@kept`, `VIEW@masked` and `VIEW@visible` are made by `attentive_mask`, `masked_text` and `masked_distillation`; whoever names one reads
  it, and it is encoded once.
- `views.NAME.contains: [main, second]` is a crop around others; `texts.NAME: {of: caption, augment: {}}` changes the words of the caption that
  `caption` shows.
- `teachers: {NAME: {from: ema}}`, or a model, or the folder of `frugalclip embed`. `ema` is known without being listed.
- `episode: {samples: 4096}` for `prototypes`; `during: [start, end]` for any objective.
- `optimizer.groups: [{match: ^network\\.image\\., until: 0.98}]` holds a part of the network still at the end.
- Weight 0 leaves training exactly as without the term. Every sum is exact under `micro_batch` and on N processes.
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
    is_experimental = recipe.name in UNPUBLISHED or WITHOUT_ARRAYS & set(recipe.objectives)
    return "experimental" if is_experimental else "proven"


def cost(recipe: Recipe, plan: Plan) -> dict[str, Any]:
    """What `frugalclip recipes` prints of a recipe's cost; the fields of `RecipeCost`."""
    trained = [one for one in plan.passes if one.has_gradient]
    steps, times = measured(), minutes()
    ratio = steps[recipe.name] / steps["clip"] if recipe.name in steps else None
    time = times.get(recipe.name)
    return {
        "image_passes": sum(one.tower == "image" for one in trained),
        "text_passes": sum(one.tower == "text" for one in trained),
        "passes_without_gradient": len(plan.passes) - len(trained),
        "parameters": plan.parameters["all"],
        "gflops_per_sample": round(plan.gflops_per_sample, 4),
        "step_ratio": None if ratio is None else round(ratio, 2),
        "minutes": None if time is None else round(time, 2),
    }


def terms(recipe: Recipe) -> str:
    """`0.4 multiview + 0.2 simsiam`, as far as they count."""
    parts = []
    for name, one in recipe.objectives.items():
        if one.weight:
            window = (
                "" if one.during == (0, 1) else f" ({one.during[0]:.0%} to {one.during[1]:.0%} of the run)"
            )
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


def main() -> None:
    """Write the page, and the file that `frugalclip recipes` reads."""
    found = {name: load_recipe(name) for name in known_recipes()}
    costs = {name: cost(recipe, plan_recipe(recipe)) for name, recipe in found.items()}
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
