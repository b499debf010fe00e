"""Published claims beside the results of runs here, as rows of docs/results.md.

Published values are the papers' own, at their scale; none was measured here. A verdict is about runs of
minutes on two cores: "not distinguishable" means that these runs cannot tell, not that the claim is wrong.
Rows without a record are left out. Used by benchmarks/results_page.py.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from frugalclip.core.records import read_json

Row = tuple[str, str, str, str, str]  # claim, published, here, interval, verdict
TERMS = {
    "declip-first": ("CLIP's own pair", "–"),
    "declip-views": ("several views", "+4.2 (CC3M, R50: 20.6 to 24.8)"),
    "declip-simsiam": ("SimSiam", "+0.6 with masked text (24.8 to 25.4)"),
    "declip-masked": ("masked text", "+0.6 with SimSiam (24.8 to 25.4)"),
    "declip-neighbours": ("neighbours", "+1.8 (25.4 to 27.2)"),
}
DECLIP, PROTOCLIP, SOONER = (
    "43.2 against 32.8 (ImageNet, ViT-B/32, YFCC15M)",
    "+2.0 (ImageNet, RN50, CC3M)",
    "33 % (YFCC15M)",
)  # published
SLIP = "42.8 against 37.6, unequal views (ViT-B/16, YFCC15M)"
MODELS = {
    "clip-one": "whole",
    "half-random": "random",
    "half-attentive": "attentive",
}  # arms of the longer runs as masks.py calls them
ENOUGH = 6  # pairs of runs below which an interval over runs is no ground for a verdict
WORSE = {"better": "refuted: better without", "worse": "holds", "not distinguishable": "not distinguishable"}
HOLDS = {"better": "holds", "worse": "refuted", "not distinguishable": "not distinguishable"}


def between(low: float | None, high: float | None, unit: str = "") -> str:
    """`-0.3 to 1.2`."""
    return "–" if low is None or high is None else f"{low:.1f} to {high:.1f}{unit}"


def tested(test: dict[str, Any], words: dict[str, str]) -> tuple[str, str, str]:
    """Difference, interval and verdict of a paired test."""
    low, high = test["interval"] or (None, None)
    found: str = test["verdict"]
    return f"{test['value']:+.1f} points", between(low, high), words.get(found, found)


def sign_test(wins: int, of: int) -> float:
    """Two-sided probability of so many wins or a more extreme number, if either side is equally likely."""
    extreme = max(wins, of - wins)
    return min(1.0, 2 * sum(math.comb(of, k) for k in range(extreme, of + 1)) / 2**of)


def by_arm(question: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Arm -> its paired test."""
    return {test["arm"]: test for test in question["tests"]}


def curve(question: dict[str, Any], arm: str) -> tuple[str, str, str]:
    """In how much of the run an arm is above the reference at equal samples."""
    share = question["above"][arm]["samples"]
    return f"in {share:.0f} % of the run", "–", "as measured"


def sooner(question: dict[str, Any], arm: str) -> tuple[str, str, str]:
    """When an arm reaches the final value of the reference, as a share of the reference's time."""
    reach = question["reach"][arm]
    bounds = [100 / one for one in reach["interval"] or () if one]
    if not reach["times_sooner"]:
        return "not reached", "–", "refuted"
    verdict = "as measured" if len(bounds) < 2 else "holds" if max(bounds) < 100 else "not distinguishable"
    return (
        f"{100 / reach['times_sooner']:.0f} %",
        between(min(bounds), max(bounds), " %") if len(bounds) == 2 else "–",
        verdict,
    )


def declip(data: str, against_clip: dict[str, Any], left_out: dict[str, Any]) -> Iterator[Row]:
    """DeCLIP, and each of its terms."""
    yield (f"{data}: DeCLIP above CLIP", DECLIP, *tested(by_arm(against_clip)["declip"], HOLDS))
    yield (
        f"{data}: DeCLIP's curve above CLIP's, at equal samples",
        "above; value not at hand",
        *curve(against_clip, "declip"),
    )
    for arm, (term, published) in TERMS.items():
        yield (f"{data}: DeCLIP without {term}", published, *tested(by_arm(left_out)[arm], WORSE))


def signals(found: dict[str, Any]) -> Iterator[Row]:
    """DeCLIP, SLIP and ProtoCLIP on the emoji pack: unseen concepts in an unseen style."""
    questions, data = found["questions"], "emoji"
    yield from declip(
        data, questions["DeCLIP against CLIP with its views"], questions["DeCLIP without one of its terms"]
    )
    slip = by_arm(questions["SimCLR between two views, both contrasted with the caption"])["slip-two"]
    yield (f"{data}: SLIP, SimCLR under equal views", SLIP, *tested(slip, HOLDS))
    proto = questions["ProtoCLIP against CLIP with its view"]
    yield (
        f"{data}: ProtoCLIP above CLIP with its view",
        PROTOCLIP,
        *tested(by_arm(proto)["protoclip"], HOLDS),
    )
    yield (f"{data}: ProtoCLIP's time to CLIP's final value", SOONER, *sooner(proto, "protoclip"))
    back = by_arm(questions["back translation and the external teacher"])["protoclip"]
    yield (
        f"{data}: ProtoCLIP, back translation on against off",
        "a gain; value not at hand",
        *tested(back, HOLDS),
    )
    yield (
        f"{data}: ProtoCLIP with an external teacher above CLIP",
        "a gain; value not at hand",
        *tested(by_arm(proto)["protoclip-teacher"], HOLDS),
    )


def scenes(found: dict[str, Any], data: str = "scenes") -> Iterator[Row]:
    """The same on composed scenes: finding a scene by its caption."""
    questions = found["questions"]
    clip = questions["against CLIP"]
    yield from declip(data, clip, questions["DeCLIP without one of its terms"])
    two = by_arm(questions["DeCLIP against two views alone"])["declip"]
    yield (f"{data}: DeCLIP above two views alone", "+2.4 (CC3M, R50: 24.8 to 27.2)", *tested(two, HOLDS))
    yield (f"{data}: SLIP above CLIP", SLIP, *tested(by_arm(clip)["slip"], HOLDS))
    yield (f"{data}: ProtoCLIP above CLIP", PROTOCLIP, *tested(by_arm(clip)["protoclip"], HOLDS))
    yield (f"{data}: ProtoCLIP's time to CLIP's final value", SOONER, *sooner(clip, "protoclip"))


def scenes_long(found: dict[str, Any]) -> Iterator[Row]:
    """The same over a longer run, and which half of the patches to keep."""
    yield from scenes(found, "scenes, 1,000 steps")
    yield from masks(
        {"tests": found["questions"]["half of the patches"]["tests"], "hits": found["hits"]},
        "scenes, 1,000 steps",
    )


def scenes_methods(found: dict[str, Any]) -> Iterator[Row]:
    """FILIP, MaskCLIP, A-CLIP whole, stages, and unpublished sums."""
    data = "scenes, 500 steps"
    published = {
        ("filip", "clip-one"): ("FILIP above CLIP", "39.5 against 32.8 (ImageNet, ViT-B/32, YFCC15M)"),
        ("maskclip", "clip-one"): ("MaskCLIP above CLIP", "42.7 against 37.6 (ImageNet, ViT-B/16, YFCC15M)"),
        ("defilip", "declip"): ("DeFILIP above DeCLIP", "45.0 against 43.2 (ImageNet, ViT-B/32, YFCC15M)"),
        ("protoclip", "clip-one"): ("ProtoCLIP above CLIP", PROTOCLIP),
        ("aclip", "whole"): (
            "A-CLIP above CLIP with its view",
            "43.9 against 37.6 (ImageNet, ViT-B/16, YFCC15M)",
        ),
        ("aclip-efficient", "whole"): (
            "A-CLIP's cheaper form above CLIP with its view",
            "42.9 against 37.6 (ImageNet, ViT-B/16, YFCC15M)",
        ),
        ("half-random", "whole"): ("two views of half at random above one whole", "38.0 against 37.6"),
        ("half-attentive", "whole"): ("two views of half by attention above one whole", "41.3 against 37.6"),
        ("half-attentive", "half-random"): (
            "half by attention above half at random",
            "41.3 against 38.0 (no self-supervision)",
        ),
        ("two-stage", "clip-one"): ("each encoder by itself first, against CLIP alone", "–"),
        ("two-stage", "at-once"): ("each encoder by itself first, against the same terms all along", "–"),
        ("slip-protoclip", "clip-one"): ("SLIP and prototypes above CLIP", "unpublished"),
        ("siglip-declip", "clip-one"): ("SigLIP with DeCLIP's terms above CLIP", "unpublished"),
        ("aclip-neighbours", "whole"): (
            "A-CLIP's patches with neighbours and masked words above CLIP with their view",
            "unpublished",
        ),
    }
    for question in found["questions"].values():
        for arm, test in by_arm(question).items():
            if (arm, question["reference"]) in published:
                claim, metric = published[arm, question["reference"]]
                yield (f"{data}: {claim}", metric, *tested(test, HOLDS))


def clipart(found: dict[str, Any]) -> Iterator[Row]:
    """The same on a real crawl: finding a drawing among the first ten by its caption."""
    published = {
        "declip": ("DeCLIP above CLIP with its views", DECLIP),
        "slip-two": ("SLIP, SimCLR under equal views", SLIP),
        "protoclip": ("ProtoCLIP above CLIP with its view", PROTOCLIP),
    }
    for question in found["questions"].values():
        for arm, test in by_arm(question).items():
            claim, metric = published[arm]
            yield (f"clip art: {claim}", metric, *tested(test, HOLDS))


def representations(found: dict[str, Any]) -> Iterator[Row]:
    """Probes and groups."""
    for folder, data in (("signals", "emoji"), ("scenes-long", "scenes, 1,000 steps")):
        yield from features(found[folder], data) if folder in found else ()


def features(found: dict[str, Any], data: str) -> Iterator[Row]:
    """Probes and groups of the runs of one comparison."""
    slip = "66.5 to 72.1 on ImageNet (ViT-B/16)"
    published = {
        "declip": "8 of 11 (R50; abstract, recalled)",
        "slip-two": slip,
        "slip": slip,
        "protoclip": "values not at hand",
    }
    called = {
        "declip": "DeCLIP",
        "slip-two": "SLIP",
        "slip": "SLIP",
        "protoclip": "ProtoCLIP",
        "clip-two": "two views",
    }
    for arm, one in found["probes"].items():
        mean = sum(metric["difference"] for metric in one["metrics"].values()) / len(one["metrics"])
        here = f"{one['better_on']} of {one['of']}; {mean:+.1f} points in the mean, {one['runs']} runs"
        chance = sign_test(one["better_on"], one["of"])
        verdict = (
            "not distinguishable"
            if chance > 0.05
            else "holds"
            if one["better_on"] > one["of"] / 2
            else "refuted"
        )
        verdict = verdict if one["runs"] >= ENOUGH else f"{one['runs']} runs: cannot say"
        claim = f"{data}: {called[arm]}, probes better than {one['reference']}'s"
        yield (claim, published.get(arm, "–"), here, f"sign test p = {chance:.3f}", verdict)
    for arm, one in found["groups"].items():
        metric = one["metrics"]["ami"]
        low, high = metric["interval"]
        verdict = "holds" if low > 0 else "refuted" if high < 0 else "not distinguishable"
        verdict = verdict if one["runs"] >= ENOUGH else f"{one['runs']} runs: cannot say"
        here = f"{metric['value']:.1f} against {metric['reference']:.1f}"
        known = "higher; values not at hand" if arm.startswith("protoclip") else "–"
        yield (
            f"{data}: {arm}, tighter groups (mutual information, percent)",
            known,
            here,
            between(low, high),
            verdict,
        )


def gap(found: dict[str, Any]) -> Iterator[Row]:
    """Prototypes under an imposed gap."""
    arms = found["metrics"][found["primary"]]["arms"]
    published = {"translated": "unharmed; values not at hand", "plain": "values not at hand"}
    for name, words in (("translated", "with back translation"), ("plain", "without")):
        values = [arms[f"{name}-{length}"] for length in ("0", "0.5", "1", "2")]
        here = ", ".join(f"{one['value']:.1f}" for one in values)
        low, high = values[-1]["interval"] or (None, None)
        yield (
            f"ProtoCLIP, gap of 0, 0.5, 1, 2 imposed: {words}",
            published[name],
            here,
            f"at 2: {between(low, high)}",
            "as measured",
        )
    for question, answer in found.get("questions", {}).items():
        for test in answer["tests"]:
            yield (
                f"ProtoCLIP: {question}, on against off",
                "a gain; values not at hand",
                *tested(test, HOLDS),
            )


def masks(found: dict[str, Any], data: str = "scenes") -> Iterator[Row]:
    """Which patches to keep."""
    published = {
        "attentive": "41.3 against 38.0 (ImageNet, two views of half, no self-supervision)",
        "block": "–",
        "whole": "37.6 against 38.0 (one whole view)",
    }
    for test in found["tests"]:
        name = test["arm"].removeprefix("half-")
        yield (
            f"A-CLIP, {data}: {name} against random patches",
            published[name],
            *tested(test, HOLDS | {"worse": "worse"}),
        )
    for arm, one in found["hits"].items():
        kept, chance = (one["of object patches kept"]["mean"], one["of all patches kept"]["mean"])
        spread = one["of object patches kept"]["runs"]
        verdict = "above chance" if min(spread) > chance else "not above chance"
        yield (
            f"{data}: attention of the {MODELS.get(arm, arm)} model keeps object patches",
            "–",
            f"{kept:.1f} %, chance {chance:.0f}",
            f"runs {between(min(spread), max(spread))}",
            verdict,
        )


def efficiency(found: dict[str, Any]) -> Iterator[Row]:
    """Data efficiency."""
    words = found["data_efficiency"]["arms"]["frugal"]["words"]
    factor, _, rest = words.partition(" (")
    yield (
        "`frugal`: times fewer pairs for open_clip's value on all",
        "7.1 (DeCLIP, ImageNet, R50)",
        factor,
        rest.rstrip(")") or "–",
        "as measured",
    )


CLAIMS: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
    "signals.json": signals,
    "scenes.json": scenes,
    "scenes-long.json": scenes_long,
    "scenes-methods.json": scenes_methods,
    "clipart.json": clipart,
    "representations.json": representations,
    "gap.json": gap,
    "masks.json": masks,
    "pairs.json": efficiency,
}


def section(results: Path) -> list[str]:
    """The table, from the records that are there."""
    rows = [
        row
        for name, read in CLAIMS.items()
        if (results / name).is_file()
        for row in read(read_json(results / name))
    ]
    if not rows:
        return []
    return [
        "## Published claims",
        "",
        "`python benchmarks/signals.py`, `scenes.py`, `scenes_long.py`, `scenes_methods.py`, `clipart.py`, "
        "`representations.py`, `gap.py`,",
        "`masks.py` and `pairs.py`.",
        "Published values are the papers' own, at their scale. Runs here take minutes on small towers:",
        "'not distinguishable' means that these runs cannot tell. The 1,000 steps of `scenes_long.py` are "
        "the longest.",
        "The sign test counts eleven probes of the same few pairs of runs, which are not independent.",
        "",
        "| claim | published | here | 95 % interval | verdict |",
        "|---|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]
