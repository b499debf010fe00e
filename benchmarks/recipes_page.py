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
    """Recipe -> a step over a step of CLIP."""
    path = RESULTS / "objectives.json"
    seconds = read_json(path)["seconds"] if path.is_file() else {}
    return {name: value / seconds["clip"] for name, value in seconds.items()}


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
        lines += [
            f"## {title}",
            "",
            "| recipe | terms | image + text passes | parameters | GFLOP a sample | step |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            row(recipe, plan_recipe(recipe), ratios.get(name))
            for name, recipe in found.items()
            if recipe.run_here is here
        ]
        lines += [
            "",
            *(
                f"- `{name}`: {recipe.description}"
                for name, recipe in found.items()
                if recipe.run_here is here
            ),
            "",
        ]
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
