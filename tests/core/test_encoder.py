"""The protocol of encoders: its names, what evaluation and stores add, and that encoders have all."""

import pytest

from frugalclip.core.encoder import Encoder
from frugalclip.evaluation import encoding
from frugalclip.features.backbone import BackboneEncoder
from frugalclip.features.vectors import StorableEncoder
from frugalclip.models import Model
from frugalclip.models.text_only import TextOnlyModel

NAMES = {"reads", "dim", "preprocess", "fingerprint", "encode_image", "encode_text"}


def named(protocol: type) -> set[str]:
    return {name for one in protocol.__mro__ for name in vars(one) if not name.startswith("_")}


def test_the_protocol_names_what_the_table_here_says():
    assert named(Encoder) == NAMES
    assert named(encoding.DataEncoder) == NAMES | {"image_features"}
    assert named(StorableEncoder) == NAMES | {"description", "scale", "tokenizer"}


@pytest.mark.parametrize(
    ("kind", "own"), [(Model, {"preprocess"}), (BackboneEncoder, {"preprocess"}), (TextOnlyModel, set())]
)
def test_models_are_encoders(kind: type, own: set[str]):
    assert NAMES - {name for name in dir(kind) if not name.startswith("_")} == own  # set in the constructor
