"""A stage of a run: network, objectives, teachers, gates, optimiser, schedule and engine.

A run is a list of stages, usually one. A stage is built from its recipe and a network (`training.build`), and
it can be built again: everything that it changes while it trains stands in the checkpoint.
"""

import math
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from frugalclip.core.errors import TrainingError
from frugalclip.core.types import Batch
from frugalclip.teachers import Teacher
from frugalclip.towers.dual import DualEncoder
from frugalclip.training.engine import Engine, build_engine
from frugalclip.training.optim import (
    build_optimizer,
    copy_moments,
    learning_rates,
    pull_towards,
    set_learning_rate,
)
from frugalclip.training.own_objectives import explained_gradients
from frugalclip.training.parallel import clip_gradients
from frugalclip.training.recipe import Recipe
from frugalclip.training.step import Step, StepResult


class LossError(TrainingError):
    """The loss of a step is not finite."""

    def __init__(self, value: float) -> None:
        super().__init__(f"the loss is {value}")
        self.value = value


class Stage:
    """One stage of a run, ready to train.

    Args:
        recipe: of this stage.
        module: the training computation: network, objectives, teachers and gates.
        span: the steps of the run that belong to this stage.
        number: of the stage in the run, from 0.
    """

    def __init__(self, recipe: Recipe, module: Step, *, span: range, number: int = 0) -> None:
        self.recipe, self.module, self.span, self.number = recipe, module, span, number
        self.optimizer = build_optimizer(
            module.named_parameters(), recipe.optimizer, ascending=module.ascending_parameters()
        )
        self.start: dict[str, Tensor] = {}  # weights that decay pulls to, where that is not zero
        if recipe.optimizer.decay_towards == "start":
            self.start = {
                name: parameter.detach().clone()
                for name, parameter in module.named_parameters()
                if name.startswith("network.") and parameter.requires_grad
            }
            # in front of the step itself, which fp16 leaves out where a gradient overflowed
            self.optimizer.register_step_pre_hook(lambda one, *_: pull_towards(self.start, one))
        steps = len(span)
        self.rates = {
            until: learning_rates(
                recipe.schedule, peak=recipe.optimizer.lr, steps=steps, end=round(until * steps)
            )
            for until in {1.0, *(group["until"] for group in self.optimizer.param_groups)}
        }
        self.engine: Engine = build_engine(module, batch=recipe.batch, micro_batch=recipe.micro_batch)
        self.scaler = torch.amp.GradScaler(enabled=module.precision == "fp16")
        self.episode = recipe.episode.steps(recipe.batch) if recipe.episode else 0  # steps

    @property
    def network(self) -> DualEncoder:
        """The towers that are trained."""
        return self.module.network

    def rate(self, step: int) -> float:
        """The learning rate of a step of the run, for groups without settings of their own."""
        return float(self.rates[1.0][step - self.span.start])

    def begin_step(self, step: int, *, batches: Callable[[int], Iterable[Batch]]) -> None:
        """Prepare a step: decide which objectives count, and at the start of an episode show them all of it.

        Args:
            step: of the run.
            batches: gives the next so many batches, with other views than training will see.
        """
        done = step - self.span.start
        self.module.move_to(done / len(self.span), number=step)
        if self.episode and done % self.episode == 0:
            ahead = min(self.episode, len(self.span) - done)
            self.module.begin_episode(lambda: batches(ahead))

    def update(self, batch: Batch, *, step: int) -> StepResult:
        """Train on one batch.

        Args:
            batch: on the device of the network.
            step: of the run.

        Raises:
            LossError: before anything is updated, if the loss is not finite.
            TrainingError: before anything is updated, if nothing that is trained has a share in the loss.
        """
        done = step - self.span.start
        set_learning_rate(
            self.optimizer, {until: float(values[done]) for until, values in self.rates.items()}
        )
        self.module.train()
        result = self.engine(batch)
        value = float(result.loss.detach())
        if not math.isfinite(value):
            raise LossError(value)
        if not result.loss.requires_grad:
            raise TrainingError(
                f"step {step + 1:,} trains nothing: every objective that counts in it reads frozen towers or "
                "fixed values only; train a tower, the scale or a head, or add another objective."
            )
        with explained_gradients(self.module.named_objectives()):
            self.engine.backward(self.scaler.scale(result.loss))
        if self.recipe.optimizer.clip is not None:
            self.scaler.unscale_(self.optimizer)
            clip_gradients(self.module, self.recipe.optimizer.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.module.after_step(result.features)
        return result

    def take_over(self, before: "Stage", *, has_same_network: bool) -> None:
        """Go on with the state of the stage before.

        An objective that goes on keeps its heads and queues where their shapes stay. On the same network,
        gates and averages of the student go on too, and so do the optimiser's moments if the `optimizer`
        section is the same; otherwise they start fresh.

        Args:
            before: the stage that has ended.
            has_same_network: whether the network did not change in between.
        """
        kept = _copy_states(before.module.objectives, self.module.objectives)
        if not has_same_network:
            return
        _copy_states(before.saved_teachers(), self.saved_teachers())
        gates = _copy_states(_gates_of(before.module), _gates_of(self.module))
        if before.recipe.optimizer == self.recipe.optimizer:
            prefixes = (
                "network.",
                *(f"objectives.{name}." for name in kept),
                *(f"{name}." for name in gates),
            )
            copy_moments(before.optimizer, self.optimizer, prefixes=prefixes)

    def saved_teachers(self) -> nn.Module:
        """The teachers whose weights exist nowhere else."""
        teachers = cast("dict[str, Teacher]", dict(self.module.teachers.items()))
        return nn.ModuleDict({name: teacher for name, teacher in teachers.items() if teacher.is_saved()})


def _gates_of(module: Step) -> nn.Module:
    return nn.ModuleDict({} if module.gates is None else {"gates": module.gates})


def _copy_states(before: nn.Module, after: nn.Module) -> list[str]:
    """Copy the states of children that have the same name, class and shapes in both; their names."""
    kept = []
    old = dict(before.named_children())
    for name, module in after.named_children():
        if name not in old or type(module) is not type(old[name]):
            continue
        state = old[name].state_dict()
        shapes = {key: value.shape for key, value in module.state_dict().items()}
        if shapes == {key: value.shape for key, value in state.items()}:
            module.load_state_dict(state)
            kept.append(name)
    return kept


def count_parameters(module: nn.Module, *, trained: bool = False) -> int:
    """Parameters of a module, or those that are trained; buffers and frozen backbones are none."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)
