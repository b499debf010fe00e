"""Finished runs that predictions and durations are fitted on; benchmarks/advise.py makes those that ship."""

from functools import cache
from importlib import resources
from pathlib import Path

from frugalclip.advising.profile import DataProfile
from frugalclip.core.stored import StoredRecord, read_record

PROBED = "clip-small"  # the recipe whose step tells how fast a machine is


class AdviceRecord(StoredRecord):
    """One finished run, as predictions are fitted on it."""

    data: str  # name of the data set
    kind: str  # data sets of one kind are left out together
    fraction: float  # of its training pairs
    profile: DataProfile
    route: str
    samples: int | None  # None where the recipe sets the length
    start: float | None = None  # headline of the model that it went on from, on these data
    value: float  # headline metric in percent
    seconds: float  # of processor time, of the whole run


class ShippedRuns(StoredRecord):
    """The runs, and how fast their machine was."""

    step_seconds: float  # of a step of PROBED, on one thread
    launch_seconds: float  # of a program until it trains, which the times of runs leave out
    machine: str
    runs: list[AdviceRecord]


@cache
def shipped_runs() -> ShippedRuns:
    """What ships with the package."""
    with resources.as_file(resources.files("frugalclip.advising") / "records.json") as path:
        return read_record(Path(path), ShippedRuns)
