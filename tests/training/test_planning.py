"""What a recipe costs follows from its settings."""

import pytest

from frugalclip.training.planning import Plan, plan_recipe
from frugalclip.training.recipe import load_recipe


def planned(*overrides: str) -> Plan:
    return plan_recipe(load_recipe("clip", overrides))


def test_the_gradient_cache_trades_memory_for_a_third_more_arithmetic():
    whole, parts = planned("batch=4096"), planned("batch=4096", "micro_batch=256")
    assert parts.memory_gb["activations"] == pytest.approx(whole.memory_gb["activations"] / 16)
    assert parts.gflops_per_sample / whole.gflops_per_sample == pytest.approx((3 + 15 / 16) / 3)
    assert planned("batch=64", "micro_batch=64").gflops_per_sample == planned("batch=64").gflops_per_sample


def test_logits_stop_growing_where_tiles_begin():
    small, large, larger = (planned(f"batch={n}").memory_gb["logits"] for n in (1024, 8192, 65536))
    assert small == pytest.approx(6 * 4 * 1024**2 * 1e-9) and large == larger
