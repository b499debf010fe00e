"""Settings of a metric: defaults, faults, and what counts as the same measurement."""

import pytest

from frugalclip.comparison.metrics import MetricConfig
from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError


def test_the_first_metric_of_a_task_is_the_default():
    assert MetricConfig.model_validate({}).metric == "top1"
    assert MetricConfig.model_validate({"task": "retrieval"}).metric == "t2i_r1"
    assert MetricConfig.model_validate({"pool": "all"}).name == "generalised_top1"


def test_a_description_does_not_change_what_is_measured():
    plain = MetricConfig.model_validate({"metric": "top5"})
    described = plain.model_copy(update={"description": "x", "primary": True, "where": "split=test"})
    assert described.content() == plain.content()
    assert plain.model_copy(update={"group": "family"}).content() != plain.content()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "top11"}, "metric top11 is not one of zeroshot; did you mean 'top1'"),
        ({"task": "retrieval", "pool": "all"}, "pool: all belongs to zeroshot"),
        ({"metrc": "top1"}, "did you mean 'metric'"),
    ],
)
def test_a_wrong_setting_says_what_to_set(settings, message):
    with pytest.raises(RecipeError, match=message):
        validated(MetricConfig, settings, where="metrics.unseen")
