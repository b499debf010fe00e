"""Energy of the processor packages, where the machine counts it (RAPL, through Linux' powercap interface).

A package counts everything that runs on it, other programs too, and no GPU. Many machines let only root
read the counters, and virtual ones have none; then nothing is known.
"""

import re
from pathlib import Path
from typing import final

COUNTERS = Path("/sys/class/powercap")
_PACKAGE = re.compile(r"intel-rapl:\d+")  # AMD's too; a second number is a part of a package


@final
class EnergyMeter:
    """Reads the counters of all packages.

    Args:
        folder: of the powercap interface.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = COUNTERS if folder is None else folder
        places = sorted(folder.glob("intel-rapl:*")) if folder.is_dir() else []
        self._packages = [place for place in places if _PACKAGE.fullmatch(place.name)]
        self._ranges = [_number(place / "max_energy_range_uj") for place in self._packages]

    def read(self) -> list[int] | None:
        """Microjoules of each package since some moment; None where they cannot be read."""
        found = [_number(place / "energy_uj") for place in self._packages]
        known = [value for value in found if value is not None]
        return known if known and len(known) == len(found) else None

    def joules(self, before: list[int] | None, after: list[int] | None) -> float | None:
        """Joules between two readings; a counter that began anew in between has passed its range once."""
        if before is None or after is None or len(before) != len(after):
            return None
        spent = 0
        for first, last, most in zip(before, after, self._ranges, strict=True):
            if last < first and most is None:
                return None
            spent += last - first if last >= first else last - first + (most or 0)
        return spent / 1e6


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
