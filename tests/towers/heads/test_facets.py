"""The projector into a language model's space: order of operations, sizes, initial weights."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from frugalclip.core.random import generator
from frugalclip.towers.heads.facets import FacetProjector, FacetProjectorConfig


def a_projector(*, width: int = 6, dim: int = 4, **settings: int) -> FacetProjector:
    projector = FacetProjectorConfig.model_validate({"hidden": 8} | settings).build(width=width, dim=dim)
    projector.reset(generator(0, "test"))
    return projector.double()


def tokens(batch: int = 3, patches: int = 5, width: int = 6) -> Tensor:
    return torch.randn(batch, patches, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_is_its_layers_written_out_token_by_token():
    projector, given = a_projector(), tokens()
    weights = projector.state_dict()
    for i in range(3):
        total = torch.zeros(4, dtype=torch.float64)
        for token in given[i]:
            hidden = weights["layers.0.weight"] @ token + weights["layers.0.bias"]
            hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
            out = weights["layers.1.weight"] @ hidden + weights["layers.1.bias"]
            total += (out - out.mean()) / (out.var(unbiased=False) + 1e-5).sqrt()
        torch.testing.assert_close(projector(given)[i], total / 5, rtol=0, atol=1e-12)


def test_averaging_first_would_be_another_function():
    projector, given = a_projector(), tokens()
    assert (projector(given) - projector.project(given.mean(dim=1, keepdim=True))[:, 0]).abs().max() > 0.1


@pytest.mark.parametrize(("dim", "hidden"), [(4, 4096), (4096, 4096), (5120, 5120)])
def test_the_hidden_width_is_that_of_the_language_model_and_at_least_4096(dim: int, hidden: int):
    assert FacetProjectorConfig().widths(width=768, dim=dim) == [768, hidden, dim]


def test_depth_and_cost():
    assert FacetProjectorConfig(depth=1).widths(width=6, dim=4) == [6, 4]
    deep = FacetProjectorConfig(depth=3, hidden=8)
    assert deep.widths(width=6, dim=4) == [6, 8, 8, 4] and a_projector(depth=3)(tokens()).shape == (3, 4)
    assert deep.forward_gflops(tokens=10, width=6, dim=4) == pytest.approx(
        2e-9 * 10 * (6 * 8 + 8 * 8 + 8 * 4)
    )
    assert deep.kept_numbers(tokens=10, width=6, dim=4) == 10 * (2 * 16 + 4)
    paper = FacetProjectorConfig().forward_gflops(tokens=197, width=768, dim=5120)
    assert paper == pytest.approx(2 * 5.94, rel=1e-3), (
        "5.9 billion multiplications an image, a third of ViT-B/16"
    )


def test_the_start_is_that_of_the_generator_and_keeps_lengths():
    one, other = a_projector(width=512, hidden=512), a_projector(width=512, hidden=512)
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )
    first = one.layers[0](tokens(width=512)).detach()
    assert 0.9 < float(first.std()) < 1.1 and float(F.gelu(first).std()) > 0.5
    assert all(parameter.requires_grad for parameter in one.parameters())
