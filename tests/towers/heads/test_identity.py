"""The identity head: nothing changes but the mean, which is that of the tower's own side."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from frugalclip.core.errors import RecipeError
from frugalclip.towers.heads.identity import IdentityConfig, IdentityHead

IMAGES, TEXTS = (torch.randn(9, 4, generator=torch.Generator().manual_seed(seed)) + 3 for seed in (0, 1))


class Features:
    """Nine images and nine texts, as a head reads them when it is fitted."""

    device, rows = torch.device("cpu"), np.arange(9)

    def texts(self) -> np.ndarray:
        return np.arange(9)

    def text_features(self, texts: np.ndarray) -> Tensor:
        return TEXTS[texts]

    def image_features(self, rows: np.ndarray) -> Tensor:
        return IMAGES[rows]


def head(*, centre: bool) -> IdentityHead:
    return IdentityConfig(kind="identity", centre=centre).build(width=4, dim=4)


@pytest.mark.parametrize(("side", "own"), [("image", IMAGES), ("text", TEXTS)])
def test_the_mean_is_that_of_the_own_side(side: Any, own: Tensor):
    built = head(centre=True)
    assert built.fit_inputs(side) == {f"{side}_features"}
    built.fit(Features(), side=side)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(built(own).mean(dim=0), torch.zeros(4), atol=1e-6, rtol=0)


def test_without_a_mean_nothing_is_fitted_and_nothing_changes():
    built = head(centre=False)
    assert not built.fit_inputs("image") and not built.fit_inputs("text")
    assert torch.equal(built(IMAGES), IMAGES)


def test_another_width_is_refused():
    with pytest.raises(RecipeError, match=r"set model\.dim=4"):
        IdentityConfig(kind="identity").build(width=4, dim=5)
