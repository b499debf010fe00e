"""The design of a comparison: names are checked and defaults filled in."""

import pytest

from frugalclip.comparison.arms import read_arms
from frugalclip.comparison.design import ComparisonSettings, make_design
from frugalclip.comparison.protocol import ProtocolConfig
from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError


def design(arms, **changes):
    settings = validated(ComparisonSettings, changes, where="compare")
    return make_design(read_arms(arms), ProtocolConfig().resolved(), settings)


def test_the_first_arm_is_the_reference():
    made = design(["clip", "siglip"])
    assert (made.reference, made.names, made.others) == ("clip", ["clip", "siglip"], ["siglip"])
    assert design(["clip", "siglip"], reference="siglip").others == ["clip"]
    assert made.primary == "naming"


def test_equal_arms_have_independent_seeds():
    assert not design(["clip", "siglip"]).has_independent_seeds
    assert design(["clip", "siglip"], independent_seeds=True).has_independent_seeds
    assert design(["a:clip", "b:clip"]).has_independent_seeds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "clap"}, "--reference clap is not one of the arms; did you mean 'clip'"),
        ({"full_data": ["siglop"]}, "--full-data siglop is not one of the arms; did you mean 'siglip'"),
    ],
)
def test_an_unknown_arm_is_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        design(["clip", "siglip"], **changes)


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(RecipeError, match=r"compare\.referense .* did you mean 'reference'"):
        design(["clip", "siglip"], referense="clip")
    with pytest.raises(RecipeError, match="--samples and --seconds are both given; keep one"):
        design(["clip", "siglip"], samples=1, seconds=1.0)


def test_fractions_are_text_or_numbers():
    assert design(["clip", "siglip"], fractions="1/4,1/8").fractions == [0.125, 0.25, 1.0]
    assert design(["clip", "siglip"], fractions=[0.5]).fractions == [0.5, 1.0]
