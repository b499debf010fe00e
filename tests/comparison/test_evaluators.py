"""An evaluator keeps the outcome of every sample, and the outcomes average to the metric."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from frugalclip.comparison.evaluators import metric_evaluator
from frugalclip.comparison.metrics import METRICS, MetricConfig
from frugalclip.core.config import validated
from frugalclip.data.manifest import image_places, make_manifest
from frugalclip.evaluation.retrieval import evaluate_retrieval
from frugalclip.evaluation.zeroshot import evaluate_zeroshot

NAMES = ["red", "green", "blue", "red", "grey", "green", "red", "white"]


class Fixed:
    """Features that are a function of the name, with noise of the id."""

    fingerprint = "fixed"
    preprocess = SimpleNamespace(model_dump=lambda mode: {})

    def encode_text(self, texts):
        return torch.stack(
            [torch.from_numpy(np.random.default_rng(sum(map(ord, t))).normal(size=6)).float() for t in texts]
        )

    def image_features(self, manifest):
        noise = np.random.default_rng(5).normal(size=(len(manifest), 6)) * 1.5
        features = self.encode_text([c[0] for c in manifest.captions()]) + torch.from_numpy(noise).float()
        kept = [i for i, name in enumerate(manifest.ids) if name != "i3"]
        faults = [(i, "truncated") for i in range(len(manifest)) if i not in kept]
        return SimpleNamespace(features=features[kept], rows=np.array(kept), faults=faults)


@pytest.fixture
def rows(tmp_path):
    return make_manifest(
        ids=[f"i{i}" for i in range(len(NAMES))],
        images=image_places([f"{i}.png" for i in range(len(NAMES))]),
        captions=[[name] for name in NAMES],
        fields={
            "family": ["warm", "cold", "cold", "warm", None, "cold", "warm", None],
            "tags": [["x", n] for n in NAMES],
        },
        root=tmp_path,
        name="rows",
    )


@pytest.mark.parametrize(
    ("task", "pool"), [("zeroshot", "restricted"), ("zeroshot", "all"), ("retrieval", "restricted")]
)
@pytest.mark.parametrize("chosen", [[0, 1, 2, 5, 6], [0, 1, 3, 5, 6]])  # the picture of i3 cannot be read
def test_the_outcomes_average_to_the_metric_of_the_evaluation(task, pool, chosen, rows):
    evaluated = rows.take(chosen)
    whole = (
        evaluate_zeroshot(Fixed(), evaluated, rows)
        if task == "zeroshot"
        else evaluate_retrieval(Fixed(), evaluated)
    )
    for metric in METRICS[task]:
        config = validated(MetricConfig, {"task": task, "metric": metric, "pool": pool}, where="")
        evaluator = metric_evaluator(config, evaluated, rows)
        found = evaluator.evaluate(Fixed())
        assert found.value == pytest.approx(whole["metrics"][config.name], abs=1e-6)
        assert found.value == pytest.approx(100 * np.average(found.hits, weights=found.weights))
        assert evaluator.chance() == pytest.approx(whole["chance"][config.name], abs=1e-6) or 3 in chosen


def test_several_right_names_a_row_still_average_to_the_mean_over_classes(rows):
    config = validated(MetricConfig, {"metric": "mean_per_class", "label_field": "tags"}, where="")
    whole = evaluate_zeroshot(Fixed(), rows, label_field="tags")
    value = metric_evaluator(config, rows).evaluate(Fixed()).value
    assert value == pytest.approx(whole["metrics"]["mean_per_class"], abs=1e-6)


def test_samples_have_their_group_and_a_null_is_a_group_of_its_own(rows):
    found = metric_evaluator(MetricConfig(group="family", metric="top1"), rows).evaluate(Fixed())
    assert dict(zip(found.ids, found.groups, strict=True)) == {
        "i0": "warm", "i1": "cold", "i2": "cold", "i4": "id i4", "i5": "cold", "i6": "warm", "i7": "id i7",
    }  # fmt: skip
    config = MetricConfig(task="retrieval", metric="t2i_r1", group="family")
    captions = metric_evaluator(config, rows).evaluate(Fixed())
    assert dict(zip(captions.ids, captions.groups, strict=True))["red"] == "warm"
