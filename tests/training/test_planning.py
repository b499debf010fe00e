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


def test_kept_patches_teachers_and_episodes_are_counted():
    found = {one.view: one for one in plan_recipe(load_recipe("aclip-efficient")).passes}
    assert {view: one.tokens for view, one in found.items()} == {"main@kept": 33, "second@kept": 33, "caption": 32, "ema:around": 17}
    assert not found["ema:around"].has_gradient and found["main@kept"].has_gradient
    views = [one.view for one in plan_recipe(load_recipe("protoclip")).passes if not one.has_gradient]
    assert sorted(views) == ["episode:caption", "episode:main"]


def test_declip_shares_two_image_and_two_text_passes():
    passes = plan_recipe(load_recipe("declip")).passes
    assert [(one.tower, one.view) for one in passes] == [("image", "main"), ("image", "second"), ("text", "augmented"), ("text", "caption@masked")]


@pytest.mark.parametrize("name", ["aclip-efficient", "declip", "protoclip"])
def test_a_sum_with_teachers_and_derived_views_is_probed(name: str):
    small = ["batch=8", "model.image.resolution=16", "model.image.depth=1", "model.text.depth=1", "model.image.patch=4"]
    more = ["views.around.size=8"] if name == "aclip-efficient" else []
    probe = plan_recipe(load_recipe(name, [*small, *more]), probe=True).probe
    assert probe is not None
    assert probe["samples_per_second"] > 0
