"""Heads on frozen features: arms share what they can, and the terms change what they should."""

import math

import pytest
import torch

from frugalclip.adaptation.compare_heads import HeadData, compare_heads, mean_with_interval
from frugalclip.adaptation.nmtune import ResidualMLP
from frugalclip.adaptation.tune import ARMS, TuneSettings, tuned
from frugalclip.evaluation.classifiers import Examples

QUICK = TuneSettings(epochs=3, batch=16)


def blobs(count: int, *, seed: int = 0, shift: float = 0.0) -> Examples:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = torch.eye(3, 6)
    return Examples(centres[labels] + 0.2 * torch.randn(count, 6, generator=random) + shift, labels)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_learns_and_repeats_itself(arm: str):
    settings = TuneSettings(epochs=30, batch=32, linear_lr=0.1)
    heads = [tuned(blobs(60), classes=3, arm=arm, settings=settings) for _ in range(2)]
    assert heads[0].accuracy(blobs(60, seed=1)) > 80
    first, second = (head.state_dict() for head in heads)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_seeds_differ_and_a_last_row_alone_is_merged():
    one, other = (tuned(blobs(33), classes=3, arm="mlp", seed=s, settings=QUICK) for s in (0, 1))
    assert not torch.equal(one.head.weight, other.head.weight)
    assert all(x.isfinite().all() for x in one.state_dict().values())


def test_training_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    tuned(blobs(12), classes=3, arm="mlp", settings=TuneSettings(epochs=1))
    assert torch.equal(before, torch.get_rng_state())


def test_the_network_starts_alike_with_and_without_terms():
    nothing = TuneSettings(epochs=0)
    mlp, official = (
        tuned(blobs(12), classes=3, arm=arm, settings=nothing).state_dict()
        for arm in ("mlp", "nmtune-official")
    )
    assert all(torch.equal(mlp[name], official[name]) for name in mlp)


def test_a_second_view_is_used():
    heads = [
        tuned(blobs(32), classes=3, arm="nmtune-official", strong=strong, settings=QUICK)
        for strong in (None, blobs(32, shift=0.3).features)
    ]
    assert not torch.equal(heads[0].head.weight, heads[1].head.weight)


def test_the_comparison_is_paired_and_names_every_centring():
    data = HeadData(
        blobs(48), {"in": blobs(30, seed=1), "out": blobs(30, seed=2, shift=0.1)}, ["a", "b", "c"]
    )
    found = compare_heads(data, seeds=3, settings=QUICK)
    assert set(found["arms"]) == set(ARMS)
    assert {len(values) for tests in found["arms"].values() for values in tests.values()} == {3}
    assert set(found["spectra"]) == {"frozen", "mlp", "nmtune-official", "nmtune-paper"}
    assert set(found["spectra"]["frozen"]["in"]) == {"none", "row", "column"}
    assert 0 < found["spectra"]["frozen"]["in"]["none"]["sve"] <= math.log(6)
    one = found["differences"][0]
    expected = sum(found["arms"][one["arm"]][one["test"]]) - sum(found["arms"][one["against"]][one["test"]])
    assert one["mean"] == pytest.approx(expected / 3)
    assert len(found["differences"]) == 2 * 2 * 2


def test_few_seeds_have_no_interval():
    assert mean_with_interval(torch.tensor([1.0, 2.0]).numpy())["interval"] is None
    low, high = mean_with_interval(torch.arange(10.0).numpy())["interval"]
    assert low < 4.5 < high


def test_the_linear_arm_has_no_network():
    head = tuned(blobs(12), classes=3, arm="linear", settings=TuneSettings(epochs=1))
    assert not isinstance(head.network, ResidualMLP)
    assert torch.equal(head.reshaped(blobs(4).features), blobs(4).features)
