"""Gates that a step samples: given to the towers, read by objectives, trained; open gates have no effect."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from frugalclip.compression.base import GateConfig, GateSource
from frugalclip.core.errors import RecipeError
from frugalclip.core.records import RunDirectory
from frugalclip.core.types import Gates, SampledGates
from frugalclip.sources.open import open_data
from frugalclip.training.engine import build_engine
from frugalclip.training.loop import Silent, train_run
from frugalclip.training.recipe import load_recipe
from frugalclip.training.step import Step

from .sums import SUMS, full_step, whole_batch


class Open(GateSource):
    """All gates of both towers open, nothing trained."""

    Config = GateConfig

    def __init__(self, config: Any, network: Any) -> None:
        super().__init__(config, network)
        self.sizes = {
            side: (tower.config.width, tower.config.heads, tower.config.neurons)
            for side, tower in (("image", network.image), ("text", network.text))
        }

    def sample(self, *, generator: torch.Generator) -> SampledGates:
        def ones(side: str) -> Gates:
            width, heads, neurons = self.sizes[side]
            return Gates(
                hidden=torch.ones(width),
                heads=tuple(map(torch.ones, heads)),
                neurons=tuple(map(torch.ones, neurons)),
                layers=torch.ones(len(heads), 2),
            )

        size = torch.ones(())
        return SampledGates(
            ones("image"), ones("text"), {"image": size, "text": size}, {"image": 1.0, "text": 1.0}
        )


def gradients(step: Step, *, micro_batch: int | None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    engine = build_engine(step, batch=16, micro_batch=micro_batch)
    loss = engine(whole_batch()).loss
    engine.backward(loss)
    return loss.detach(), {name: p.grad for name, p in step.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_open_gates_are_no_gates_bit_for_bit(micro_batch: int | None):
    (plain, of_plain), (gated, of_gated) = (
        gradients(with_gates(full_step(SUMS["slip"]), source), micro_batch=micro_batch)
        for source in (None, Open)
    )
    assert torch.equal(plain, gated) and of_plain.keys() == of_gated.keys()
    assert all(torch.equal(of_plain[name], of_gated[name]) for name in of_plain)


def with_gates(step: Step, source: type[GateSource] | None) -> Step:
    step.gates = None if source is None else source(GateConfig(kind="test"), step.network).double()
    return step


LAB = '''
"""Neurons of the image tower that are closed at random, and an objective that asks for a size."""

import torch
from torch import nn

from frugalclip.compression.base import GateConfig, GateSource
from frugalclip.core.types import Gates, SampledGates


class Config(GateConfig):
    start: float = 1.0


class Random(GateSource):
    Config = Config

    def __init__(self, config, network):
        super().__init__(config, network)
        neurons = network.config.image.neurons
        start = [torch.full((number,), config.start) for number in neurons]
        self.logits = nn.ParameterList([nn.Parameter(one) for one in start])

    def sample(self, *, generator):
        gates = []
        for logits in self.logits:
            noise = torch.rand(logits.shape, generator=generator, dtype=torch.float64).to(logits)
            gates.append(torch.sigmoid(logits + noise.logit(1e-6)))
        share = torch.cat([torch.sigmoid(logits) for logits in self.logits]).mean()
        return SampledGates(Gates(neurons=tuple(gates)), None, {"image": share}, {"image": 1.0})
'''
SIZE = '''
"""The size that gates leave, held at a goal by a multiplier that ascends."""

import torch
from torch import nn

from frugalclip.objectives.base import Needs, Objective, ObjectiveConfig, ObjectiveOutput


class Config(ObjectiveConfig):
    goal: float = 0.5


class Size(Objective):
    Config = Config

    def __init__(self, config, dims):
        super().__init__(config, dims)
        self.multiplier = nn.Parameter(torch.zeros(()))

    def needs(self):
        return Needs(gates=True)

    def ascending_parameters(self):
        return [self.multiplier]

    def forward(self, features):
        size = features.gates.expected_size["image"]
        excess = size - self.config.goal
        logs = {"size": size.detach(), "multiplier": self.multiplier.detach().clone()}
        return ObjectiveOutput(self.multiplier * excess + 10 * excess**2, logs)
'''


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gate_lab").mkdir()
    (tmp_path / "gate_lab" / "at_random.py").write_text(LAB)
    (tmp_path / "gate_lab" / "size.py").write_text(SIZE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("gate_lab", "gate_lab.at_random", "gate_lab.size"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)


GATED = {
    "gates": {"kind": "gate_lab.at_random", "start": 2.0},
    "objectives": {"contrastive": {"positives": "caption"}, "size": {"kind": "gate_lab.size"}},
    "optimizer": {"lr": 0.05, "groups": [{"match": "^network", "lr": 0.05}]},
}


class Killed(Silent):
    def row(self, row: dict[str, Any]) -> None:
        if row["step"] == 7:
            raise RuntimeError("killed")


@pytest.mark.parametrize("micro_batch", [4, pytest.param(None, marks=pytest.mark.slow)])
def test_gates_are_trained_a_multiplier_ascends_and_both_go_on(
    lab: None, recipe_file: Callable[..., str], tmp_path: Path, micro_batch: int | None
):
    recipe = load_recipe(recipe_file(**GATED, micro_batch=micro_batch, checkpoints={"every": 3, "keep": 9}))
    assert recipe.data.path is not None
    data, whole, cut = open_data(recipe.data.path), RunDirectory(tmp_path / "w"), RunDirectory(tmp_path / "c")
    train_run(recipe, data, whole)
    rows = list(whole.rows())
    assert rows[-1]["size/multiplier"] > rows[1]["size/multiplier"] > 0, "the size is above its goal"
    assert rows[-1]["size/size"] < rows[0]["size/size"] - 0.03
    with pytest.raises(RuntimeError, match="killed"):
        train_run(recipe, data, cut, listener=Killed())
    train_run(recipe, data, cut, resume=True)
    for name in ("model", "objectives", "gates", "optimizer"):
        one, two = ((run.checkpoint(12) / f"{name}.safetensors").read_bytes() for run in (whole, cut))
        assert one == two, name


def test_parts_of_a_batch_give_the_gradient_of_gates_that_the_whole_gives(
    lab: None, recipe_file: Callable[..., str]
):
    from frugalclip.compression.base import find_gates

    random = find_gates("gate_lab.at_random")
    found = []
    for micro_batch in (None, 5):
        step = full_step(SUMS["slip"])
        config = random.Config(kind="gate_lab.at_random")
        step.gates = random(config, step.network).double()
        found.append(gradients(step, micro_batch=micro_batch))
    assert any(name.startswith("gates.") and grad.abs().sum() > 0 for name, grad in found[0][1].items())
    torch.testing.assert_close(found[0], found[1], rtol=1e-8, atol=1e-12)


def test_an_objective_that_reads_gates_needs_some(lab: None, recipe_file: Callable[..., str], tmp_path: Path):
    recipe = load_recipe(recipe_file(objectives=GATED["objectives"]))
    assert recipe.data.path is not None
    with pytest.raises(
        RecipeError, match=r"objectives\.size reads gates, and the recipe has none; set gates"
    ):
        train_run(recipe, open_data(recipe.data.path), RunDirectory(tmp_path / "run"))


def test_gates_that_are_not_declared_are_not_handed_to_objectives():
    step = with_gates(full_step(SUMS["slip"]), Open)
    assert step(whole_batch()).features.gates is None
    assert isinstance(step.gates, nn.Module)
