"""Weights between models: a point between two of one architecture, or the mean of several.

Source: WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903, equation 1 (weight-space ensembles of the start and
the end of fine-tuning); model soups, Wortsman et al. 2022, arXiv 2203.05482, sections 2.1 and 2.2.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from frugalclip.core.errors import ModelError
from frugalclip.models import Model
from frugalclip.towers.dual import merged_network


def merged_model(model: Model) -> Model:
    """The model with its low-rank additions as part of the weights; the model itself where it has none."""
    if model.network.config.lora is None:
        return model
    parts = merged_network(model.network), model.tokenizer, model.preprocess
    result = Model(*parts, training_data=model.training_data, origin=model.origin, device=model.device)
    result.lexicon = model.lexicon
    return result


def check_alike(models: Mapping[str, Model]) -> None:
    """Refuse models whose weights do not mean the same.

    Args:
        models: by name, two at least; none with low-rank additions.

    Raises:
        ModelError: naming the first difference.
    """
    (first, one), *others = models.items()
    for name, other in others:
        if difference := _difference(one, other):
            raise ModelError(
                f"{first} and {name} have no weights in between: {difference}; give two models of one "
                "architecture, such as a model and what it was fine-tuned to."
            )


def _difference(one: Model, other: Model) -> str | None:
    """What keeps two models from being mixed, in words; None for nothing."""
    if one.tokenizer.fingerprint() != other.tokenizer.fingerprint():
        return "their tokenizers differ"
    own, its = (model.network.state_dict() for model in (one, other))
    for name in sorted(own.keys() | its.keys()):
        shapes = [tuple(state[name].shape) if name in state else None for state in (own, its)]
        if shapes[0] != shapes[1]:
            return f"'{name}' has the shapes {' and '.join(str(shape or 'none') for shape in shapes)}"
    if one.preprocess != other.preprocess:
        return "their preprocessing differs"
    first, second = (_computation(model) for model in (one, other))
    names = [name for name in first if first[name] != second.get(name)]
    return f"model.{names[0]} differs" if names else None


def _computation(model: Model) -> dict[str, object]:
    """Settings of a model that weights alone do not show; those of the scale are no part of it."""
    config = model.network.config
    sides = {"image": config.image, "text": config.text}
    return {
        f"{side}.{name}": value
        for side, tower in sides.items()
        for name, value in tower.model_dump(mode="json", by_alias=True).items()
    }


def mixed_state(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of states of one architecture.

    Args:
        states: tensors by name, two at least.
        weights: of each; they add up to 1. A weight of 1 gives that state, bit for bit.

    Returns:
        Tensors of the types of the first state; whole numbers are those of the heaviest state.
    """
    heaviest = max(range(len(states)), key=lambda place: weights[place])
    if weights[heaviest] == 1:
        return {name: tensor.clone() for name, tensor in states[heaviest].items()}
    mixed: dict[str, Tensor] = {}
    for name, tensor in states[0].items():
        if not tensor.is_floating_point():
            mixed[name] = states[heaviest][name].clone()
            continue
        first = tensor.double()
        total = first.clone()  # differences, so that what is equal in all stays as it is
        for state, weight in zip(states[1:], weights[1:], strict=True):
            total += weight * (state[name].double() - first)
        mixed[name] = total.to(tensor.dtype)
    return mixed


def mixed_model(models: Sequence[Model], weights: Sequence[float]) -> Model:
    """A model whose weights are the weighted mean of those of models that `check_alike` takes.

    The first one gives tokenizer, preprocessing and settings.
    """
    states = [{name: t.detach() for name, t in model.network.state_dict().items()} for model in models]
    result = copy.copy(models[0])
    result.network = copy.deepcopy(models[0].network)
    result.network.load_state_dict(mixed_state(states, weights))
    return result


def greedy_soup(models: Sequence[Model], value: Callable[[Model], float]) -> tuple[list[int], Model]:
    """The mean of those models that help: best first, each is kept if the mean does not get worse.

    Args:
        models: that `check_alike` takes.
        value: of a model on held-out data, higher is better.

    Returns:
        Places of the models that are in the mean, best first, and the mean.
    """
    values = [value(model) for model in models]
    order = sorted(range(len(models)), key=lambda place: (-values[place], place))
    kept, best, reached = [order[0]], models[order[0]], values[order[0]]
    for place in order[1:]:
        trial = [*kept, place]
        mean = mixed_model([models[i] for i in trial], [1 / len(trial)] * len(trial))
        if (found := value(mean)) >= reached:
            kept, best, reached = trial, mean, found
    return kept, best


@torch.no_grad()
def distance(one: Model, other: Model) -> float:
    """The Euclidean distance of two models' weights over the length of the first."""
    own, its = (dict(model.network.named_parameters()) for model in (one, other))
    apart = sum(float((own[name] - its[name]).square().sum()) for name in own)
    length = sum(float(tensor.square().sum()) for tensor in own.values())
    return (apart / max(length, 1e-30)) ** 0.5
