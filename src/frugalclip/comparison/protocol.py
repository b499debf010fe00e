"""A protocol sets how arms are compared: their training rows, the metrics, and the evaluated rows.

`hold_out: style` holds out every style in turn, one fold for each: training rows have another style,
validation and evaluated rows have the held-out one. A metric may name `{split}` in its condition; `splits`
gives its meaning for tuning (`validation`) and for reporting (`test`).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from frugalclip.comparison.arms import Arm
from frugalclip.comparison.metrics import METRICS, MetricConfig
from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import DataError, RecipeError, known_names
from frugalclip.core.paths import user_path
from frugalclip.core.yaml_text import read_yaml
from frugalclip.data.splits import SubsetConfig

_DEFAULTS = {  # metrics of a protocol that names none
    "naming": MetricConfig.model_validate(
        {"primary": True, "description": "zero-shot naming of the validation images"}
    ),
    "finding": MetricConfig.model_validate(
        {"task": "retrieval", "description": "retrieval of the validation images by their captions"}
    ),
}


class ProtocolConfig(Settings):
    """How arms are compared."""

    description: str = Field("", description="one sentence")
    data: str | None = Field(None, description="data set; $NAMES of the environment are filled in")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="names of the image and caption columns where they are not recognised",
    )
    hold_out: str | None = Field(None, description="field whose values are held out in turn, a fold each")
    folds: list[str] | None = Field(
        None, description="values to hold out; null: all values of the training rows"
    )
    train: str | None = Field(None, description="condition of the training rows, such as split=train")
    validation: str = Field("auto", description="validation set: auto, none or a condition")
    split: str | None = Field(None, description="the split that {split} stands for, a name in splits")
    splits: dict[str, str] = Field(
        default_factory=dict,
        description="conditions of the splits, such as validation: split=val, test: split=test",
    )
    label_field: str | None = Field(
        None, description="field that names the class of a row; null: label, else the first caption"
    )
    group: str | None = Field(
        None, description="field whose equal values are resampled together, such as family"
    )
    metrics: dict[str, MetricConfig] = Field(
        default_factory=dict, description="what is evaluated; none: naming and finding on the validation set"
    )
    subset: SubsetConfig = Field(default_factory=SubsetConfig, description="how --fractions choose pairs")
    curve: str = Field("zeroshot/top1", description="metric on the validation set that curves show")
    points: int = Field(20, ge=1, description="evaluations of the validation set in a run")

    @model_validator(mode="after")
    def _check(self) -> Self:
        task, _, metric = self.curve.partition("/")
        if metric not in METRICS.get(task, ()):
            known = [f"{t}/{m}" for t, names in METRICS.items() for m in names]
            raise ValueError(f"curve {self.curve} is not a metric; {known_names(self.curve, known)}")
        if sum(metric.primary for metric in self.metrics.values()) > 1:
            raise ValueError("several metrics are primary; keep primary: true for one")
        if self.split is not None and self.split not in self.splits:
            raise ValueError(
                f"split: {self.split} is not one of splits; {known_names(self.split, self.splits)}"
            )
        using = [name for name, metric in self.metrics.items() if "{split}" in (metric.where or "")]
        if using and self.split is None:
            raise ValueError(
                f"metric {using[0]} uses {{split}}, which is not set; "
                "add split: test and splits: {test: split=test}"
            )
        return self

    def resolved(self) -> "ProtocolConfig":
        """The protocol with complete metrics: condition, label field, group, and exactly one primary."""
        metrics = self.metrics or _DEFAULTS
        primary = next((name for name, metric in metrics.items() if metric.primary), next(iter(metrics)))
        filled = {name: self._completed(metric, name == primary) for name, metric in metrics.items()}
        return self.model_copy(update={"metrics": filled})

    def _completed(self, metric: MetricConfig, is_primary: bool) -> MetricConfig:
        condition = self.splits.get(self.split or "", "")
        update = {
            "label_field": metric.label_field or self.label_field,
            "group": metric.group or self.group,
            "where": metric.where.replace("{split}", condition) if metric.where else None,
            "primary": is_primary,
        }
        return metric.model_copy(update=update)

    @property
    def primary(self) -> str:
        """Name of the metric of the verdicts."""
        return next(name for name, metric in self.resolved().metrics.items() if metric.primary)


def read_protocol(path: str | Path, changes: Mapping[str, Any] | None = None) -> ProtocolConfig:
    """Read a protocol.

    Args:
        path: YAML file.
        changes: settings that replace those of the file.

    Raises:
        RecipeError: one sentence with the first fault and the nearest known name.
    """
    path = user_path(path)
    if not path.is_file():
        known = [one.name for one in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise RecipeError(
            f"there is no protocol {path}; {known_names(path.name, known)} docs/compare.md has an example."
        )
    return validated(ProtocolConfig, {**read_yaml(path), **(changes or {})}, where=str(path))


def choose_protocol(
    arms: Sequence[Arm], given: str | Path | ProtocolConfig | None, changes: Mapping[str, Any]
) -> ProtocolConfig:
    """The protocol of a comparison, resolved.

    Args:
        arms: give the data and its division where there is no protocol.
        given: a protocol or its file.
        changes: settings that replace those of the protocol; None leaves a setting alone.

    Raises:
        RecipeError: for a protocol without data, or recipes with different data.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    if isinstance(given, ProtocolConfig):
        config = ProtocolConfig.model_validate({**given.model_dump(), **changes})
    elif given is not None:
        config = read_protocol(given, changes)
    else:
        config = ProtocolConfig.model_validate(_from_recipes(arms) | changes)
    if config.data is None:
        raise RecipeError(
            "no data is given; add --data PATH, data=PATH for the recipes, or data: to the protocol."
        )
    return config.resolved()


def _from_recipes(arms: Sequence[Arm]) -> dict[str, Any]:
    """The data section that all recipes share, as settings of a protocol."""
    recipes = [arm.recipe for arm in arms if arm.recipe is not None]
    sections = [r.data.model_dump(include={"path", "where", "validation", "columns"}) for r in recipes]
    named = [s for s in sections if s["path"] is not None] or sections[:1]
    if any(s != named[0] for s in named):
        raise RecipeError(
            "the recipes name different data, so their metrics are not comparable; "
            "add data=PATH for all, or --protocol FILE."
        )
    if not named:
        return {}
    labels = {r.evaluation.label_field for r in recipes}
    section = named[0]
    return {
        "data": section["path"],
        "train": section["where"],
        "validation": section["validation"],
        "columns": section["columns"],
        "label_field": labels.pop() if len(labels) == 1 else None,
    }


def fill_environment(path: str) -> str:
    """A path with `$NAME` and `${NAME}` replaced by the environment.

    Raises:
        DataError: for a name that is not set.
    """
    filled = os.path.expandvars(path)
    if "$" in filled:
        name = filled.partition("$")[2].lstrip("{").partition("/")[0].rstrip("}")
        raise DataError(
            f"data is {path} and {name} is not set; "
            f"name the folder with: export {name}=FOLDER, or give --data PATH."
        )
    return filled
