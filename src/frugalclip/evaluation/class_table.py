"""How each class fares in a zero-shot evaluation: a table of classes, and rows to show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """The class predicted for each sample, beside its right ones."""

    names: list[str]  # (classes,)
    samples: Tensor  # (pairs,) int64; a sample is in one pair for each of its right classes
    classes: Tensor  # (pairs,) int64
    predicted: Tensor  # (samples,) int64
    hits: Tensor  # (samples,) float64 from 0 to 1, ties counted in part

    def members(self) -> list[Tensor]:
        """(pairs,) int64 places among the pairs for each class, classes ascending."""
        order = torch.sort(self.classes, stable=True).indices
        return list(order.split(self.classes.unique(return_counts=True)[1].tolist()))

    def table(self) -> list[dict[str, Any]]:
        """One entry a class, best first: name, samples, top1 in percent, and what it is mistaken for most."""
        table = []
        for members in self.members():
            rows = self.samples[members]
            entry: dict[str, Any] = {
                "name": self.names[int(self.classes[members[0]])],
                "samples": len(rows),
                "top1": 100 * float(self.hits[rows].mean()),
            }
            wrong = self.predicted[rows][self.hits[rows] < 0.5]
            if len(wrong):
                values, counts = wrong.unique(return_counts=True)
                entry["mistaken_for"] = self.names[int(values[counts.argmax()])]
                entry["times"] = int(counts.max())
            table.append(entry)
        return sorted(table, key=lambda entry: (-entry["top1"], -entry["samples"], entry["name"]))

    def examples(
        self, ids: Sequence[str], rows: np.ndarray, *, classes: int = 8, shown: int = 4
    ) -> dict[str, Any]:
        """Rows of the best and the worst classes, and of the most frequent confusions.

        Args:
            ids: (samples,).
            rows: (samples,) int64 rows of the manifest.
            classes: how many of each kind.
            shown: rows of each.
        """
        table = self.table()
        samples_of = {self.names[int(self.classes[m[0]])]: self.samples[m] for m in self.members()}

        def of_class(name: str) -> list[dict[str, Any]]:
            return [
                {"id": ids[i], "row": int(rows[i]), "named": self.names[int(self.predicted[i])]}
                for i in samples_of[name][:shown].tolist()
            ]

        def entry(found: dict[str, Any]) -> dict[str, Any]:
            kept = {key: found[key] for key in ("name", "samples", "top1")}
            return kept | {"rows": of_class(found["name"])}

        worst = sorted(table, key=lambda one: (one["top1"], -one["samples"], one["name"]))
        confused = sorted(
            (one for one in table if "times" in one), key=lambda one: (-one["times"], one["name"])
        )
        return {
            "best": [entry(one) for one in table[:classes]],
            "worst": [entry(one) for one in worst[:classes]],
            "confusions": [
                {
                    "name": one["name"],
                    "named": one["mistaken_for"],
                    "times": one["times"],
                    "rows": of_class(one["name"]),
                }
                for one in confused[:classes]
            ],
        }
