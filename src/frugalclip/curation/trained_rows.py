"""Which rows a MODEL was trained on, as the ledger of its run names them.

A model finds the pairs that it was trained on too good, and tells their images apart too well.
"""

from collections.abc import Sequence

from frugalclip.core.records import RunDirectory
from frugalclip.data.ledger import KEPT, read_ledger


def knows_its_rows(model: str) -> bool:
    """Whether a MODEL is a run with a ledger, which names the rows that it was trained on."""
    return RunDirectory(model).ledger.is_file()


def trained_ids(model: str) -> set[str]:
    """Ids of the rows that a run was trained on, by its ledger; empty for a model without one."""
    path = RunDirectory(model).ledger
    if not path.is_file():
        return set()
    table = read_ledger(path).to_pylist()
    return {row["id"] for row in table if row["status"] == KEPT and row["reason"] != "validation"}


def who_scored(known: Sequence[bool]) -> str:
    """What is certain about rows that models of other rows score.

    Args:
        known: of each model, whether it knows its rows.
    """
    if all(known):
        return "no row is scored by a model that was trained on it (cross-fitted)"
    return "a model without a ledger may have been trained on these rows; nothing tells"
