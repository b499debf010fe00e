"""Metrics by name: what each is called, its unit, its direction, and which one stands for an evaluation."""

import re
from collections.abc import Mapping
from typing import Any

BY_IMPORTANCE = ("top1", "t2i_r1", "i2t_r1", "mean_per_class", "mean", "top5", "t2i_r5", "i2t_r5")
_NAMES = {  # metric -> (name, short name)
    "mean_per_class": ("Mean over classes", "Class mean"),
    "words_hit": ("Images with a hit among the top words", "Images with a hit"),
    "words_precision": ("Top words that are hits", "Words that hit"),
    "most_used_word": ("Images that hold the commonest top word", "Commonest word in"),
    "non_zeros": ("Words above zero in an image", "Words above zero"),
    "ami": ("Adjusted mutual information", "Adjusted mutual inf."),
    "ari": ("Adjusted Rand index", "Adjusted Rand"),
}
_DIRECTIONS = {"i2t": "Image → text", "t2i": "Text → image"}
_GENERALISED = "generalised_"  # prefix of metrics that rank among all names of a data set
_SHOTS = re.compile(r"(\d+)shot_(.+)")
_FEWER_WORDS = re.compile(r"(.+_r\d+)_(\d+)_words")  # a recall with so many words of either side
_NEIGHBOURS = re.compile(r"(.+)_nn_(\d+)")
_COUNTS = ("rank", "loss", "seconds", "count", "nats", "non_zeros")  # in the names of metrics without percent
_LOW_IS_GOOD = ("rank", "loss", "seconds", "nats", "most_used_word")


def metric_name(metric: str, *, short: bool = False) -> str:
    """A metric in words: `t2i_r5` is `Text → image, recall at 5`, or short `Text → image R@5`."""
    if metric.startswith(_GENERALISED):
        return f"{metric_name(metric.removeprefix(_GENERALISED), short=short)}, all names"
    if found := _FEWER_WORDS.fullmatch(metric):
        tail = "words" if short else "words of each"
        return f"{metric_name(found[1], short=short)}, {found[2]} {tail}"
    if found := _SHOTS.fullmatch(metric):
        return f"{metric_name(found[2], short=short)}, {found[1]} shot{'' if found[1] == '1' else 's'}"
    direction, _, rest = metric.partition("_")
    if direction in _DIRECTIONS and rest:
        return _DIRECTIONS[direction] + _ranked(rest, short)
    if metric.startswith("top") and metric[3:].isdigit():
        return f"Top-{metric[3:]}" + ("" if short else " accuracy")
    plain = words(metric)[:1].upper() + words(metric)[1:]
    return _NAMES.get(metric, (plain, plain))[short]


def _ranked(rest: str, short: bool) -> str:
    """The end of the name of a metric of retrieval, from `r5` or `median_rank`."""
    depth = rest.removeprefix("r")
    if not depth.isdigit():
        return f", {words(rest)}"
    return f" R@{depth}" if short else f", recall at {depth}"


def words(name: str) -> str:
    """An identifier in words: `mean_rank` is `mean rank`, `pixel_nn_10` is `10 pixel nearest neighbours`."""
    if found := _NEIGHBOURS.fullmatch(str(name)):
        kind, count = words(found[1]), int(found[2])
        return f"{kind} nearest neighbour" if count == 1 else f"{count} {kind} nearest neighbours"
    return " ".join(str(name).replace("_", " ").replace("/", " / ").split())


def in_percent(metric: str) -> bool:
    """False for metrics that count ranks, words or nats."""
    return not any(part in metric.lower() for part in _COUNTS)


def in_unit(metric: str, value: float) -> float:
    """A share of one in percent; the value of a metric that counts as it is."""
    return 100 * value if in_percent(metric) else value


def larger_is_better(metric: str) -> bool:
    """False for ranks, losses, durations and the share of the commonest word."""
    return not any(part in metric.lower() for part in _LOW_IS_GOOD)


def primary_metric(metrics: Mapping[str, Any]) -> str | None:
    """The metric that stands for an evaluation: the most important one, else the first; None without any."""
    return next((name for name in BY_IMPORTANCE if name in metrics), next(iter(metrics), None))
