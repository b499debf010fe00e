"""Write docs/results.md from the records in results/.

Run: python benchmarks/results_page.py, after emoji.py, tune.py and same_recipe.py
"""

from pathlib import Path
from typing import Any

import advice_page
import compress_page
import failing_page
from claims import section as claims

from frugalclip.core.records import read_json

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE.parent / "results", HERE.parent / "docs" / "results.md"
ARMS = {
    "open_clip": "open_clip, as shipped, tuned",
    "open_clip_deduplicated": "the same without equal captions in the denominator",
    "plain": "our plain CLIP: same towers, pixels, batch",
    "siglip": "our SigLIP: same towers, pixels, batch",
    "default": "default recipe `clip-small`: convolutions, bag of words, keywords",
    "frugal": "recommended recipe `frugal`: the same, four crops, caption and keyword",
}
PRETRAINED = {
    "pretrained": "recipe `pretrained`: fitted heads on frozen backbones",
    "pretrained_heads": "the same backbones, heads trained by contrast",
}
HEAD = """# Results

Written by `python benchmarks/results_page.py` from the records in `results/`, which the commands below make.
Values are percent, with 95 % intervals over runs and concept families; p is corrected over the arms (Holm).
Results of papers are in the `source` of each recipe, and beside ours under published claims.
"""


def bounds(entry: dict[str, Any] | None) -> str:
    """`4.2 (3.1 to 5.3)`; a dash where nothing was measured."""
    if entry is None or entry["value"] is None:
        return "–"
    low, high = entry["interval"] or (None, None)
    return f"{entry['value']:.1f}" + (
        f" ({low:.1f} to {high:.1f})" if low is not None and high is not None else ""
    )


def emoji(found: dict[str, Any]) -> list[str]:
    """Unseen concepts in an unseen drawing style."""
    metrics, tests = found["metrics"], {test["arm"]: test for test in found["tests"]}
    lines = [
        "## Emoji: unseen concepts in an unseen style",
        "",
        f"`python benchmarks/emoji.py`: {found['seeds']} seeds, the styles {', '.join(found['folds'])} "
        f"held out in turn, {found['samples']:,} samples a run, on {found['data']['rows']:,} pairs. "
        f"{found['answer']}",
        "",
        "| arm | " + " | ".join(metrics) + " | against open_clip, unseen | p | verdict |",
        "|---|" + "---|" * (len(metrics) + 3),
    ]
    for arm, words in ARMS.items():
        cells = [bounds(metric["arms"].get(arm)) for metric in metrics.values()]
        test = tests.get(arm)
        against = (
            [bounds(test), f"{test['p_holm']:.3f}" if test["p_holm"] is not None else "–", test["verdict"]]
            if test
            else ["–", "–", "reference"]
        )
        lines.append(f"| {words} | " + " | ".join([*cells, *against]) + " |")
    for kind in ("chance", "baselines"):
        lines += baselines(metrics, kind)
    lines += [
        "",
        *(
            f"- `{name}`: {metric['description']}"
            for name, metric in metrics.items()
            if metric.get("description")
        ),
    ]
    return [*lines, "", *costs(found)]


def arms(
    found: dict[str, Any], title: str, words: str, names: dict[str, str], *, with_answer: bool = True
) -> list[str]:
    """A section with the metrics of some arms, chance and baselines."""
    metrics = found["metrics"]
    lines = [
        f"## {title}",
        "",
        words,
        "",
        "| arm | " + " | ".join(metrics) + " |",
        "|---|" + "---|" * len(metrics),
    ]
    for arm, called in names.items():
        lines.append(
            f"| {called} | "
            + " | ".join(bounds(metric["arms"].get(arm)) for metric in metrics.values())
            + " |"
        )
    lines += [
        row.removesuffix(" | – | – | – |") + " |"
        for kind in ("chance", "baselines")
        for row in baselines(metrics, kind)
    ]
    return [*lines, "", *([found["answer"], ""] if with_answer else [])]


def rates_in_words(found: dict[str, Any], names: dict[str, str]) -> str:
    """`CLIP 0.0015 (of 0.0005, 0.0015, 0.003), …`."""
    return ", ".join(
        f"{names.get(name, name)} {one['rate']:g} (of {', '.join(one['tried'])})"
        for name, one in found["rates"].items()
    )


def emoji_long(found: dict[str, Any]) -> list[str]:
    """The emoji comparison over four times its length."""
    words = (
        f"`python benchmarks/emoji_long.py` on {' and '.join(found['devices'])}: {found['seeds']} seeds, "
        f"{found['samples']:,} samples a run, all else as above. Peak learning rates by validation concepts, "
        f"at half the length: {rates_in_words(found, {})}."
    )
    lines = arms(
        found,
        "Emoji: four times as long",
        words,
        {name: called for name, called in ARMS.items() if name in found["rates"]},
    )
    baselines_of = [test for test in found["baseline_tests"] if test["arm"] == "frugal"]
    tests = "; ".join(
        f"{test['baseline'].replace('_', ' ')} {test['value']:+.1f} ({bounds_of(test)}, {test['verdict']})"
        for test in baselines_of
    )
    above = found["curves"]["arms"]["frugal"]["points_above_seconds"]
    by = found["metrics"][found["primary"]]["arms"]
    times = by["frugal"]["value"] / by["open_clip"]["value"]
    return [
        *lines,
        f"`frugal` reaches {times:.2f} times the value of open_clip. At equal seconds its curve is above "
        f"open_clip's in {above:.0f} % of the run. Difference to the baselines, paired by sample: {tests}.",
        "",
    ]


def closing_fit(found: dict[str, Any]) -> list[str]:
    """The fit that closes a from-scratch run, beside all that it is compared with."""
    by = found.get("summary")
    if by is None:
        return []
    seeds, styles = ({run[key] for run in found["runs"]} for key in ("seed", "held_out"))
    lines = [
        "## Emoji: the fit that closes a run",
        "",
        f"`python benchmarks/closing_fit.py`: recipe `demo` on the shipped emoji, {len(seeds)} seeds, the "
        f"styles {', '.join(sorted(styles))} held out in turn. Top 1 of unseen concepts, and how much the "
        "closing fit is above each other row, paired by image; `val` is where its settings were chosen.",
        "",
        "| | " + " | ".join(f"{split} | closing fit above it | verdict" for split in by) + " |",
        "|---|" + "---|---|---|" * len(by),
    ]
    for name in by["test"]["top1"]:
        cells = []
        for one in by.values():
            test = one["tests"].get(name)
            cells += [f"{one['top1'][name]:.1f}", bounds(test), test["verdict"] if test else "–"]
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return [*lines, "", *([found["note"], ""] if "note" in found else [])]


def bounds_of(test: dict[str, Any]) -> str:
    """`-0.2 to 4.1`."""
    low, high = test["interval"]
    return f"{low:.1f} to {high:.1f}"


def pretrained_towers(found: dict[str, Any]) -> list[str]:
    """The value of frozen backbones."""
    words = (
        f"`python benchmarks/pretrained.py`: the same rows, {found['seeds']} seeds; EfficientNet-Lite0 of "
        "ImageNet, "
        "MiniLM and multilingual E5, frozen. The backbones have seen ImageNet and a billion sentences, which "
        "the arms above have not. The fit is deterministic, so that seeds only vary the scale."
    )
    return arms(found, "Emoji: pretrained backbones", words, PRETRAINED)


def few_pairs(found: dict[str, Any]) -> list[str]:
    """As the pairs grow fewer."""
    kinds = [kind for kind in next(iter(found["pairs"].values())) if kind.startswith("baseline: ")]
    lines = [
        "## Emoji: few pairs",
        "",
        "`python benchmarks/few_pairs.py`: top 1 on unseen concepts in an unseen style, mean of three folds "
        "and "
        f"{found['seeds']} draws of whole families, and its spread over draws. Baselines copy from the same "
        f"pairs. open_clip trained on all pairs: {found['open_clip on all pairs']:.1f}.",
        "",
        "| pairs | `pretrained` | spread | "
        + " | ".join(kind.removeprefix("baseline: ").replace("_", " ") for kind in kinds)
        + " |",
        "|---|---|---|" + "---|" * len(kinds),
    ]
    for one in found["pairs"].values():
        cells = [
            f"{one['pairs']:,.0f}",
            f"{one['pretrained']:.1f}",
            f"{one['spread over seeds']:.1f}",
            *(f"{one[kind]:.1f}" for kind in kinds),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def backbone_tuning(found: dict[str, Any]) -> list[str]:
    """Whether to train the backbone."""
    words = (
        f"`python benchmarks/backbone_tuning.py`: {found['seeds']} seeds, {found['samples']:,} samples; a "
        "head over "
        "MiniLM is trained by contrast towards the image features of `pretrained`, and in two arms the "
        "sentence "
        "encoder too. 188 steps of 64; each arm's learning rate is the best of four (head: of three) on "
        "validation concepts (docs/log.md). A fit in closed form, without any step, reaches more than all of "
        "them: `pretrained`, above."
    )
    names = {
        "text_heads": "head only",
        "text_lora": "low-rank additions (LoRA)",
        "text_partial": "last two layers trained",
    }
    return arms(found, "Emoji: training the backbone", words, names)


def facets(found: dict[str, Any]) -> list[str]:
    """FLAME's three arms."""
    words = (
        f"`python benchmarks/facets.py`: {found['seeds']} seeds, {found['samples']:,} samples, the same "
        "image tower "
        "from scratch. SmolLM2 with 135M parameters replaces the paper's 7B, and names of two words replace "
        "captions."
    )
    names = {
        "plain": "text tower trained with the image tower",
        "flame_single": "frozen language model, one prompt",
        "flame_facets": "the same, three facets",
    }
    return arms(found, "Emoji: a frozen language model as text tower (FLAME)", words, names)


SIGNALS = {
    "clip-one": "CLIP, one view",
    "clip-moco": "CLIP, one of DeCLIP's views",
    "clip-two": "CLIP, two views of a kind",
    "declip": "DeCLIP, five terms",
    "declip-first": "without CLIP's own pair",
    "declip-views": "without several views",
    "declip-simsiam": "without SimSiam",
    "declip-masked": "without masked text",
    "declip-neighbours": "without neighbours",
    "slip": "SLIP",
    "slip-two": "SimCLR between two views, both contrasted",
    "clip-proto": "CLIP with ProtoCLIP's view",
    "protoclip": "ProtoCLIP, back translation",
    "filip": "CLIP and word to patch (FILIP)",
    "maskclip": "CLIP and masked self-distillation (MaskCLIP)",
    "defilip": "DeCLIP and word to patch (DeFILIP)",
    "at-once": "SimSiam, masked words and CLIP all along",
    "two-stage": "SimSiam and masked words first, then CLIP",
    "slip-protoclip": "SLIP and prototypes",
    "siglip-declip": "SigLIP with SimSiam, masked words, neighbours",
    "whole": "A-CLIP's view: CLIP, one whole view",
    "half-random": "CLIP, two views of half of the patches, at random",
    "half-block": "all but a block",
    "half-attentive": "by the attention of a slow copy (A-CLIP)",
    "aclip": "the same with SimCLR and BYOL: A-CLIP whole",
    "aclip-efficient": "A-CLIP, its slow copy at half the resolution",
    "aclip-neighbours": "A-CLIP's patches with neighbours and masked words",
}


def scenes(found: dict[str, Any]) -> list[str]:
    """Every signal on composed scenes."""
    words = (
        f"`python benchmarks/scenes.py`: {found['seeds']} seeds, {found['samples']:,} samples a run, 50,000 "
        "training "
        "scenes of 64 px, 64 patches. Evaluated on the same objects in new scenes and new words. Tests of "
        "each "
        f"question are below, under published claims, those against CLIP with {found['finalists']} seeds."
    )
    first = found["metrics"][found["primary"]]["arms"]
    return arms(
        found,
        "Scenes: every signal in a pair",
        words,
        {arm: called for arm, called in SIGNALS.items() if arm in first},
        with_answer=False,
    )


def scenes_long(found: dict[str, Any]) -> list[str]:
    """The same over a longer run."""
    rates = ", ".join(f"{SIGNALS.get(name, name)} {one['rate']:g}" for name, one in found["rates"].items())
    words = (
        f"`python benchmarks/scenes_long.py` on {' and '.join(found['devices'])}: {found['samples']:,} "
        "samples a run "
        f"in batches of {found['batch']}, {found['finalists']} seeds of whole methods, {found['seeds']} of "
        "the "
        f"others. Peak learning rates, best of three on validation scenes: {rates}. Those of ProtoCLIP and "
        "of the "
        "halves are the lowest tried. Halves have their own views (`aclip`) and are compared with each other "
        "only. The scenes were composed on that machine, where another Pillow writes other JPEG bytes; one "
        "of the "
        "2,481 evaluated captions differs from those above."
    )
    metrics = {
        name: metric | {"arms": found["screened"]["metrics"][name]["arms"] | metric["arms"]}
        for name, metric in found["metrics"].items()
    }
    first = metrics[found["primary"]]["arms"]
    names = {arm: called for arm, called in SIGNALS.items() if arm in first}
    return arms(
        found | {"metrics": metrics},
        "Scenes: every signal in a pair, 1,000 steps",
        words,
        names,
        with_answer=False,
    )


def scenes_methods(found: dict[str, Any]) -> list[str]:
    """The methods that the longer comparison leaves out."""
    words = (
        f"`python benchmarks/scenes_methods.py` on {' and '.join(found['devices'])}: {found['seeds']} seeds, "
        f"{found['samples']:,} samples a run in batches of 256. Peak learning rates of each family by "
        "validation "
        f"scenes, at half the length: {rates_in_words(found, SIGNALS)}. Arms from A-CLIP's view on have its "
        "crops "
        "(half to all of an image) and changed colours, which contradict captions about colours and places. "
        "They are compared with each other, not with CLIP's gentler view; the one whole view takes CLIP's "
        "rate."
    )
    first = found["metrics"][found["primary"]]["arms"]
    names = {arm: called for arm, called in SIGNALS.items() if arm in first}
    return arms(found, "Scenes: the other methods, 500 steps", words, names, with_answer=False)


def clipart(found: dict[str, Any]) -> list[str]:
    """Every signal on a real crawl."""
    words = (
        f"`python benchmarks/clipart.py`: {found['seeds']} seeds, {found['samples']:,} samples a run, "
        f"{found['data']['rows']:,} pairs including the evaluated ones. Drawings with their authors' "
        "captions; "
        "near duplicates are in one split only."
    )
    first = found["metrics"][found["primary"]]["arms"]
    names = {arm: called for arm, called in (ARMS | SIGNALS).items() if arm in first}
    return arms(found, "Clip art: every signal in a pair", words, names)


def long_text(found: dict[str, Any]) -> list[str]:
    """A word after the last token that a 77-token tower reads."""
    seeds = len(next(iter(found["runs"].values())))
    lines = [
        "## Scenes: a word after the 77th token",
        "",
        f"`python benchmarks/long_text.py`: which of {len(found['words'])} words ends the caption of a new "
        "image, "
        f"percent (chance {found['chance']:.1f}); {found['evaluated']} images, mean of {seeds} seeds.",
        "",
        "| text tower | right | times the 77-token tower |",
        "|---|---|---|",
    ]
    return [
        *lines,
        *(
            f"| {arm} | {value:.1f} | {found['times_77_tokens'][arm]:.1f} |"
            for arm, value in found["accuracy"].items()
        ),
        "",
    ]


def words(found: dict[str, Any]) -> list[str]:
    """LexVLA's words."""
    by = found["arms"]
    lines = [
        "## Emoji: images as words (LexVLA)",
        "",
        "`python benchmarks/words.py`: each style held out in turn; percent, but for scores and counts. "
        "Settings "
        "were chosen on the evaluated images of Noto, not on those of the other styles (docs/log.md). A "
        "hit: one of "
        "the ten top words is a content lemma of the concept's name or keywords. Chance: of another image's. "
        "`fitted` is the recipe `words`. The trained arms are `lexvla` over the backbone's one vector "
        f"(model.image.head.over=vector), {found['epochs']} epochs, with the weight of the image penalty "
        "beside its "
        "name.",
        "",
        "| metric | " + " | ".join(by) + " |",
        "|---|" + "---|" * len(by),
    ]
    metrics = next(iter(by.values()))
    return [
        *lines,
        *(
            f"| {name} | " + " | ".join(three_digits(one[name]) for one in by.values()) + " |"
            for name in metrics
        ),
        "",
        *tried_weights(found["tried"]),
    ]


def three_digits(value: float) -> str:
    """A share or a score with three digits, a count with all."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def tried_weights(tried: dict[str, Any]) -> list[str]:
    """The weights of LexVLA's penalty that were tried on validation concepts."""
    if not tried:
        return []
    names = [
        "top words hit",
        "precision of top words",
        "most used word",
        "recall, dense",
        "recall, 64 words",
        "non-zeros",
    ]
    return [
        "Weights of the image penalty on 161 validation concepts, Noto held out; the most precise of each "
        "kind was used:",
        "",
        "| penalty | weight | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(names),
        *(
            f"| {kind} | {weight} | " + " | ".join(three_digits(one[name]) for name in names) + " |"
            for kind, by in tried.items()
            for weight, one in by.items()
        ),
        "",
    ]


def languages(found: dict[str, Any]) -> list[str]:
    """Names in unseen languages."""
    by = found["t2i_r1"]
    codes = sorted(next(iter(by.values())))
    lines = [
        "## Emoji: unseen languages",
        "",
        "`python benchmarks/languages.py`: recall of the right image by its name (percent, mean of three "
        "folds, "
        "unseen concepts in an unseen style), trained on English. "
        f"Mean over {len(codes) - ('en' in codes)} languages without English: "
        + ", ".join(f"{arm} {value:.1f}" for arm, value in found["mean_without_english"].items())
        + f". The multilingual encoder reaches {found['times_trained_english']:.1f} times the recall of the "
        "trained English tower.",
        "",
        "| text tower | " + " | ".join(codes) + " |",
        "|---|" + "---|" * len(codes),
    ]
    return [
        *lines,
        *(
            f"| {arm} | " + " | ".join(f"{values[code]:.0f}" for code in codes) + " |"
            for arm, values in by.items()
        ),
        "",
    ]


def baselines(metrics: dict[str, Any], kind: str) -> list[str]:
    """Rows of chance or of the baselines."""
    if kind == "chance":
        cells = [
            f"{value:.2f}" if isinstance(value := metric.get("chance"), float) else "–"
            for metric in metrics.values()
        ]
        return ["| *chance* | " + " | ".join(cells) + " | – | – | – |"]
    names = dict.fromkeys(name for metric in metrics.values() for name in metric.get("baselines") or {})
    rows = []
    for name in names:
        cells = [
            f"{value:.1f}" if isinstance(value := (metric.get("baselines") or {}).get(name), float) else "–"
            for metric in metrics.values()
        ]
        rows.append(f"| *{name.replace('_', ' ')}* | " + " | ".join(cells) + " | – | – | – |")
    return rows


def costs(found: dict[str, Any]) -> list[str]:
    """The cost of the runs, and when each arm reaches the final value of open_clip."""
    lines = [
        "| arm | parameters | samples a second | seconds of a run | seconds to open_clip's final value "
        "| as a share of its whole run |",
        "|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        cost, reach = (found["costs"].get(arm), (found["curves"]["arms"].get(arm) or {}).get("reach"))
        if cost is None:
            continue
        sooner = ["–", "–"]
        if reach and reach["seconds"] is not None:
            sooner = [f"{reach['seconds']:.1f}", f"{reach['seconds'] / reach['reference_whole_seconds']:.2f}"]
        rate = cost["samples_seen"] / cost["cpu_seconds"]
        lines.append(
            f"| {arm} | {cost['parameters'] / 1e6:.2f} M | {rate:.0f} | {cost['cpu_seconds']:.0f} | "
            + " | ".join(sooner)
            + " |"
        )
    return [
        *lines,
        "",
        "Seconds are CPU time of training steps on one thread, without start and evaluation. A dash: never "
        "reached.",
        "",
    ]


def settings_in_words(settings: dict[str, Any]) -> str:
    """`optimizer.lr 0.0015, views.main.flip 0`."""
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def tuning(found: dict[str, Any]) -> list[str]:
    """The settings that were tried on validation concepts."""
    rows = [
        f"| {name} | {settings_in_words(one['settings'])} | {one['top1']:.1f} | {one['top5']:.1f} |"
        for name, one in found["arms"].items()
    ]
    return [
        "## How the arms were tuned",
        "",
        f"`python benchmarks/tune.py`: validation concepts, one seed, all folds, {found['samples']:,} "
        "samples; equally "
        "many settings for our arms and for open_clip. The test concepts had not been used before.",
        "",
        "| setting | what | top 1 | top 5 |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def same(found: dict[str, Any]) -> list[str]:
    """One recipe under two names."""
    wins, largest = (
        sum(one["wins"] for one in found["pairs"]),
        max(abs(one["value"]) for one in found["pairs"]),
    )
    return [
        "## One recipe under two names",
        "",
        f"`python benchmarks/same_recipe.py`: {len(found['pairs'])} comparisons of real runs with "
        f"{found['seeds']} "
        f"seeds each. {wins} had a winner, and the largest difference is {largest:.1f} points. "
        "At a level of 0.05 one in twenty is expected.",
        "",
    ]


def main() -> None:
    """Write the page."""
    parts = {
        "emoji.json": emoji,
        "emoji-long.json": emoji_long,
        "closing-fit.json": closing_fit,
        "scenes.json": scenes,
        "scenes-long.json": scenes_long,
        "scenes-methods.json": scenes_methods,
        "compress.json": compress_page.compress,
        "need-for-data.json": compress_page.need_for_data,
        "clipart.json": clipart,
        "advise.json": advice_page.advice,
        "pretrained.json": pretrained_towers,
        "few_pairs.json": few_pairs,
        "backbone_tuning.json": backbone_tuning,
        "facets.json": facets,
        "languages.json": languages,
        "long_text.json": long_text,
        "words.json": words,
        "benchmarks/failing_classes.json": failing_page.failing_classes,
        "tuning.json": tuning,
        "benchmarks/same-recipe.json": same,
    }
    lines = [HEAD]
    for name, write in parts.items():
        if (RESULTS / name).is_file():
            lines += write(read_json(RESULTS / name))
    lines += claims(RESULTS)
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
