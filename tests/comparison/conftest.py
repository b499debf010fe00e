"""Jobs and trials that were made up, and the data set and the recipe of the tests of training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frugalclip.comparison.jobs import Trial, TrialJob

from ..training.conftest import recipe_file, small_recipe, squares  # noqa: F401


@pytest.fixture(scope="session")
def make_trial() -> Callable[..., Trial]:
    """Makes a trial; settings of the job, `record` and `points` of the run."""

    def make(
        folder: Path = Path(), *, record: Any = None, points: Any = (), arm: str = "arm", **job: Any
    ) -> Trial:
        content = {"seed": 0, "seed_index": 0, "data": "/data.parquet", "train": "", "data_hash": ""} | job
        return Trial(TrialJob.model_validate({"arm": arm, **content}), folder, record, points)

    return make
