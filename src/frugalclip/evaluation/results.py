"""The result of an evaluation: its metrics with everything they depend on."""

from dataclasses import dataclass
from typing import Any, Self

from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.encoding import DataEncoder
from frugalclip.evaluation.ranking import TIE_RULE


@dataclass(frozen=True)
class EvaluatedRows:
    """The rows that a model was evaluated on."""

    data: str  # name of the data set or sets
    split_hash: str  # fingerprint of exactly these rows
    where: str | None  # the condition that selected them

    @classmethod
    def of(cls, manifest: Manifest, where: str | None) -> Self:
        """All rows of a manifest, selected by the condition `where`."""
        return cls(manifest.name, manifest.fingerprint(), where)


def with_provenance(
    task: str,
    result: dict[str, Any],
    model: DataEncoder,
    rows: EvaluatedRows,
    *,
    baselines: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A result with everything that its metrics depend on, in the order of `docs/formats.md`.

    Args:
        task: name of the task.
        result: metrics, interval, chance, samples, prompts and whatever else belongs to the task.
        model: what was evaluated.
        rows: what it was evaluated on.
        baselines: baseline -> metrics, and `about`: what the baselines are made of.
    """
    measured = {name: metrics for name, metrics in (baselines or {}).items() if name != "about"}
    about = (baselines or {}).get("about")
    return {
        "task": task,
        "metrics": _rounded(result.pop("metrics")),
        "interval": _rounded(result.pop("interval")),
        "chance": _rounded(result.pop("chance")),
        "baselines": _rounded(measured),
        **({"baselines_about": about} if about else {}),
        "samples": result.pop("samples"),
        "split_hash": rows.split_hash,
        "prompts": result.pop("prompts"),
        "preprocess": model.preprocess.model_dump(mode="json"),
        "tie_rule": TIE_RULE,
        "model": model.fingerprint,
        "data": rows.data,
        "where": rows.where,
        **result,
    }


def _rounded(value: Any) -> Any:
    """Numbers to a millionth; the digits behind it depend on the order of sums."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else round(value, 6)
