"""Numbers that are not finite are refused with the row, their number and the next step."""

import math

import numpy as np
import pytest
import torch

from frugalclip.core.errors import DataError, ModelError, TrainingError
from frugalclip.core.finite import VectorOrigin, finite_rows, refuse_scores, refuse_vectors, refuse_weights
from frugalclip.core.numerics import kmeans, softmax_regression

BAD = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", BAD)
def test_rows_are_told_apart_whatever_their_shape(value: float):
    values = torch.ones(3, 2, 2)
    values[1, 0, 1] = value
    assert finite_rows(values).tolist() == [True, False, True]
    assert finite_rows(values.numpy()).tolist() == [True, False, True]
    assert finite_rows(torch.zeros(0, 4)).tolist() == []


def test_the_sentence_names_the_first_row_their_number_and_the_next_step():
    values = np.ones((5, 3), np.float32)
    refuse_vectors(values, list("abcde"), origin=VectorOrigin("the model", "image"))
    values[[1, 3], 0] = math.nan
    expected = (
        "the model gives an image vector that is not finite for 'b', and for 1 more of 5; "
        "look at its weights, or run it in float32."
    )
    with pytest.raises(ModelError) as found:
        refuse_vectors(values, list("abcde"), origin=VectorOrigin("the model", "image"))
    assert str(found.value) == expected
    origin = VectorOrigin("runs/store", "text", "embed the data again", TrainingError)
    with pytest.raises(TrainingError, match=r"runs/store gives a text vector .* row 1, and .*embed the data"):
        refuse_vectors(values, origin=origin)


def test_a_vector_of_zeros_has_no_direction():
    values = torch.eye(3)
    values[2] = 0
    refuse_vectors(values, origin=VectorOrigin("the model", "image"))
    with pytest.raises(ModelError, match="zero and cannot be normalised for 'c'"):
        refuse_vectors(values, list("abc"), origin=VectorOrigin("the model", "image"), may_be_zero=False)


@pytest.mark.parametrize("value", BAD)
def test_weights_are_refused_by_name(value: float):
    weights = {f"layer.{i}": torch.ones(2) for i in range(6)} | {"count": torch.tensor([3])}
    refuse_weights(weights, where="file")
    refuse_weights({"planned": torch.full((2,), value, device="meta")}, where="file")
    for i in range(4):
        weights[f"layer.{i}"][1] = value
    with pytest.raises(
        ModelError, match=r"^file .* in layer\.0, layer\.1, layer\.2 and 1 more \(4 of 7 tensors\)"
    ):
        refuse_weights(weights, where="file")


@pytest.mark.parametrize("value", BAD)
def test_rankings_fits_and_clusters_refuse_them(value: float):
    points = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    points[4, 1] = value
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    with pytest.raises(DataError, match="1 of 6 rows have scores that are not finite"):
        refuse_scores(points)
    with pytest.raises(DataError, match="feature vector that is not finite for row 4"):
        softmax_regression(points, labels, strength=1.0)
    with pytest.raises(DataError, match="feature vector that is not finite for row 4"):
        kmeans(points, 2)
