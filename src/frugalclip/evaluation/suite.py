"""Named tests with labels, defined as data: reads them, finds their packs, and splits the rows.

The tests are in `suites.yaml`. Nothing here reads an image.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import DataError, known_names
from frugalclip.core.paths import user_path
from frugalclip.core.yaml_text import read_yaml
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.groups import find_groups
from frugalclip.evaluation.labelled import LabelledRows, SplitRule, split_labelled
from frugalclip.sources.open import open_data

ENVIRONMENT = "FRUGALCLIP_PACKS"
DEFAULT = "packs"


class PackConfig(Settings):
    """Where the images of a pack are: some rows of the sample, or a file of the folder of packs."""

    sample: str | None = Field(
        None, description="condition that takes the pack out of the sample that installs with frugalclip"
    )
    file: str | None = Field(
        None, description="name in the folder of packs, of any form that --data understands"
    )


class LabelConfig(Settings):
    """How a row's class is read."""

    field: str = Field(description="the field; of a list, the first")
    patterns: dict[str, str] = Field(
        default_factory=dict, description="class: regular expression of the whole value; others take no part"
    )
    rule: Literal["value", "flag_region"] = Field(
        "value", description="flag_region: the UN region of the country code in a flag's code points"
    )


class TaskConfig(Settings):
    """One test."""

    about: str = Field(description="the question, for readers")
    pack: str
    where: str | None = Field(None, description="rows of the pack that take part")
    label: LabelConfig
    split: SplitRule = Field(
        "data",
        description="data: the pack's own split; folds: five of whole groups, each tested once",
    )
    min_train_groups: int = Field(
        3, ge=1, description="training groups (families, components) a class must have"
    )
    min_test_groups: int = Field(1, ge=1, description="test groups a class must have")


class SuitesConfig(Settings):
    """A file of packs, tests and lists of tests."""

    packs: dict[str, PackConfig]
    tasks: dict[str, TaskConfig]
    suites: dict[str, list[str]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Tests to be run together."""

    name: str
    tasks: dict[str, TaskConfig]
    packs: dict[str, PackConfig]


@dataclass(frozen=True)
class Pack:
    """A pack that was found, with its tests."""

    name: str
    data: Manifest
    source: str  # what to open for it
    tasks: dict[str, LabelledRows]


def packs_folder(data: str | Path | Manifest | None) -> Path | None:
    """The folder of packs from `data` or the environment; None for the sample.

    Raises:
        DataError: for rows instead of a folder.
    """
    if isinstance(data, Manifest):
        raise DataError("a suite reads its own packs; give their folder as data, or leave it out.")
    named = data or os.environ.get(ENVIRONMENT)
    return None if not named or str(named) == "sample" else user_path(named)


def load_suite(name: str = DEFAULT) -> Suite:
    """Find a suite.

    Args:
        name: a suite or a single test of those that come with the package, or a YAML file of the same form,
            all of whose tests are taken.

    Raises:
        DataError: no such suite, or a file that does not describe one.
    """
    path = user_path(name)
    own = path.suffix in (".yaml", ".yml")
    if own and not path.is_file():
        raise DataError(
            f"there is no file {path}; give the name of a suite, "
            "or a file such as src/frugalclip/evaluation/suites.yaml."
        )
    config = _read(path if own else Path(__file__).with_name("suites.yaml"))
    if not own and name not in (known := {**config.suites, **{task: [task] for task in config.tasks}}):
        raise DataError(f"'{name}' is not a suite; {known_names(name, known, limit=20)}")
    chosen = list(config.tasks) if own else (config.suites.get(name) or [name])
    return Suite(name, {task: config.tasks[task] for task in chosen}, config.packs)


def _read(path: Path) -> SuitesConfig:
    config = validated(SuitesConfig, read_yaml(path), where=str(path), error=DataError)
    for name, task in config.tasks.items():
        if task.pack not in config.packs:
            raise DataError(
                f"{path}: task {name} is of pack '{task.pack}'; {known_names(task.pack, config.packs)}"
            )
    for name, listed in config.suites.items():
        unknown = next((task for task in listed if task not in config.tasks), None)
        if unknown is not None:
            raise DataError(f"{path}: suite {name} lists '{unknown}'; {known_names(unknown, config.tasks)}")
    return config


def open_packs(suite: Suite, folder: Path | None, *, seed: int = 0) -> tuple[list[Pack], dict[str, str]]:
    """The packs that are found, with their tests, and why the other tests cannot run.

    Args:
        suite: the tests.
        folder: where files of packs are; None where it is unknown.
        seed: of divisions.

    Returns:
        Packs in the order of the suite, and test -> what is missing and how to point to it.

    Raises:
        DataError: if the rows of a pack do not carry its test, or the folder does not exist.
    """
    if folder is not None and not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; give the folder that holds the packs with --data or {ENVIRONMENT}."
        )
    packs, missing = [], {}
    for name in dict.fromkeys(task.pack for task in suite.tasks.values()):
        tasks = {task: config for task, config in suite.tasks.items() if config.pack == name}
        config = suite.packs[name]
        source = _place(config, folder)
        if source is None:
            where = (
                f"not in {folder}"
                if folder
                else f"the folder of packs is unknown: set {ENVIRONMENT} or give --data FOLDER"
            )
            missing |= dict.fromkeys(tasks, f"pack {config.file} is missing ({where})")
            continue
        data = open_data(source).where(config.sample)
        labelled = {task: labels(data, one, name=task, seed=seed) for task, one in tasks.items()}
        packs.append(Pack(name, data, source, labelled))
    return packs, missing


def _place(config: PackConfig, folder: Path | None) -> str | None:
    if config.file is None:
        return "sample"
    return str(folder / config.file) if folder is not None and (folder / config.file).exists() else None


def labels(data: Manifest, config: TaskConfig, *, name: str, seed: int = 0) -> LabelledRows:
    """The rows, classes and splits of a test.

    Args:
        data: the pack.
        config: the test.
        name: for messages.
        seed: of divisions.

    Raises:
        DataError: when fewer than two classes have rows enough.
    """
    found = [_label(value, config.label) for value in data.field(config.label.field)]
    place = {row_id: row for row, row_id in enumerate(data.ids)}
    chosen = np.array([place[row_id] for row_id in data.where(config.where).ids], dtype=np.int64)
    inside = np.zeros(len(data), dtype=bool)
    inside[chosen] = True
    found = [label if inside[row] else None for row, label in enumerate(found)]
    first = split_labelled(data, found, chosen=chosen, split=config.split, seed=seed)
    enough = _large_classes(first, find_groups(data).codes, config)
    if len(enough) < 2:
        raise DataError(
            f"test {name}: {len(enough)} of {len(first.names)} classes in {data.name} have rows enough, "
            "expected at least two; check the pack with 'frugalclip data stats'."
        )
    dropped = [label for label in found if label is not None and label not in enough]
    found = [label if label in enough else None for label in found]
    chosen = np.array([row for row in chosen if found[row] is not None], dtype=np.int64)
    labelled = first
    if dropped:
        labelled = split_labelled(data, found, chosen=chosen, split=config.split, seed=seed)
    unlabelled = int(inside.sum()) - len(chosen) - len(dropped)
    lost = {"in classes that are too small": len(dropped), "without a class of the test": unlabelled}
    others = {k: v for k, v in labelled.left_out.items() if k != "without a class of the training rows"}
    return replace(labelled, left_out=lost | others)


def _large_classes(labelled: LabelledRows, codes: np.ndarray, config: TaskConfig) -> set[str]:
    """Classes that have enough groups to train on and to test."""
    counts = []
    fold = labelled.folds[0]
    trained = np.concatenate([fold.train, fold.validation, *([fold.test] if len(labelled.folds) > 1 else [])])
    for places in (trained, labelled.test):
        pairs = {(int(labelled.labels[place]), int(codes[labelled.rows[place]])) for place in places}
        counts.append(Counter(label for label, _ in pairs))
    return {
        name
        for i, name in enumerate(labelled.names)
        if counts[0][i] >= config.min_train_groups and counts[1][i] >= config.min_test_groups
    }


def _label(value: Any, config: LabelConfig) -> str | None:
    value = value[0] if isinstance(value, list) and value else value
    if value is None or value == []:
        return None
    if config.rule == "flag_region":
        return flag_region(str(value))
    if not config.patterns:
        return str(value)
    return next(
        (name for name, pattern in config.patterns.items() if re.fullmatch(pattern, str(value))), None
    )


@cache
def _regions() -> dict[str, str]:
    content = read_yaml(Path(__file__).with_name("regions.yaml"))
    return {code: region for region, codes in content.items() for code in codes}


def flag_region(concept: str) -> str | None:
    """The UN region of a flag such as `1f1f0-1f1ea` (Kenya: Africa); None if it is no country's flag."""
    points = [int(part, 16) for part in concept.split("-") if re.fullmatch(r"[0-9a-fA-F]+", part)]
    first = 0x1F1E6  # regional indicator A
    if len(points) != 2 or not all(first <= point < first + 26 for point in points):
        return None
    return _regions().get("".join(chr(ord("A") + point - first) for point in points))
