"""Moving averages of modules: closed forms, the ends of the range, and the cosine of the momentum."""

import math

import pytest
import torch
from torch import nn

from frugalclip.core.averages import follow, momentum_at


def modules() -> tuple[nn.Sequential, nn.Sequential]:
    torch.manual_seed(0)
    made = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double() for _ in range(2)]
    return made[0], made[1]


def test_constant_weights_are_approached_in_closed_form():
    average, module = modules()
    first = [p.detach().clone() for p in average.parameters()]
    for _ in range(6):
        follow(average, module, momentum=0.7)
    for own, start, theirs in zip(average.parameters(), first, module.parameters(), strict=True):
        torch.testing.assert_close(own, 0.7**6 * start + (1 - 0.7**6) * theirs, rtol=0, atol=1e-12)
    assert len(first) == 4


def test_one_freezes_and_zero_copies():
    average, module = modules()
    before = average[0].weight.clone()
    follow(average, module, momentum=1)
    assert average[0].weight.equal(before)
    follow(average, module, momentum=0)
    assert average[0].weight.equal(module[0].weight) and average[0].weight is not module[0].weight


def test_what_is_followed_and_the_averages_buffers_stay():
    average, module = modules()
    module(torch.randn(5, 3, dtype=torch.float64))
    theirs, own = (
        {name: value.clone() for name, value in one.state_dict().items()} for one in (module, average)
    )
    follow(average, module, momentum=0.5)
    assert all(value.equal(theirs[name]) for name, value in module.state_dict().items())
    assert average[1].running_mean.equal(own["1.running_mean"]) and not module[1].running_mean.equal(
        own["1.running_mean"]
    )


def test_no_graph_grows_while_following():
    average, module = modules()
    follow(average, module, momentum=0.5)  # in place on leaves that need gradients
    assert all(p.is_leaf and p.grad is None for p in average.parameters())


def test_modules_of_another_structure_are_our_own_mistake():
    with pytest.raises(ValueError, match="zip"):
        follow(nn.Linear(3, 4), nn.Linear(3, 4, bias=False), momentum=0.5)


@pytest.mark.parametrize(("start", "end"), [(0.996, 1.0), (0.5, 0.5), (0.9, 0.7)])
def test_the_momentum_goes_from_start_to_end_on_a_cosine(start: float, end: float):
    assert momentum_at(0, start=start, end=end) == pytest.approx(start) and momentum_at(
        1, start=start, end=end
    ) == pytest.approx(end)
    assert momentum_at(0.5, start=start, end=end) == pytest.approx((start + end) / 2)
    values = [momentum_at(i / 50, start=start, end=end) for i in range(51)]
    assert values == sorted(values, reverse=start > end)
    assert values[10] == pytest.approx(end - (end - start) * (math.cos(math.pi / 5) + 1) / 2)
