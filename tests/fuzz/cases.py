"""One case: a target, a file of it, damage to the file, and whether the reader took it as it should."""

import random
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frugalclip.core.errors import LONGEST, FrugalclipError

from .mutations import mutate
from .targets import TARGETS, Target, build

HANG = 10  # seconds
FINE = ("refused", "understood")


@dataclass(frozen=True)
class Outcome:
    """What became of a case. `kind` is one of FINE, or silent, crash, hang, message."""

    case: str  # seed/number
    target: str
    file: str
    mutation: str
    kind: str
    detail: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


class Hang(BaseException):
    """A reader took too long."""


class Fuzzer:
    """Untouched files of every target, and cases by their number.

    Args:
        root: folder of the untouched files, which are written if they are not there.
        scratch: folder for the damaged copy.
    """

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root, self.scratch = root, scratch
        if not (root / "complete").is_file():
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(parents=True)
            with warnings.catch_warnings(action="ignore"):
                build(root)
            (root / "complete").write_text("")
        self._whole: dict[str, bytes] = {}

    def case(self, seed: int, number: int, *, only: str | None = None) -> Outcome:
        """Run a case.

        Args:
            seed: of all cases.
            number: of the case.
            only: name of the only target; default all in turn.
        """
        draw = random.Random(f"{seed}/{number}")
        targets = [target for target in TARGETS if only in (None, target.name)]
        target = targets[number % len(targets)]
        folder = self.copy(target)
        files = sorted(path for path in folder.glob(target.files) if path.is_file())
        file = draw.choice(files)
        name = str(file.relative_to(folder))
        whole = file.read_bytes()
        if draw.random() < 0.04:
            mutation = "delete"
            file.unlink()
        else:
            mutation, damaged = mutate(name, whole, draw)
            if damaged == whole:
                return Outcome(f"{seed}/{number}", target.name, name, mutation, "understood", "unchanged")
            file.write_bytes(damaged)
        kind, detail = self._read(target, folder)
        return Outcome(f"{seed}/{number}", target.name, name, mutation, kind, detail)

    def _read(self, target: Target, folder: Path) -> tuple[str, str]:
        expected = self._expected(target) if target.is_exact else None
        try:
            found = _timed(target.read, folder)
        except FrugalclipError as error:
            text = str(error)
            is_bad = len(text) > 2 * LONGEST or "\n" in text or "\x1b" in text
            return ("message" if is_bad else "refused"), text[:400]
        except Hang:
            return "hang", f"more than {HANG} s"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return "crash", "".join(traceback.format_exception(error))[-1500:]
        if expected is not None and found != expected:
            return "silent", "damage was read as if it were whole"
        return "understood", ""

    def _expected(self, target: Target) -> bytes:
        if target.name not in self._whole:
            self._whole[target.name] = target.read(self.copy(target, name="whole"))
        return self._whole[target.name]

    def copy(self, target: Target, *, name: str = "damaged") -> Path:
        """A copy of a target's untouched files."""
        folder = self.scratch / name / target.folder
        shutil.rmtree(folder.parent, ignore_errors=True)
        shutil.copytree(self.root / target.folder, folder)
        if target.name == "checkpoint":
            shutil.copy(self.root / "recipes" / "small.yaml", folder.parent)
        return folder


def _timed(read: Callable[[Path], bytes], folder: Path) -> bytes:
    """Read within `HANG` seconds of computing; a reader that only waits is ended by whoever started us."""
    late = False

    def stop(*_: Any) -> None:
        nonlocal late
        late = True
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, HANG)
    try:
        with warnings.catch_warnings(action="ignore"):
            return read(folder)
    except BaseException as error:
        if late:  # a guard may have made a sentence of it
            raise Hang from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
