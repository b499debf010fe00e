import numpy as np
import pytest
import torch

from frugalclip.evaluation.class_table import Predictions


def predictions() -> Predictions:
    """Four samples of two classes: a cat is taken for a dog, and the last one, which is both, for an owl."""
    return Predictions(
        names=["cat", "dog", "owl"],
        samples=torch.tensor([0, 1, 2, 3, 3]),
        classes=torch.tensor([0, 0, 1, 0, 1]),
        predicted=torch.tensor([0, 1, 1, 2]),
        hits=torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64),
    )


def test_a_class_counts_its_samples_and_its_most_frequent_mistake():
    assert predictions().table() == [
        {"name": "dog", "samples": 2, "top1": 50.0, "mistaken_for": "owl", "times": 1},
        {"name": "cat", "samples": 3, "top1": pytest.approx(100 / 3), "mistaken_for": "dog", "times": 1},
    ]


def test_examples_are_rows_of_the_best_and_the_worst_classes_and_of_confusions():
    found = predictions().examples(["a", "b", "c", "d"], np.array([10, 11, 12, 13]), classes=1, shown=2)
    assert found["best"] == [
        {
            "name": "dog",
            "samples": 2,
            "top1": 50.0,
            "rows": [{"id": "c", "row": 12, "named": "dog"}, {"id": "d", "row": 13, "named": "owl"}],
        }
    ]
    assert [one["name"] for one in found["worst"]] == ["cat"]
    assert [(one["name"], one["named"], one["times"]) for one in found["confusions"]] == [("cat", "dog", 1)]
