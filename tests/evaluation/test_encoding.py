import numpy as np
import pytest
import torch

from frugalclip.core.errors import DataError
from frugalclip.evaluation.encoding import encode_texts, image_features


def test_texts_are_encoded_in_batches(model):
    texts = ["red", "green", "blue", "white", "no colour"]
    assert torch.equal(encode_texts(model, texts, batch=2), model.encode_text(texts))


def test_unreadable_images_are_left_out_and_counted_by_cause(squares, model):
    features, kept, faults = image_features(model, squares, np.array([0, 11, 3]))
    assert kept.tolist() == [0, 2]
    assert len(features) == 2
    assert sum(faults.values()) == 1


def test_no_readable_image_is_an_error(squares, model):
    with pytest.raises(DataError, match="no image of squares could be read; run: frugalclip data check"):
        image_features(model, squares, np.array([11]))
