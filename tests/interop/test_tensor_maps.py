"""Tensor maps run in both directions: import, then export, gives the same names, shapes and bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from frugalclip.core.errors import ModelError
from frugalclip.interop.huggingface import read_huggingface
from frugalclip.interop.open_clip import read_open_clip
from frugalclip.interop.source import ModelSource
from frugalclip.interop.tensor_maps import (
    BranchScale,
    Change,
    ExtraRows,
    Identity,
    Kernel,
    LeadingAxes,
    Scalar,
    SplitRows,
    TensorMap,
    TensorTable,
    Transpose,
    UnusedTensor,
    pair,
)

from .test_huggingface import saved
from .test_open_clip import GAP, RESNET, SIGLIP, TEXT, TINY, VISION, built


def same_bytes(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Same names; every tensor has the same type, shape and bytes."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape, name
        assert found[name].reshape(-1).view(torch.uint8).equal(tensor.reshape(-1).view(torch.uint8)), name


VARIANTS = TINY | {
    "vision_cfg": VISION | {"no_ln_pre": True, "mlp_ratio": 2.0, "image_size": 30},
    "text_cfg": TEXT | {"proj_bias": True, "no_causal_mask": True, "pool_type": "last"},
    "custom_text": True,
    "nonscalar_logit_scale": True,
}


@pytest.mark.parametrize(
    "config",
    [TINY, VARIANTS, RESNET, SIGLIP, GAP | {"text_cfg": TEXT}],
    ids=["vit", "variants", "resnet", "timm_siglip", "timm_without_bias"],
)
def test_a_model_of_open_clip_comes_back_to_the_byte(
    config: dict[str, Any],
    known: Callable[..., str],
    tmp_path: Path,
):
    name = known("tiny-arch", config)
    original = {key: value.contiguous() for key, value in built(name).state_dict().items()}
    if (
        config["vision_cfg"].get("timm_model_name") == "vit_toy_gap"
    ):  # layer scale is multiplied into the maps
        original = {
            key: torch.ones_like(value) if key.endswith("gamma") else value for key, value in original.items()
        }
    save_file(original, tmp_path / "weights.safetensors")
    same_bytes(
        read_open_clip(
            ModelSource.parse(f"open_clip:{name}@{tmp_path}/weights.safetensors")
        ).export_tensors(),
        original,
    )


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_model_of_hugging_face_comes_back_to_the_byte(kind: str, tmp_path: Path):
    original, _ = saved(tmp_path, kind=kind, activation="gelu")
    exported = read_huggingface(ModelSource.parse(f"hf:{tmp_path}")).export_tensors()
    same_bytes(exported, {name: value.contiguous() for name, value in original.state_dict().items()})
    original.load_state_dict(exported)


@pytest.mark.parametrize(
    ("change", "shapes"),
    [
        (Identity(), [(3, 4)]),
        (Transpose(), [(3, 4)]),
        (Kernel(patch=2), [(5, 3, 2, 2)]),
        (LeadingAxes(2), [(7,)]),
        (Scalar((1,)), [(1,)]),
        (SplitRows(theirs=(2, 2, 2), ours=(6,)), [(2, 3)] * 3),
        (SplitRows(theirs=(6,), ours=(2, 4)), [(6,)]),
        (ExtraRows(theirs=4, ours=6), [(4, 2)]),
    ],
)
def test_every_change_is_undone(change: Change, shapes: list[tuple[int, ...]]):
    theirs = [torch.randn(shape) for shape in shapes]
    again = change.to_theirs(change.to_ours(theirs))
    assert len(again) == len(theirs) and all(torch.equal(a, b) for a, b in zip(again, theirs, strict=True))


def test_layer_scale_is_exported_as_a_scale_of_ones_that_computes_the_same():
    weight, bias, gamma = torch.randn(3, 4), torch.randn(3), torch.rand(3)
    fused, shift, ones = BranchScale().to_theirs(BranchScale().to_ours([weight, bias, gamma]))
    x = torch.randn(5, 4)
    torch.testing.assert_close((x @ fused.T + shift) * ones, (x @ weight.T + bias) * gamma)


def table_of(*maps: TensorMap) -> TensorTable:
    return TensorTable(maps, (UnusedTensor("bias", rows=2),))


def test_tensors_without_effect_are_kept_and_zeros_take_the_place_of_those_that_were_not():
    network = nn.Linear(3, 2, bias=False)
    table = table_of(pair("weight", "kernel", Transpose()))
    file = {"kernel": torch.randn(3, 2), "bias": torch.randn(2)}
    unused = table.fill(network, file, where="file")
    same_bytes(table.export(network.state_dict(), unused=unused), file)
    assert torch.equal(table.export(network.state_dict())["bias"], torch.zeros(2))


def test_what_does_not_fit_is_named():
    network = nn.Linear(3, 2)
    table = table_of(pair("weight", "kernel"))
    for file, sentence in (
        ({}, "no tensor 'kernel'"),
        ({"kernel": torch.zeros(2, 3), "more": torch.zeros(1)}, "1 tensors have no place .* such as more"),
        ({"kernel": torch.zeros(2, 4)}, r"'kernel' gives our weight the shape \(2, 4\)"),
    ):
        with pytest.raises(ModelError, match=sentence):
            table.fill(network, file, where="file")
    rows = table_of(TensorMap(("weight", "bias"), ("kernel",), SplitRows(theirs=(3,), ours=(2, 1))))
    with pytest.raises(ModelError, match="'kernel' has 4 rows, this architecture expects 3"):
        rows.fill(network, {"kernel": torch.zeros(4)}, where="file")
    with pytest.raises(ModelError, match="'bias' and 0 more tensors have no place in this format"):
        table.export(network.state_dict())
