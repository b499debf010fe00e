"""How flat the spectrum of features is: singular value entropy and the largest singular value's share.

Source: Noisy Model Learning, ICLR 2024, arXiv 2309.17002. The authors' script (`models/svd.py`) scales rows
to length one and then subtracts from each row its own mean over channels, which is `centre="row"` here;
centring columns, as PCA does, was probably meant. The default centres nothing. Singular values
are exact; theirs come from a randomised decomposition.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Centre = Literal["none", "row", "column"]
CENTRES: tuple[Centre, ...] = get_args(Centre)


@dataclass(frozen=True)
class Spectrum:
    """Singular values of features, and how they were prepared."""

    values: Tensor  # (min(samples, width),) float64, descending
    l2: bool
    centre: Centre

    @property
    def shares(self) -> Tensor:
        """(values,) each singular value as a share of their sum."""
        return self.values / self.values.sum()

    @property
    def entropy(self) -> float:
        """SVE in nats: 0 for one direction, the log of the width for equal singular values."""
        return float(-torch.xlogy(self.shares, self.shares).sum())

    @property
    def largest_ratio(self) -> float:
        """LSVR, the negative log of the largest share: higher means that one direction carries less."""
        return float(-torch.log(self.shares[0]))


def spectrum(features: Tensor, *, l2: bool = True, centre: Centre = "none") -> Spectrum:
    """The spectrum of features.

    Args:
        features: (samples, width).
        l2: scale each row to length one first.
        centre: what is subtracted then: nothing, each row's mean over channels, or each column's over rows.
    """
    rows = features.double()
    if l2:
        rows = torch.nn.functional.normalize(rows, dim=1)
    if centre != "none":
        rows = rows - rows.mean(dim=1 if centre == "row" else 0, keepdim=True)
    return Spectrum(torch.linalg.svdvals(rows), l2, centre)
