"""Projection heads: their layers, their precision, and batch statistics."""

import pytest
import torch
from torch import Tensor, nn

from frugalclip.towers.heads.projection import ProjectionHead, SynchronisedBatchNorm1d


def rows(number: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kinds(head: ProjectionHead) -> list[str]:
    return [type(layer).__name__ for layer in head]


def test_each_layer_but_the_last_is_normalised_and_rectified():
    assert kinds(ProjectionHead([4, 8, 8, 3])) == ["Linear", "SynchronisedBatchNorm1d", "ReLU"] * 2 + [
        "Linear"
    ]
    assert kinds(ProjectionHead([4, 8, 3], last_norm=True)) == [
        "Linear",
        "SynchronisedBatchNorm1d",
        "ReLU",
        "Linear",
        "SynchronisedBatchNorm1d",
    ]
    assert kinds(ProjectionHead([4, 3])) == ["Linear"] and kinds(ProjectionHead([4, 3], last_norm=True)) == [
        "Linear",
        "SynchronisedBatchNorm1d",
    ]


def test_biases_are_those_of_linear_layers_only():
    head = ProjectionHead([4, 8, 3], bias=False)
    assert head[0].bias is None and head[3].bias is None and head[1].bias is not None
    assert all(layer.bias is not None for layer in ProjectionHead([4, 8, 3]) if isinstance(layer, nn.Linear))


@pytest.mark.parametrize("last_norm", [False, True])
def test_is_what_its_layers_written_out_give(last_norm: bool):
    head = ProjectionHead([4, 6, 3], last_norm=last_norm).double()
    with torch.no_grad():
        head[1].weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0))
        head[1].bias.normal_(generator=torch.Generator().manual_seed(1))

    parameter = head.get_parameter

    def linear(x: Tensor, place: int) -> Tensor:
        return x @ parameter(f"{place}.weight").T + parameter(f"{place}.bias")

    def normalised(x: Tensor, place: int) -> Tensor:
        unscaled = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
        return unscaled * parameter(f"{place}.weight") + parameter(f"{place}.bias")

    x = rows(7, 4)
    expected = linear(normalised(linear(x, 0), 1).clamp(min=0), 3)
    expected = normalised(expected, 4) if last_norm else expected
    torch.testing.assert_close(head(x), expected, rtol=0, atol=1e-12)


def test_a_batch_decides_in_training_and_the_running_statistics_in_evaluation():
    head, x = ProjectionHead([4, 6, 3]).double(), rows(7, 4)
    alone = head(x[:3])
    assert (head(x)[:3] - alone).abs().max() > 1e-3
    head.eval()
    torch.testing.assert_close(head(x)[:3], head(x[:3]), rtol=0, atol=1e-12)


def test_lengths_of_inputs_do_not_matter_to_a_normalised_layer_without_bias():
    head, x = ProjectionHead([4, 6, 3], bias=False).double(), rows(7, 4)
    torch.testing.assert_close(head(100 * x), head(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize("given", [torch.bfloat16, torch.float16, torch.float32])
def test_computes_in_single_precision_also_where_the_towers_do_not(given: torch.dtype):
    head, x = ProjectionHead([4, 6, 3]), rows(7, 4).to(given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = head(x)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, head(x.float()), rtol=0, atol=1e-6)


def test_gradients_come_back_in_the_precision_of_the_input():
    x = rows(7, 4).bfloat16().requires_grad_()
    ProjectionHead([4, 6, 3])(x).square().sum().backward()
    assert x.grad.dtype == torch.bfloat16 and x.grad.abs().max() > 0


def test_alone_it_is_torchs_own_batch_normalisation():
    ours, torchs, x = SynchronisedBatchNorm1d(4).double(), nn.BatchNorm1d(4).double(), rows(7, 4)
    assert ours(x).equal(torchs(x)) and ours.running_var.equal(torchs.running_var)
    with pytest.raises(ValueError, match="expected 2D or 3D input"):
        ours(x[0])
