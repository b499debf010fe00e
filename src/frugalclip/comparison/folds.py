"""The folds of a comparison: each holds out one value of a field and has rows to train on and to evaluate."""

from collections.abc import Mapping
from dataclasses import dataclass

from frugalclip.comparison.metrics import MetricConfig
from frugalclip.comparison.protocol import ProtocolConfig
from frugalclip.core.errors import DataError, known_names
from frugalclip.data.manifest import Manifest
from frugalclip.data.splits import divide


@dataclass(frozen=True)
class Fold:
    """The rows of one fold."""

    value: str | None  # held out of training; None where nothing is
    train: Manifest
    validation: Manifest | None
    evaluated: Mapping[str, Manifest]  # metric -> rows
    notes: list[str]

    @property
    def name(self) -> str:
        """The held-out value, empty where nothing is held out."""
        return self.value or ""


def make_folds(everything: Manifest, protocol: ProtocolConfig) -> list[Fold]:
    """Divide a data set by a protocol.

    Args:
        everything: the data set.
        protocol: how it is divided.

    Returns:
        A fold for each held-out value, or a single one where nothing is held out.

    Raises:
        DataError: for unknown fields or values, an empty split, or rows that are both trained on and
            evaluated.
    """
    protocol = protocol.resolved()
    split = divide(everything, where=protocol.train, validation=protocol.validation)
    values = [None] if protocol.hold_out is None else _held_out_values(split.train, protocol)
    return [
        _make_fold(everything, protocol, split.train, split.validation, value, split.notes)
        for value in values
    ]


def _held_out_values(train: Manifest, protocol: ProtocolConfig) -> list[str]:
    field = protocol.hold_out or ""
    found = sorted({str(value) for value in train.field(field) if value is not None})
    if len(found) < 2:
        raise DataError(
            f"hold_out: {field} has {len(found)} value in the training rows; "
            "leave it out, or hold out another field."
        )
    if unknown := [value for value in protocol.folds or () if value not in found]:
        raise DataError(
            f"'{unknown[0]}' is not a value of {field} in the training rows; {known_names(unknown[0], found)}"
        )
    return protocol.folds or found


def _make_fold(
    everything: Manifest,
    protocol: ProtocolConfig,
    train: Manifest,
    validation: Manifest | None,
    value: str | None,
    notes: list[str],
) -> Fold:
    held_out = "" if value is None else f'{protocol.hold_out}="{value}"'
    if value is not None:
        train = train.where(f'{protocol.hold_out}!="{value}"')
        validation = validation.where(held_out) if validation is not None else None
    evaluated = {}
    for name, metric in protocol.metrics.items():
        rows = _evaluated_rows(everything, validation, name, metric, held_out)
        if shared := set(rows.ids) & set(train.ids):
            raise DataError(
                f"metric {name} evaluates {len(shared):,} training rows (such as {min(shared)}); "
                "exclude them in train, or change its where."
            )
        evaluated[name] = rows
    return Fold(value, train, validation, evaluated, list(notes))


def _evaluated_rows(
    everything: Manifest, validation: Manifest | None, name: str, metric: MetricConfig, held_out: str
) -> Manifest:
    if metric.where:
        return everything.where(",".join(filter(None, [metric.where, held_out])))
    if validation is None:
        raise DataError(
            f"metric {name} is evaluated on the validation set, and there is none; "
            "set its where, or validation."
        )
    return validation
