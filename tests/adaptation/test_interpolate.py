"""Weights between models: exact ends, means, and what has no weights in between."""

import copy

import pytest
import torch
from torch import nn

from frugalclip.adaptation.interpolate import check_alike, distance, greedy_soup, mixed_model, mixed_state
from frugalclip.adaptation.normalisation import NormCorrection, batch_norms, collected
from frugalclip.core.errors import ModelError
from frugalclip.core.preprocess import Preprocess
from frugalclip.data.tokens import TokenizerConfig, build_tokenizer
from frugalclip.models import Model
from frugalclip.towers.dual import DualEncoder, ModelConfig

VIT = {"width": 16, "depth": 1, "head_dim": 8, "patch": 8, "resolution": 16}
RESNET = {"kind": "clip_resnet", "width": 64, "blocks": [1, 1, 1, 1], "resolution": 32}
TEXT = {"width": 16, "depth": 1, "head_dim": 8}


def model(seed: int, *, image: dict[str, object] = VIT, size: int = 16, width: int = 16) -> Model:
    content = {"image": image, "text": TEXT | {"width": width}, "dim": 8}
    tokenizer = build_tokenizer(TokenizerConfig(kind="captions", vocabulary=600, context=8), ["a red car"])
    config = ModelConfig.model_validate(content)
    network = DualEncoder(config, vocabulary=tokenizer.vocabulary, context=8, seed=seed)
    return Model(network.eval(), tokenizer, Preprocess(size=size))


def test_the_ends_are_bit_for_bit_and_the_middle_is_the_mean():
    first, second = model(0), model(1)
    for weights, expected in (([1.0, 0.0], first), ([0.0, 1.0], second)):
        mixed = mixed_model([first, second], weights).network.state_dict()
        assert all(torch.equal(mixed[name], t) for name, t in expected.network.state_dict().items())
    middle = mixed_model([first, second], [0.5, 0.5]).network.state_dict()
    for name, tensor in middle.items():
        mean = (first.network.state_dict()[name].double() + second.network.state_dict()[name].double()) / 2
        assert torch.allclose(tensor.double(), mean, atol=1e-7)
    assert distance(first, first) == 0 and distance(first, second) > 0


def test_what_is_equal_in_all_stays_bit_for_bit():
    states = [{"a": torch.tensor([0.1, 0.7]), "n": torch.tensor(3)} for _ in range(3)]
    mixed = mixed_state(states, [0.2, 0.3, 0.5])
    assert torch.equal(mixed["a"], states[0]["a"]) and mixed["n"] == 3


def test_models_of_other_sizes_tokenizers_or_pixels_are_refused():
    one = model(0)
    with pytest.raises(ModelError, match=r"A and B have no weights in between: .* has the shapes"):
        check_alike({"A": one, "B": model(0, width=24)})
    other = copy.copy(model(0))
    other.preprocess = Preprocess(size=16, resize="squash")
    with pytest.raises(ModelError, match="their preprocessing differs"):
        check_alike({"A": one, "B": other})
    check_alike({"A": one, "B": model(3)})


def test_a_greedy_soup_keeps_what_helps():
    models = [model(seed) for seed in range(3)]
    good = {0: 0.5, 1: 0.9, 2: 0.1}

    def value(one: Model) -> float:
        for place, each in enumerate(models):
            if one is each:
                return good[place]
        return 0.95 if torch.equal(_first(one), (_first(models[0]) + _first(models[1])) / 2) else 0.2

    kept, soup = greedy_soup(models, value)
    assert kept == [1, 0]
    assert torch.allclose(_first(soup), (_first(models[0]) + _first(models[1])) / 2)


def _first(one: Model) -> torch.Tensor:
    return one.network.text.state_dict()["positions"]


def test_statistics_between_two_towers_fit_the_images_and_the_ends():
    start, end = (model(seed, image=RESNET, size=32) for seed in (0, 1))
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(8, 3, 32, 32, generator=generator) for _ in range(2)]
    for one in (start, end):  # running statistics of other images than these
        for norm in batch_norms(one.network).values():
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean += 0.1
            norm.running_var *= 1.5
    before = {name: t.clone() for name, t in start.network.state_dict().items()}
    correction = NormCorrection(start, end, images)
    assert correction.is_needed
    for alpha, expected in ((1e-9, start), (1 - 1e-9, end)):  # continuous at both ends
        mixed = mixed_model([end, start], [alpha, 1 - alpha])
        correction.apply(mixed, alpha)
        for name, norm in batch_norms(mixed.network).items():
            own = batch_norms(expected.network)[name]
            assert torch.allclose(_of(norm.running_mean), _of(own.running_mean), atol=1e-3), name
            assert torch.allclose(_of(norm.running_var), _of(own.running_var), rtol=1e-2), name
    assert all(torch.equal(t, before[name]) for name, t in start.network.state_dict().items())
    middle = mixed_model([end, start], [0.5, 0.5])
    plain = collected(middle, images)
    correction.apply(middle, 0.5)
    first = next(iter(batch_norms(middle.network)))
    assert torch.allclose(
        _of(batch_norms(middle.network)[first].running_mean), plain[first].mean + 0.1, atol=0.2
    )


def _of(tensor: torch.Tensor | None) -> torch.Tensor:
    assert tensor is not None
    return tensor


def test_a_tower_without_statistics_needs_none():
    assert not NormCorrection(model(0), model(1), [torch.zeros(1, 3, 16, 16)]).is_needed
    assert isinstance(nn.BatchNorm1d(2), nn.modules.batchnorm._BatchNorm)
