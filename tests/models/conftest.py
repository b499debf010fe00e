"""A small model with random weights."""

import pytest

from frugalclip.core.preprocess import Preprocess
from frugalclip.data.tokens import train_tokenizer
from frugalclip.models import Model
from frugalclip.towers.dual import DualEncoder, ModelConfig


@pytest.fixture
def model() -> Model:
    tokenizer = train_tokenizer(["a red square", "a blue circle"], vocabulary=600, context=8)
    image = {"width": 32, "depth": 1, "head_dim": 16, "patch": 8, "resolution": 16}
    config = ModelConfig.model_validate(
        {"image": image, "text": {"width": 32, "depth": 1, "head_dim": 16}, "dim": 12}
    )
    network = DualEncoder(config, vocabulary=tokenizer.vocabulary, context=8)
    return Model(
        network.eval(), tokenizer, Preprocess(size=16), training_data={"path": "sample", "where": None}
    )
