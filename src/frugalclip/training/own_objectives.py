"""Calls of objectives, with a sentence for what goes wrong in one of the user's own.

Code of this package is called as it is. Code of the user's own is named with its file and line when it fails,
and what it gives is compared with what the step expects.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from frugalclip.core import distributed
from frugalclip.core.errors import PluginError
from frugalclip.core.plugins import calling, file_of, is_ours
from frugalclip.core.types import Batch, Dims, Features, Needs, Selection
from frugalclip.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput

_OUTPUT = "ObjectiveOutput(loss, logs={}) with a loss of shape ()"


def build_objective(name: str, kind: type[Objective], config: ObjectiveConfig, dims: Dims) -> Objective:
    """An objective, whose declarations are checked.

    Raises:
        PluginError: if it is the user's own and cannot be built, or declares something else than names.
    """
    if is_ours(kind):
        return kind(config, dims)
    built = calling(f"objectives.{name}: {kind.__name__}(config, dims)", kind, config, dims)
    if "_parameters" not in vars(built) or getattr(built, "config", None) is not config:
        raise _wrong(
            name, built, "__init__() does not call super().__init__(config, dims)", "that call first"
        )
    needs = calling(f"objectives.{name}: needs()", built.needs)
    if not isinstance(needs, Needs):
        raise _wrong(
            name, built, f"needs() gives {_kind_of(needs)}", "Needs(images=frozenset({'main'}), ...)"
        )
    for field in fields(needs):
        value = getattr(needs, field.name)
        if not isinstance(value, bool) and not _is_set_of_names(value):
            found = f"needs().{field.name} is {value!r}"
            raise _wrong(name, built, found, "a frozenset of names, such as frozenset({'main'})")
    for method in (built.makes, built.kept_patches, built.ascending_parameters):
        calling(f"objectives.{name}: {method.__name__}()", method)
    return built


def score(name: str, objective: Objective, features: Features) -> ObjectiveOutput:
    """What an objective makes of the features.

    Raises:
        PluginError: if it is the user's own and fails, or gives something else than a loss and logs.
    """
    if is_ours(objective):
        return objective(features)
    needs = objective.needs()
    hint = f"needs() names the images {_listed(needs.images)} and the texts {_listed(needs.texts)}"
    output = calling(f"objectives.{name}: forward()", objective, features, hint=hint)
    _check_output(name, objective, output)
    return output


def prepare(
    name: str, objective: Objective, batch: Batch, targets: Mapping[str, Features]
) -> dict[str, Selection]:
    """The derived views that an objective makes of a batch.

    Raises:
        PluginError: if it is the user's own and fails, or makes other views than it declares.
    """
    if is_ours(objective):
        return objective.prepare(batch, targets)
    made = calling(f"objectives.{name}: prepare()", objective.prepare, batch, targets)
    if not isinstance(made, dict) or set(made) != set(objective.makes()):
        found = f"prepare() gives {sorted(made) if isinstance(made, dict) else _kind_of(made)}"
        raise _wrong(
            name, objective, found, f"a dict with the views of makes(), {_listed(objective.makes())}"
        )
    return made


def call(name: str, objective: Objective, method: str, *arguments: Any) -> None:
    """Call a method of an objective that gives nothing, such as `after_step`.

    Raises:
        PluginError: if it is the user's own and fails.
    """
    function = getattr(objective, method)
    if is_ours(objective):
        function(*arguments)
    else:
        calling(f"objectives.{name}: {method}()", function, *arguments)


def check_log(name: str, objective: Objective, log: str) -> None:
    """Refuse a log that is not finite, if the objective is the user's own.

    Raises:
        PluginError: naming the log.
    """
    if not is_ours(objective):
        raise _wrong(name, objective, f"logs['{log}'] is not finite", "a number, or no such log in that step")


@contextmanager
def explained_gradients(objectives: Mapping[str, Objective]) -> Iterator[None]:
    """Name the objectives of the user's own when gradients cannot be computed.

    Raises:
        PluginError: for torch's error, on a single process, if there are any.
    """
    try:
        yield
    except RuntimeError as error:
        own = [name for name, objective in objectives.items() if not is_ours(objective)]
        if not own or distributed.is_active() or isinstance(error, torch.OutOfMemoryError):
            raise
        raise PluginError(
            f"the gradients of the loss failed: {' '.join(str(error).split())[:300]}. Objectives of your "
            f"own: {', '.join(own)}; look for changes in place, and for tensors that are kept between steps "
            "without detach()."
        ) from error


def _check_output(name: str, objective: Objective, output: Any) -> None:
    if not isinstance(output, ObjectiveOutput):
        raise _wrong(name, objective, f"forward() gives {_kind_of(output)}", _OUTPUT)
    loss, logs = output.loss, output.logs
    if not isinstance(loss, Tensor):
        raise _wrong(name, objective, f"the loss of forward() is {_kind_of(loss)}", _OUTPUT)
    if loss.ndim or not loss.is_floating_point():
        found = f"the loss of forward() has shape {tuple(loss.shape)} and type {loss.dtype}"
        raise _wrong(name, objective, found, "one real number, such as the mean over the batch")
    if torch.is_grad_enabled() and not loss.requires_grad and bool(loss.detach() != 0):
        found = "the loss of forward() is detached from the features, so nothing is trained by it"
        raise _wrong(
            name, objective, found, "a loss without detach(), item(), numpy() or no_grad() on its way"
        )
    for log, value in logs.items() if isinstance(logs, Mapping) else [("", None)]:
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
            found = f"logs[{log!r}] is {_kind_of(value)}{shape}" if log else f"logs is {_kind_of(logs)}"
            raise _wrong(name, objective, found, "a dict of tensors of shape (), such as loss.detach()")


def _wrong(name: str, objective: object, found: str, expected: str) -> PluginError:
    place = file_of(type(objective)) or type(objective).__module__
    return PluginError(f"objectives.{name} ({place}): {found}; expected {expected}.")


def _kind_of(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _is_set_of_names(value: object) -> bool:
    return isinstance(value, (set, frozenset)) and all(isinstance(one, str) for one in value)


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
