"""The end of a fine-tuning: the model of the run is the one between start and end that keeps the guard."""

from dataclasses import replace

import numpy as np

from frugalclip.adaptation.curve import CurveData, WeightCurve, measure_curve
from frugalclip.adaptation.interpolate import check_alike, merged_model
from frugalclip.adaptation.normalisation import batch_norms
from frugalclip.core import distributed
from frugalclip.core.random import uniform
from frugalclip.core.records import RunDirectory, publish_folder
from frugalclip.core.types import ImageInput
from frugalclip.data.manifest import Manifest
from frugalclip.models import Model, load
from frugalclip.training.recipe import Recipe
from frugalclip.training.run import TrainingResult

_STATISTICS = 512  # images that statistics of batch normalisation are collected on


def settle(result: TrainingResult, recipe: Recipe) -> tuple[TrainingResult, WeightCurve]:
    """Choose the weights of a finished run between its start and its end, and write them.

    Args:
        result: of a run with a guard.
        recipe: that it was trained by.

    Returns:
        The result with the chosen model, and the curve. `checkpoints/final` of the run holds the model.

    Raises:
        ModelError: if the run ended with another architecture than it began with.
    """
    assert result.guard is not None and recipe.init_from is not None, "the recipe has a guard"
    start = merged_model(load(recipe.init_from, device=result.model.device))
    end = merged_model(result.model)
    check_alike({recipe.init_from: start, str(result.run): end})
    images = statistics_images(end, result.training)
    data = CurveData(result.guard.validator, result.validator, images)
    settings = recipe.guard
    curve, chosen = measure_curve(start, end, data, points=settings.points, max_loss=settings.max_loss)
    if distributed.is_main():
        with publish_folder(RunDirectory(result.run).final) as folder:
            chosen.save(folder)
    distributed.barrier()
    return replace(result, model=chosen), curve


def statistics_images(model: Model, training: Manifest) -> list[ImageInput]:
    """Batches of training images, as the image tower takes them; none for a tower without statistics."""
    if not batch_norms(model.network):
        return []
    order = np.argsort(uniform(0, "statistics", np.arange(len(training)), 1)[:, 0], kind="stable")
    chosen = training.take(np.sort(order[:_STATISTICS]))
    return [inputs for _, inputs in model.image_inputs(chosen, batch=128, faults=[])]
