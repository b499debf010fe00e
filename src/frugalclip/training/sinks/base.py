"""A sink takes the rows of a run; a file in this folder is one kind, found by its name."""

import contextlib
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalclip.core.errors import require
from frugalclip.training import sinks


@dataclass(frozen=True)
class RunInfo:
    """What a sink knows of the run that it logs."""

    directory: Path
    recipe: Mapping[str, Any]  # the resolved settings
    step: int  # steps that are done already, above 0 for a resumed run

    @property
    def name(self) -> str:
        """The run's name: that of its folder."""
        return self.directory.resolve().name


class Sink(ABC):
    """Takes the numbers of a run. Abstract; every subclass is final and has a file of its own."""

    @abstractmethod
    def __init__(self, info: RunInfo) -> None: ...

    @abstractmethod
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the numbers of one step."""

    @abstractmethod
    def close(self) -> None:
        """Flush what was logged."""


def sink_names() -> list[str]:
    """The sinks that a recipe may name."""
    return sorted(module.name for module in pkgutil.iter_modules(sinks.__path__) if module.name != "base")


def check_sinks(names: Sequence[str]) -> None:
    """Refuse sinks whose package is not installed, before a run is built.

    Raises:
        MissingExtra: naming the line that installs it.
    """
    for name in names:
        require(name, extra="log", purpose=f"log: [{name}]")


@contextlib.contextmanager
def open_sinks(names: Sequence[str], info: RunInfo) -> Iterator[list[Sink]]:
    """The sinks of a run, closed at the end of the block.

    Args:
        names: of files in this folder.
        info: of the run.

    """
    with contextlib.ExitStack() as stack:
        opened: list[Sink] = []
        for name in names:
            module = vars(importlib.import_module(f"{sinks.__name__}.{name}")).values()
            kind = next(one for one in module if isinstance(one, type) and one in Sink.__subclasses__())
            sink: Sink = kind(info)
            stack.callback(sink.close)
            opened.append(sink)
        yield opened


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row of `metrics.jsonl` by name; those of an evaluation under `evaluation/`."""
    found = {name: float(value) for name, value in row.items() if _is_number(value) and name != "step"}
    for group in ("evaluation", "chance"):
        inside = row.get(group)
        if isinstance(inside, Mapping):
            found |= {f"{group}/{name}": float(value) for name, value in inside.items() if _is_number(value)}
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
