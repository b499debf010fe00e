"""A protocol says how arms are compared: on which rows they train, which rows watch, and which figures are judged.

`rotate: style` leaves every style out in turn: the rows trained on have another style, those that watch and those that are judged have it. A
figure may say `{on}` in its condition; `parts` gives what that means when tuning (`validation`) and when reporting (`test`).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from frugalclip.comparison.metrics import METRICS, MetricConfig
from frugalclip.core.config import Settings, read_yaml, validated
from frugalclip.core.errors import DataError, RecipeError, known_names
from frugalclip.data.manifest import Manifest
from frugalclip.data.splits import SubsetConfig, divide


class ProtocolMetric(MetricConfig):
    """A figure and the rows it is judged on."""

    where: str | None = Field(
        None,
        description="condition of the judged rows, in which {on} is the chosen part; null: the rows that watch",
    )
    primary: bool = Field(
        False, description="the figure that verdicts are about; one of them, by default the first"
    )
    description: str = Field("", description="what the figure asks, for the reader")


class ProtocolConfig(Settings):
    """How arms are compared."""

    description: str = Field("", description="one sentence")
    data: str | None = Field(None, description="data set; $NAMES of the environment are filled in")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="names of the image and caption columns where they are not recognised",
    )
    rotate: str | None = Field(
        None, description="field of which every value is left out of training in turn, and judged"
    )
    rotations: list[str] | None = Field(
        None, description="values to leave out; null: all of the training rows"
    )
    train: str | None = Field(None, description="rows to train on, such as split=train")
    validation: str = Field("auto", description="rows that watch: auto, none or a condition")
    on: str | None = Field(None, description="name of the part that figures with {on} are judged on")
    parts: dict[str, str] = Field(
        default_factory=dict,
        description="what {on} stands for, such as validation: split=val, test: split=test",
    )
    label_field: str | None = Field(
        None, description="field that names the class of a row; null: label, else the first caption"
    )
    group: str | None = Field(
        None, description="field whose equal values stand or fall together, such as family"
    )
    metrics: dict[str, ProtocolMetric] = Field(
        default_factory=dict, description="what is judged; none: naming and finding on the rows that watch"
    )
    subset: SubsetConfig = Field(default_factory=SubsetConfig, description="how --fractions choose pairs")
    curve: str = Field("zeroshot/top1", description="figure on the watching rows that curves are drawn of")
    points: int = Field(20, ge=1, description="how often the watching rows are scored")

    @model_validator(mode="after")
    def _says_what_it_uses(self) -> Self:
        task, _, metric = self.curve.partition("/")
        if metric not in METRICS.get(task, ()):
            known = [f"{t}/{m}" for t, names in METRICS.items() for m in names]
            raise ValueError(
                f"curve {self.curve} is not a figure of the watching rows; {known_names(self.curve, known)}"
            )
        if sum(f.primary for f in self.metrics.values()) > 1:
            raise ValueError("several figures are primary; keep primary: true for one")
        if self.on is not None and self.on not in self.parts:
            raise ValueError(f"on: {self.on} is not one of parts; {known_names(self.on, self.parts)}")
        asking = [name for name, f in self.metrics.items() if "{on}" in (f.where or "")]
        if asking and self.on is None:
            raise ValueError(
                f"figure {asking[0]} says {{on}} but nothing says what that is; add on: test and parts: {{test: split=test}}"
            )
        return self

    def resolved(self) -> "ProtocolConfig":
        """With every figure complete: its own condition, names and groups, exactly one of them primary."""
        metrics = self.metrics or {
            "naming": ProtocolMetric.model_validate(
                {"primary": True, "description": "naming the pictures that watched the run"}
            ),
            "finding": ProtocolMetric.model_validate(
                {
                    "task": "retrieval",
                    "description": "finding the pictures that watched the run by their captions",
                }
            ),
        }
        primary = next((name for name, f in metrics.items() if f.primary), next(iter(metrics)))
        filled = {}
        for name, chosen in metrics.items():
            where = chosen.where.replace("{on}", self.parts.get(self.on or "", "")) if chosen.where else None
            own = {"label_field": chosen.label_field or self.label_field, "group": chosen.group or self.group}
            filled[name] = chosen.model_copy(update={**own, "where": where, "primary": name == primary})
        return self.model_copy(update={"metrics": filled})

    @property
    def primary(self) -> str:
        """Name of the figure that verdicts are about."""
        return next(name for name, chosen in self.resolved().metrics.items() if chosen.primary)


@dataclass(frozen=True)
class Division:
    """The rows of one rotation."""

    rotation: str | None
    train: Manifest
    validation: Manifest | None
    judged: dict[str, Manifest]  # figure -> rows
    notes: list[str]


def read_protocol(path: str | Path, changes: Mapping[str, Any] | None = None) -> ProtocolConfig:
    """Read a protocol.

    Args:
        path: YAML file.
        changes: settings that replace those of the file.

    Raises:
        RecipeError: one sentence naming the first fault and the nearest known name.
    """
    path = Path(path)
    if not path.is_file():
        known = [one.name for one in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise RecipeError(
            f"there is no protocol {path}; {known_names(path.name, known)} Write one as docs/compare.md shows."
        )
    return validated(ProtocolConfig, {**read_yaml(path), **(changes or {})}, where=str(path))


def fill_environment(path: str) -> str:
    """A path with `$NAME` and `${NAME}` replaced by the environment.

    Raises:
        DataError: for a name that is not set.
    """
    filled = os.path.expandvars(path)
    if "$" in filled:
        name = filled.partition("$")[2].lstrip("{").partition("/")[0].rstrip("}")
        raise DataError(
            f"data is {path} and {name} is not set; name the folder with: export {name}=FOLDER, or give --data PATH."
        )
    return filled


def divisions(everything: Manifest, protocol: ProtocolConfig) -> list[Division]:
    """The rows of every rotation.

    Args:
        everything: the data set.
        protocol: how it is divided.

    Returns:
        One entry a left-out value, or a single one without rotation.

    Raises:
        DataError: for unknown fields or values, an empty part, or rows that are both trained on and judged.
    """
    protocol = protocol.resolved()
    parts = divide(everything, where=protocol.train, validation=protocol.validation)
    if protocol.rotate is None:
        return [_division(everything, protocol, parts.train, parts.validation, None, parts.notes)]
    found = sorted({str(value) for value in parts.train.field(protocol.rotate) if value is not None})
    if len(found) < 2:
        raise DataError(
            f"rotate: {protocol.rotate} has {len(found)} value in the training rows of {everything.name}; leave it out, or rotate another field."
        )
    wanted = protocol.rotations or found
    if unknown := [value for value in wanted if value not in found]:
        raise DataError(
            f"'{unknown[0]}' is not a value of {protocol.rotate} in the training rows; {known_names(unknown[0], found)}"
        )
    return [
        _division(everything, protocol, parts.train, parts.validation, value, parts.notes) for value in wanted
    ]


def _division(
    everything: Manifest,
    protocol: ProtocolConfig,
    train: Manifest,
    validation: Manifest | None,
    value: str | None,
    notes: list[str],
) -> Division:
    if value is not None:
        train = train.where(f'{protocol.rotate}!="{value}"')
        validation = validation.where(f'{protocol.rotate}="{value}"') if validation is not None else None
    judged = {}
    for name, chosen in protocol.metrics.items():
        if chosen.where is None and validation is None:
            raise DataError(
                f"figure {name} is judged on the rows that watch, and there are none; set its where, or validation."
            )
        rows = (
            everything.where(
                ",".join(filter(None, [chosen.where, f'{protocol.rotate}="{value}"' if value else ""]))
            )
            if chosen.where
            else validation
        )
        assert rows is not None
        judged[name] = rows
        if shared := set(rows.ids) & set(train.ids):
            raise DataError(
                f"figure {name} judges {len(shared):,} rows that are trained on (such as {min(shared)}); exclude them in train, or change its where."
            )
    return Division(value, train, validation, judged, list(notes))
