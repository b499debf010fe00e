"""Speed and memory of a network: what is alive at once is counted to the byte."""

import torch
from torch import nn

from frugalclip.compression.speed import _Alive, _peak_bytes, network_speed
from frugalclip.towers.dual import DualEncoder, ModelConfig


def network(width: int) -> DualEncoder:
    sizes = {"width": width, "depth": 2, "head_dim": 8}
    config = {"image": sizes | {"patch": 8, "resolution": 32}, "text": sizes, "dim": 16}
    return DualEncoder(ModelConfig.model_validate(config), vocabulary=90, context=12)


def test_memory_is_that_of_weights_and_of_what_is_alive_at_once():
    first, second = nn.Linear(10, 100, bias=False), nn.Linear(100, 10, bias=False)
    x, weights = torch.zeros(50, 10), [first.weight, second.weight]
    own = sum(4 * weight.numel() for weight in weights)
    with torch.inference_mode():
        assert _peak_bytes(lambda: second(first(x)), weights) == own + 4 * 50 * (100 + 10)
        assert _peak_bytes(lambda: (first(x), None)[1] or first(x), weights) == own + 4 * 50 * 100
        with _Alive([]) as alive:
            kept = [torch.zeros(25) for _ in range(3)]
            assert alive.now == alive.peak == 300
            kept.clear()
            assert alive.now == 0 and alive.peak == 300


def test_a_smaller_network_takes_less_memory_and_threads_stay_as_they_were():
    before = torch.get_num_threads()
    large, small = (network_speed(network(width)) for width in (128, 16))
    assert torch.get_num_threads() == before
    for side in ("image", "text"):
        assert small["peak_bytes"][side] < large["peak_bytes"][side]
        assert small["per_second"][side] > 0 and large["per_second"][side] > 0


def test_a_text_tower_without_tokens_is_left_out():
    config = {
        "image": {"kind": "resnet", "size": "nano", "resolution": 32},
        "text": {"kind": "tfidf"},
        "dim": 8,
    }
    counts = DualEncoder(ModelConfig.model_validate(config), vocabulary=50, context=12)
    assert set(network_speed(counts)["per_second"]) == {"image"}
