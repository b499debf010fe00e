"""PatchDis against loops: what is ignored and which classes compete."""

import math
import runpy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from frugalclip.core.errors import DataError

_BENCHMARK = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "patchdis.py"))
patch_discrimination, patch_scores = _BENCHMARK["patch_discrimination"], _BENCHMARK["patch_scores"]
IMAGES, PATCHES, CLASSES = 5, 6, 4


def scores(seed: int = 0) -> Tensor:
    return torch.rand(
        IMAGES, PATCHES, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def labels(seed: int = 1) -> Tensor:
    return torch.randint(-1, CLASSES, (IMAGES, PATCHES), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("candidates", ["open", "present"])
def test_matches_loops(candidates: str):
    given, truth = scores(), labels()
    truth[2] = -1  # an image without any label
    found = patch_discrimination(given, truth, candidates=candidates)
    inside, union, right, guesses = [0] * CLASSES, [0] * CLASSES, [], []
    for i in range(IMAGES):
        present = {c for c in truth[i].tolist() if c >= 0}
        for j in range(PATCHES):
            rivals = sorted(present) if candidates == "present" and present else list(range(CLASSES))
            named = max(rivals, key=lambda c: (float(given[i, j, c]), -c))
            assert found.predicted[i, j] == named
            label = int(truth[i, j])
            if label < 0:
                continue
            right.append(named == label)
            guesses.append(1 / len(rivals))
            for c in {named, label}:
                union[c] += 1
            inside[label] += named == label
    assert found.iou.tolist() == pytest.approx(
        [inside[c] / union[c] if union[c] else math.nan for c in range(CLASSES)], nan_ok=True
    )
    assert found.accuracy == pytest.approx(sum(right) / len(right)) and found.chance == pytest.approx(
        sum(guesses) / len(guesses)
    )


def test_a_class_that_is_neither_there_nor_named_is_left_out_of_the_mean():
    given = torch.zeros(1, 3, 3)
    given[0, :, 0] = 1
    found = patch_discrimination(given, torch.tensor([[0, 0, 1]]))
    assert found.iou.tolist() == pytest.approx(
        [2 / 3, 0, math.nan], nan_ok=True
    ) and found.mean_iou == pytest.approx(1 / 3)


def test_equal_scores_go_to_the_lower_class_and_ignored_patches_do_not_count():
    found = patch_discrimination(torch.zeros(1, 2, 3), torch.tensor([[0, -1]]))
    assert found.predicted.tolist() == [[0, 0]] and found.accuracy == 1 and found.iou[0] == 1
    spoilt = scores()
    spoilt[labels() == -1] = torch.rand(CLASSES, dtype=torch.float64)
    one, other = patch_discrimination(scores(), labels()), patch_discrimination(spoilt, labels())
    assert one.iou.equal(other.iou) and one.accuracy == other.accuracy


def test_scores_are_cosines_and_a_vector_of_zeros_has_none():
    patches, classes = torch.rand(2, 3, 7), torch.rand(4, 7)
    patches[0, 0] = 0
    found = patch_scores(patches, classes)
    assert found[1, 2, 3].item() == pytest.approx(
        torch.cosine_similarity(patches[1, 2], classes[3], dim=0).item()
    )
    assert found[0, 0].tolist() == [0] * 4
    torch.testing.assert_close(patch_scores(9 * patches, classes / 3), found)


def test_labels_that_name_nothing_are_an_error():
    with pytest.raises(
        DataError, match=r"run from -1 to 4, expected -1 \(ignored\) to 3; number the classes anew"
    ):
        patch_discrimination(scores(), labels().clamp(min=-1) + (labels() == 3).long())
    with pytest.raises(DataError, match="every patch is ignored"):
        patch_discrimination(scores(), torch.full((IMAGES, PATCHES), -1))
