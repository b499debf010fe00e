"""How much bad data a run tolerates, and the ledger that records the fate of every sample.

A sample is bad if reading finds a fault (no caption, a missing file) or decoding does (a broken image). Rows
that a condition leaves out are not bad. The share adds what is lost on reading to what is lost of the rows
that the run uses; beyond `data.max_error_fraction` the run stops. Fewer than `LEAST_BAD` bad samples never
stop a run: one of 20 would be 5 %. With `data.max_error_fraction=0` a single one does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalclip.core import distributed
from frugalclip.core.errors import DataError
from frugalclip.core.records import RunDirectory
from frugalclip.core.users_text import command_line, shell_line
from frugalclip.data.conditions import SELECTION
from frugalclip.data.image_faults import DECODING
from frugalclip.data.ledger import DROPPED, LEAST_BAD, Entry, Ledger, LedgerStage, causes_of, read_ledger
from frugalclip.data.manifest import Manifest
from frugalclip.loading.texts import NO_TEXT, TEXTS
from frugalclip.sources.reading import READING
from frugalclip.training.sections import DataConfig

TRAINING = LedgerStage("train", {"validation": "kept: it is in the validation set and not trained on"})
_NAMED = 3  # examples of each cause
_STEPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # shares that are suggested


@dataclass(frozen=True)
class Rows:
    """The rows of a data set and which of them a run uses."""

    everything: Manifest
    training: Manifest
    validation: Manifest | None

    def used(self) -> int:
        """Training and validation rows."""
        return len(self.training) + (len(self.validation) if self.validation is not None else 0)


def _stage_of(cause: str) -> LedgerStage:
    """The stage that drops a sample of a run for this cause."""
    return TEXTS if cause == NO_TEXT else DECODING


class ErrorPolicy:
    """Bad samples of one run, counted against `data.max_error_fraction`.

    Args:
        config: the recipe's section `data`.
        rows: what the run uses.
        run: where the ledger is written.
        read: what was left out while the data set was read; None where it came as a manifest.
        command: words that start the run, without `--out`, for the message.
    """

    def __init__(
        self,
        config: DataConfig,
        rows: Rows,
        run: RunDirectory,
        *,
        read: Ledger | None = None,
        command: Sequence[str] = (),
    ) -> None:
        self.config, self.rows, self.run, self.command = config, rows, run, tuple(command)
        self.read = read or Ledger(READING)
        self.found: dict[str, Entry] = {}  # id -> fault of a row that is used, found since
        self._is_written = False

    @property
    def path(self) -> Path:
        """Where the run's ledger lies."""
        return self.run.ledger

    @property
    def bad(self) -> list[Entry]:
        """Every bad sample so far, those of reading first."""
        return self.read.bad + [entry for entry in self.found.values() if entry.is_damage]

    @property
    def share(self) -> float:
        """Bad samples as a fraction, from 0 to 1: of those read, plus of those used."""
        seen = len(self.rows.everything) + len(self.read.entries)
        found = len(self.bad) - len(self.read.bad)
        return min(len(self.read.bad) / max(seen, 1) + found / max(self.rows.used(), 1), 1.0)

    @property
    def is_exceeded(self) -> bool:
        least = LEAST_BAD if self.config.max_error_fraction > 0 else 1
        return len(self.bad) >= least and self.share > self.config.max_error_fraction

    def meet(self, faults: Iterable[tuple[str, str]]) -> bool:
        """Record samples that cannot be used; the same one may be given often.

        Args:
            faults: (id, cause) of each.

        Returns:
            True when some were not known yet.
        """
        new = {id: Entry(id, _stage_of(cause), cause) for id, cause in faults if id not in self.found}
        self.found |= new
        self._is_written = self._is_written and not new
        return bool(new)

    def restore(self) -> None:
        """Read back what the run found before it was stopped."""
        if self.path.is_file():
            rows = read_ledger(self.path).to_pylist()
            used = {
                *self.rows.training.ids,
                *(self.rows.validation.ids if self.rows.validation is not None else ()),
            }
            dropped = [
                row
                for row in rows
                if row["status"] == DROPPED and row["reason"] != "filtered" and row["id"] in used
            ]
            self.meet((row["id"], row["reason"]) for row in dropped)

    def enforce(self, *, step: int = 0) -> None:
        """Stop a run whose data is worse than it tolerates.

        Args:
            step: steps done; a checkpoint of them exists.

        Raises:
            DataError: with counts and examples of each cause, the place of the ledger, and the commands that
                go on.
        """
        if self.is_exceeded:
            self.write()
            raise DataError(*self._message(step))

    def write(self) -> None:
        """Write the run's ledger on the main process, if anything is new."""
        if self._is_written or not distributed.is_main():
            return
        training, validation = (
            self.rows.training.ids,
            self.rows.validation.ids if self.rows.validation is not None else [],
        )
        kept = [id for id in [*training, *validation] if id not in self.found]
        used = {*training, *validation}
        ledger = Ledger(TRAINING)
        ledger.include(self.read)
        ledger.extend(self.found.values())
        ledger.extend(
            Entry(id, SELECTION, "filtered", "data.where, or set aside")
            for id in self.rows.everything.ids
            if id not in used
        )
        for id in validation:
            ledger.remark(id, "validation")
        ledger.write(self.path, kept=kept, seen=len(self.rows.everything) + len(self.read.entries))
        self._is_written = True

    def counts(self) -> dict[str, int]:
        """Cause -> bad samples."""
        return Ledger(READING, self.bad).counts()

    def in_words(self) -> str | None:
        """One line for the log of a run that goes on; None if nothing is bad."""
        if not self.bad:
            return None
        counts = Ledger(READING, self.bad).in_words()
        return f"{len(self.bad):,} samples cannot be used ({counts}); every one is named in {self.path}"

    def _message(self, step: int) -> list[str]:
        when = f" after step {step:,}" if step else ""
        lines = [
            f"{len(self.bad):,} samples are bad{when}, {100 * self.share:.2g} %, and data.max_error_fraction "
            f"allows {100 * self.config.max_error_fraction:g} %:"
        ]
        for cause in causes_of(self.bad, examples=_NAMED):
            named = ", ".join(entry.id for entry in cause.examples)
            more = ", …" if cause.count > len(cause.examples) else ""
            lines.append(f"  {cause.count:>7,}  {cause.reason}: {cause.meaning} ({named}{more})")
        lines.append(f"Every one is named in {self.path}.")
        if self.config.path and self.config.path != "sample":
            repair = command_line("data", "verify", self.config.path, "--repair")
            lines.append(f"See all of them, and repair what can be repaired: {repair}")
        return [*lines, f"Go on without them: {self._command(step)}"]

    def _command(self, step: int) -> str:
        """The same command with a sufficient share; twice that before every sample has been read."""
        wanted = 2 * self.share if step else self.share
        setting = f"data.max_error_fraction={next((share for share in _STEPS if share >= wanted), 1.0):g}"
        words = [word for word in self.command if not word.startswith("data.max_error_fraction=")]
        if not words:
            return f"set {setting}"
        return shell_line(*words, setting, "--out", self.run.path, *(["--resume"] if step else []))
