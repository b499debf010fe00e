"""No task turns vectors that are not finite, or image vectors of zeros, into a metric."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from frugalclip.core.errors import FrugalclipError, ModelError
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.ranking import rank_positives
from frugalclip.evaluation.retrieval import retrieval_task
from frugalclip.evaluation.tasks import TASKS
from frugalclip.evaluation.zeroshot import zeroshot_task
from frugalclip.models import ManifestFeatures

from .conftest import ColourModel

BAD = [math.nan, math.inf, -math.inf]
ON_DATA = sorted(set(TASKS) - {"suite", "words"})  # those evaluate features in the same way


@dataclass
class SpoiltModel(ColourModel):
    """The colours, with a bad number in the last rows of one side."""

    reads: str = "both"
    side: str = "image"
    value: float = math.nan

    def encode_text(self, texts: list[str], /, *, normalize: bool = True) -> Tensor:
        return self._spoilt(super().encode_text(texts), "text")

    def image_features(self, manifest: Manifest, /, *, layer: str = "embedding") -> ManifestFeatures:
        found = super().image_features(manifest)
        return replace(found, features=self._spoilt(found.features, "image"))

    def _spoilt(self, features: Tensor, side: str) -> Tensor:
        if side == self.side:
            features[-2:, 1:] = self.value
        return features


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("task", ON_DATA)
def test_every_task_refuses_them(task: str, value: float, squares: Manifest):
    rows = squares.where("split=test")
    whole = TASKS[task].run(SpoiltModel(side=""), rows, squares)
    assert all(math.isfinite(number) for number in whole["metrics"].values())
    with pytest.raises(ModelError, match=r"an image vector that is not finite for '.*', and for 1 more"):
        TASKS[task].run(SpoiltModel(value=value), rows, squares)
    if TASKS[task].needs_texts:
        with pytest.raises(ModelError, match="gives a text vector that is not finite for"):
            TASKS[task].run(SpoiltModel(side="text", value=value), rows, squares)


def test_an_image_vector_of_zeros_has_no_rank(squares: Manifest):
    class Blank(ColourModel):
        def image_features(self, manifest: Manifest, /) -> ManifestFeatures:
            found = super().image_features(manifest)
            found.features[0] = 0
            return found

    with pytest.raises(ModelError, match="an image vector that is zero and cannot be normalised for"):
        TASKS["zeroshot"].run(Blank(), squares.where("split=test"), squares)


@pytest.mark.parametrize("value", BAD)
def test_features_that_are_given_directly_are_refused_too(value: float, squares: Manifest):
    rows = squares.where("split=test")
    naming, retrieval = zeroshot_task(rows), retrieval_task(rows)
    for task in (naming, retrieval):
        images, texts = torch.randn(len(task.rows), 4), torch.randn(len(task.texts), 4)
        for spoilt in (images, texts):
            kept = spoilt[0, 0].item()
            spoilt[0, 0] = value
            for measure in (task.metrics, task.statistics, task.result):
                with pytest.raises(FrugalclipError, match="not finite"):
                    measure(images, texts)
            spoilt[0, 0] = kept


@pytest.mark.parametrize("value", BAD)
def test_scores_that_are_not_finite_have_no_ranks(value: float):
    scores = torch.tensor([[0.1, 0.2], [0.3, value]])
    with pytest.raises(FrugalclipError, match="1 of 2 rows have scores that are not finite"):
        rank_positives(lambda rows: scores[rows], torch.tensor([[0], [0]]))
