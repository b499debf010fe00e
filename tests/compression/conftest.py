"""The data set and the recipe of the tests of training."""

from ..training.conftest import recipe_file, small_recipe, squares  # noqa: F401
