"""ONNX graphs as backbones: what they give, and what they refuse."""

from pathlib import Path

import pytest
import torch

from frugalclip.backbones.base import Use
from frugalclip.backbones.find import find_backbone, modality
from frugalclip.backbones.onnx_graph import OnnxBackbone
from frugalclip.core.errors import RecipeError
from frugalclip.interop.source import ModelSource
from frugalclip.models import load

SOURCE = ModelSource.parse("onnx:some/folder")


class Folder:
    """Stands for a folder of graphs."""

    class record:  # noqa: N801
        dim = 4

    path = Path("some/folder")
    preprocess = None

    def has(self, side: str) -> bool:
        return False


def test_a_source_is_an_onnx_graph_of_either_side():
    assert modality(SOURCE) == "both"
    for side in ("image", "text"):
        assert type(find_backbone(SOURCE, Use(side, load))).__name__ == "OnnxGraph"


def test_tokens_and_training_are_refused():
    with pytest.raises(RecipeError, match="gives one vector a sample and no token outputs"):
        OnnxBackbone(Folder(), side="image")(torch.zeros(1, 3, 2, 2), with_tokens=True)
    with pytest.raises(RecipeError, match="holds ONNX graphs, which are not trained"):
        find_backbone(SOURCE, Use("image", load, is_tuned=True)).load()
