"""Images must be prepared as a backbone was trained with."""

import pytest

from frugalclip.backbones.attach import check_preprocess
from frugalclip.core.errors import RecipeError
from frugalclip.loading.views import Preprocess


def test_pictures_prepared_in_another_way_are_noted():
    own = Preprocess(size=8, crop=0.875, interpolation="bilinear")
    output = check_preprocess("timm:x", Preprocess(size=9), own)
    assert output and output.endswith(
        "in another way; preprocess.crop=0.875 preprocess.interpolation=bilinear prepares them alike"
    )
    assert check_preprocess("timm:x", own, own) is None


def test_pictures_normalised_in_another_way_are_refused_with_the_settings():
    own = Preprocess(size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    check_preprocess("timm:x", own.model_copy(update={"size": 9}), own)
    with pytest.raises(
        RecipeError,
        match=r"set preprocess\.mean=\[0\.5, 0\.5, 0\.5\] preprocess\.std=\[0\.25, 0\.25, 0\.25\]",
    ):
        check_preprocess("timm:x", Preprocess(size=8), own)
