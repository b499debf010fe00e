"""Learned gates: how often they open, what they are expected to keep, and what is left of them."""

import pytest
import torch

from frugalclip.compression.base import GateConfig, GateSource
from frugalclip.compression.cutting import cut_network, units_of
from frugalclip.compression.hard_concrete import LIMIT, Config, HardConcrete
from frugalclip.core.errors import RecipeError
from frugalclip.core.random import generator
from frugalclip.functional import expected_kept, goal_at, highest, open_probability, sampled_gates
from frugalclip.towers.dual import DualEncoder, ModelConfig

from .test_cutting import network


def source(made: DualEncoder, *, spread: float = 2.0, **settings: object) -> HardConcrete:
    gates = HardConcrete(Config.model_validate({"kind": "hard_concrete", **settings}), made)
    with torch.no_grad():
        for number, log_alpha in enumerate(gates.log_alpha.values()):
            log_alpha.copy_(spread * torch.randn(len(log_alpha), generator=generator(number, "test")))
    return gates


def parameters(made: DualEncoder) -> int:
    towers = sum(p.numel() for tower in (made.image, made.text) for p in tower.parameters())
    return towers - made.text.embedding_parameters


def test_gates_open_as_often_as_their_probability_says():
    log_alpha = torch.tensor([-4.0, -2.0, -0.5, 0.0, 1.0, 3.0])
    noise = torch.rand(200_000, 6, generator=torch.Generator().manual_seed(0)).clamp(1e-6, 1 - 1e-6)
    is_open = sampled_gates(log_alpha, noise) > 0
    torch.testing.assert_close(is_open.float().mean(dim=0), open_probability(log_alpha), rtol=0, atol=4e-3)


def test_the_expected_size_is_the_mean_over_drawn_gates():
    made = network()
    gates = source(made)
    units = units_of(made)["text"]
    sizes, draw = [], torch.Generator().manual_seed(0)
    for _ in range(3000):
        drawn = gates.sample(generator=draw).text
        assert drawn is not None and drawn.hidden is not None
        assert drawn.heads is not None and drawn.neurons is not None
        count = lambda values: float((values > 0).sum())  # noqa: E731
        counts = (count(drawn.hidden), [*map(count, drawn.heads)], [*map(count, drawn.neurons)])
        sizes.append(float(units.size(type(units.counts)(*counts))))
    expected = float(gates.sample(generator=draw).expected_size["text"].detach())
    assert abs(sum(sizes) / len(sizes) / expected - 1) < 0.02


def test_open_gates_expect_the_whole_tower():
    made = network()
    gates = source(made)
    with torch.no_grad():
        for log_alpha in gates.log_alpha.values():
            log_alpha.fill_(40.0)
    sampled = gates.sample(generator=torch.Generator().manual_seed(0))
    for side, full in sampled.full_size.items():
        assert float(sampled.expected_size[side].detach()) == pytest.approx(full, rel=1e-4)
    assert sum(sampled.full_size.values()) == parameters(made)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_what_is_left_has_the_size_wanted(keep: float, spread: float):
    made = network()
    smaller = cut_network(made, source(made, spread=spread, keep=keep).settle())
    assert (
        abs(parameters(smaller) / (keep * parameters(made)) - 1) < 0.02
    )  # a neuron is 0.3 % of this network


@pytest.mark.parametrize("keep", [0.25, 0.5, 0.75])
def test_towers_keep_fast_numbers_where_their_size_allows(keep: float):
    tower = {"width": 128, "depth": 2, "head_dim": 32}
    towers = {"image": tower | {"patch": 8, "resolution": 16}, "text": tower, "dim": 24}
    made = DualEncoder(ModelConfig.model_validate(towers), vocabulary=50, context=9)
    smaller = cut_network(made, source(made, keep=keep).settle())
    assert parameters(smaller) / parameters(made) == pytest.approx(keep, abs=0.005)
    for side, units in units_of(smaller).items():
        assert units.config.width % 8 == 0, side
        assert all(number % 8 == 0 for number in units.config.neurons), side


def test_evaluation_is_of_the_network_that_the_gates_expect_now():
    made = network()
    open_gates = HardConcrete(Config(kind="hard_concrete", keep=0.4), made)
    whole = open_gates.evaluated(made)
    assert parameters(whole) / parameters(made) > 0.99
    settled = source(made, spread=2.0, keep=0.4)  # most gates closed: the size of the end is the least
    with torch.no_grad():
        for one in settled.log_alpha.values():
            one.sub_(3)
    fused, evaluated = cut_network(made, settled.settle()), settled.evaluated(made)
    assert evaluated.config == fused.config
    assert all(torch.equal(a, b) for a, b in zip(evaluated.parameters(), fused.parameters(), strict=True))


def test_gates_that_choose_nothing_are_evaluated_as_the_whole_network():
    class Constant(GateSource):
        def sample(self, *, generator: torch.Generator):
            raise AssertionError

    made = network()
    assert Constant(GateConfig(kind="mine"), made).evaluated(made) is made


def test_the_units_with_the_highest_scores_stay():
    made = network()
    gates = source(made)
    cut = gates.settle()["image"]
    scores = gates.log_alpha["image_hidden"].detach()
    stays = torch.zeros(len(scores), dtype=torch.bool).index_fill(0, cut.kept.hidden, True)
    assert scores[stays].min() >= scores[~stays].max()


def test_only_some_units_or_one_tower_may_be_gated():
    made = network()
    gates = source(made, units=["neurons"], towers=["image"], keep=0.7)
    assert list(gates.log_alpha) == ["image_neurons"]
    cuts = gates.settle()
    assert list(cuts) == ["image"]
    assert len(cuts["image"].kept.hidden) == made.config.image.width
    assert gates.sample(generator=torch.Generator()).text is None
    smaller = cut_network(made, cuts)
    full = units_of(made)["image"].size()
    assert units_of(smaller)["image"].size() == pytest.approx(0.7 * float(full), rel=0.01)


def test_log_alpha_stays_in_its_range():
    gates = HardConcrete(Config(kind="hard_concrete"), network())
    gates.clamp()
    assert all(float(one.detach().max()) == pytest.approx(LIMIT) for one in gates.log_alpha.values())


def test_ties_close_from_the_end():
    assert highest(torch.zeros(5), 3).tolist() == [True, True, True, False, False]
    assert expected_kept(torch.full((10,), 4.605)) == 10


def test_the_goal_rises_over_the_ramp():
    assert [goal_at(step, start=0.1, target=0.5, ramp=4) for step in (0, 2, 4, 9)] == pytest.approx(
        [0.1, 0.3, 0.5, 0.5]
    )
    assert goal_at(0, start=0.1, target=0.5, ramp=0) == 0.5


def test_gates_that_choose_nothing_cannot_be_fused():
    class Constant(GateSource):
        def sample(self, *, generator: torch.Generator):
            raise AssertionError

    with pytest.raises(RecipeError, match=r"gates\.kind=hard_concrete"):
        Constant(GateConfig(kind="mine"), network()).settle()
