"""Starting from a model that exists: its towers, tokenizer and preprocessing take the place of what the recipe describes."""

from pathlib import Path

from frugalclip.core.errors import ModelError
from frugalclip.models import Model, load
from frugalclip.training.recipe import Recipe

OWN = {
    "scale_min",
    "scale_max",
    "learn_scale",
}  # of the recipe's model section, which stay: how to train the scale, and no weight


def started_from(recipe: Recipe, *, going_on: Path | None = None) -> tuple[Recipe, Model | None]:
    """The recipe with the sizes of the model that it starts from.

    Args:
        recipe: with or without `init_from`.
        going_on: checkpoint of a run that is resumed; the model it began with is then not needed any more.

    Returns:
        The recipe to train, and the model; the recipe as it is, and None, where it starts from nothing.

    Raises:
        ModelError: where there is no model at `init_from`.
    """
    if recipe.init_from is None:
        return recipe, None
    try:
        model = load(going_on or recipe.init_from)
    except ModelError as error:
        raise ModelError(f"init_from: {error}") from error
    if model.reads == "images":
        raise ModelError(
            f"init_from: {recipe.init_from} is an encoder of pictures alone; set model.image.kind=pretrained model.image.from={recipe.init_from}."
        )
    own = recipe.model.model_dump(include=OWN)
    network = model.network
    network.config = network.config.model_copy(update=own)
    network.log_scale.requires_grad_(network.config.learn_scale)
    return recipe.model_copy(update={"model": network.config, "preprocess": model.preprocess}), model
