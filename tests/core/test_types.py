"""Inputs of towers are used alike, whether they are pixels, token ids or cached features."""

import pytest
import torch

from frugalclip.core.types import CachedFeatures, Tokens

ROWS = torch.tensor([2, 0])
TOKENS = Tokens(torch.arange(12).view(3, 4), torch.tensor([4, 2, 3]))
FEATURES = CachedFeatures(torch.arange(6.0).view(3, 2))


def test_rows_are_taken_from_every_tensor():
    assert TOKENS[ROWS].ids.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert TOKENS[ROWS].lengths.tolist() == [3, 4]
    assert FEATURES[ROWS].values.tolist() == [[4, 5], [0, 1]]
    assert len(TOKENS[ROWS]) == len(FEATURES[ROWS]) == 2


@pytest.mark.parametrize("inputs", [TOKENS, FEATURES])
def test_every_tensor_moves_to_the_device(inputs: Tokens | CachedFeatures):
    moved = inputs.to(torch.device("meta"))
    assert moved.device.type == "meta" and inputs.device.type == "cpu"
    assert {tensor.device.type for tensor in vars(moved).values()} == {"meta"}


def test_texts_are_ordered_by_length_and_features_stay_in_order():
    assert TOKENS.by_length().tolist() == [1, 2, 0]
    assert FEATURES.by_length().tolist() == [0, 1, 2]
