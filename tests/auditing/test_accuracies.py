"""Accuracies of concepts from files, and recall of concepts in a retrieval."""

import json
from pathlib import Path

import pytest
import torch

from frugalclip.auditing.accuracies import concept_recalls, read_accuracies
from frugalclip.auditing.concepts import Concept
from frugalclip.auditing.words import WordForms
from frugalclip.core.errors import DataError
from frugalclip.evaluation.retrieval import retrieval_task

from .manifests import manifest_of


def test_results_of_ours_and_published_ones(tmp_path: Path):
    path = tmp_path / "r.json"
    path.write_text(
        json.dumps(
            {
                "per_class": [
                    {"name": "cat", "samples": 3, "top1": 50},
                    {"name": "dog", "samples": 1, "top1": 0},
                ]
            }
        )
    )
    assert read_accuracies(path) == {"cat": 50.0, "dog": 0.0}
    assert read_accuracies(path, least=2) == {"cat": 50.0}
    path.write_text('{"full": 40, "classwise": {"cat": 12.5}}')
    assert read_accuracies(path) == {"cat": 12.5}
    path.write_text('{"conceptwise": {"cat": 0.25}}')
    assert read_accuracies(path) == {"cat": 25.0}


@pytest.mark.parametrize("content", ["{}", "[]", "{"])
def test_other_files_are_refused(tmp_path: Path, content: str):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match=r"r\.json"):
        read_accuracies(tmp_path / "r.json")
    with pytest.raises(DataError, match="there is no file"):
        read_accuracies(tmp_path / "none.json")


def test_recall_by_concept_equals_a_loop():
    captions = [["a red disc", "a disc on a table"], ["two discs"], ["a blue ring"], ["a ring"]]
    task = retrieval_task(manifest_of(captions))
    random = torch.Generator().manual_seed(0)
    images, texts = torch.randn(4, 8, generator=random), torch.randn(5, 8, generator=random)
    found = concept_recalls(
        task, images, texts, [Concept(["disc"]), Concept(["ring"]), Concept(["cat"])], forms=WordForms()
    )
    cosines = torch.nn.functional.normalize(images) @ torch.nn.functional.normalize(texts).T
    pairs = {tuple(pair) for pair in task.pairs.tolist()}
    owners = {"disc": ([0, 1], [0, 1, 2]), "ring": ([2, 3], [3, 4])}
    for name, (own_images, own_texts) in owners.items():
        right = [(i, int(cosines[i].argmax())) in pairs for i in own_images]
        assert found["i2t"][name] == pytest.approx(100 * sum(right) / len(right))
        right = [(int(cosines[:, t].argmax()), t) in pairs for t in own_texts]
        assert found["t2i"][name] == pytest.approx(100 * sum(right) / len(right))
    assert "cat" not in found["i2t"]
