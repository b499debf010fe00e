"""A stage of a run: network, objectives, teachers, optimiser, schedule and engine.

A run is a list of stages, usually one. A stage is built from its recipe and a network (`training.build`), and it can be built again: everything
that it changes while it trains stands in the checkpoint.
"""

import math
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import nn

from frugalclip.core.errors import TrainingError
from frugalclip.core.types import Batch
from frugalclip.teachers import Teacher
from frugalclip.towers.dual import DualEncoder
from frugalclip.training.engine import Engine, build_engine
from frugalclip.training.optim import build_optimizer, learning_rates, set_learning_rate
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
        module: the training computation: network, objectives and teachers.
        span: the steps of the run that belong to this stage.
    """

    def __init__(self, recipe: Recipe, module: Step, *, span: range) -> None:
        self.recipe, self.module, self.span = recipe, module, span
        self.optimizer = build_optimizer(module.named_parameters(), recipe.optimizer)
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
        self.module.move_to(done / len(self.span))
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
        self.engine.backward(self.scaler.scale(result.loss))
        if self.recipe.optimizer.clip is not None:
            self.scaler.unscale_(self.optimizer)
            clip_gradients(self.module, self.recipe.optimizer.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.module.after_step(result.views)
        return result

    def saved_teachers(self) -> nn.Module:
        """The teachers whose weights exist nowhere else."""
        teachers = cast("dict[str, Teacher]", dict(self.module.teachers.items()))
        return nn.ModuleDict({name: teacher for name, teacher in teachers.items() if teacher.is_saved()})
