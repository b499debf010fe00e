"""The protocol of encoders: what it names, what evaluation adds, and that models have all of it."""

import pytest

from frugalclip.core.encoder import Encoder
from frugalclip.evaluation import encoding
from frugalclip.models import Model
from frugalclip.models.text_only import TextOnlyModel

NAMES = {"reads", "dim", "preprocess", "fingerprint", "encode_image", "encode_text"}


def named(protocol: type) -> set[str]:
    return {name for one in protocol.__mro__ for name in vars(one) if not name.startswith("_")}


def test_the_protocol_names_what_the_table_here_says():
    assert named(Encoder) == NAMES
    assert named(encoding.Encoder) == NAMES | {"image_features"}


@pytest.mark.parametrize(("kind", "own"), [(Model, {"preprocess"}), (TextOnlyModel, set())])
def test_models_are_encoders(kind: type, own: set[str]):
    assert NAMES - {name for name in dir(kind) if not name.startswith("_")} == own  # set in the constructor
