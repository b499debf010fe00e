"""The benchmark of compression: runs that are recorded one by one, shares of a teacher, and claims."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugalclip.compression.sizes import network_size
from frugalclip.sources.open import open_data
from frugalclip.training.recipe import validate_recipe


def student(modules: Any, teacher: Any, data: Path, place: Path, *arm: Any, **more: Any) -> Any:
    own = modules.compress_arms.Arm(*arm)
    recipe = modules.compress_arms.student_recipe(own, teacher, samples=80, rate=1e-3)
    metric = modules._runs.Metric("split=test", "retrieval")
    return modules._runs.Run(
        arm=own.name,
        seed=0,
        recipe=recipe,
        data=str(data),
        train="split=train",
        folder=place / own.name,
        record=place / f"{own.name}.json",
        metrics={"mrr": metric},
        validation=metric,
        points=5,
        **more,
    )


def test_every_arm_is_a_recipe_that_differs_in_start_and_loss_only(modules: Any, teacher: Any):
    arms = [*modules.compress_arms.HALF, *modules.compress_arms.SMALLER]
    recipes = [
        validate_recipe(modules.compress_arms.student_recipe(arm, teacher, samples=80, rate=1e-3))
        for arm in arms
    ]
    assert len({arm.name for arm in arms}) == len(arms) == 15
    assert {(r.batch, r.samples, r.optimizer.lr, r.views["main"].crop_scale) for r in recipes} == {
        (8, 80, 1e-3, (1, 1))
    }
    for arm, recipe in zip(arms, recipes, strict=True):
        terms = {
            name for number in range(len(recipe.stages) or 1) for name in recipe.stage(number).objectives
        }
        loss = {"infonce": "contrastive", "affinity": "affinity", "features": "feature_matching"}[arm.loss]
        assert terms == {loss} | ({"sparsity"} if "auto" in arm.start else set())
        assert (recipe.init_from is None) == (arm.start == "random")
        assert arm.tuned_as in {one.family for one in modules.compress_arms.HALF}


@pytest.mark.parametrize(
    "arm",
    [
        ("random", "features", 0.5),
        ("inherited", "affinity", 0.25),
        ("auto", "affinity", 0.5),
        ("whole", "infonce", 1.0),
    ],
)
def test_a_run_is_recorded_once_and_goes_on_where_it_was_killed(
    modules: Any, teacher: Any, data: Path, tmp_path: Path, arm: Any
):
    run = student(modules, teacher, data, tmp_path, *arm)
    found = modules._runs.finish(run)
    assert found == modules._runs.run_all([run], jobs=1)[0]  # nothing is trained again
    assert found["size"]["towers"] / network_size(teacher.model.network)["towers"] == pytest.approx(
        arm[2], abs=0.03
    )
    assert len(found["metrics"]["mrr"]["values"]) == 8
    assert [point["step"] for point in found["curve"]] == (
        [4, 6, 8, 10] if arm[0] == "auto" else [2, 4, 6, 8, 10]
    )
    assert found["curve"][-1]["value"] == pytest.approx(found["metrics"]["mrr"]["mean"], abs=1e-3)
    assert run.is_done and not dataclasses.replace(run, teacher="another").is_done
    run.record.unlink()
    again = modules._runs.finish(run)  # the checkpoint of the last step is there
    assert again["metrics"] == found["metrics"]


def records(arm: str, values: Any, *, curve: Any = ()) -> list[dict[str, Any]]:
    """Records of several seeds with outcomes (runs, samples)."""
    size = {"towers": 1, "parameters": {"token_embedding": 0}, "gflops": {"image": 1.0, "text": 0.0}}
    return [
        {
            "arm": arm,
            "seed": seed,
            "steps": 100,
            "size": size,
            "curve": list(curve),
            "metrics": {"mrr": {"mean": float(100 * np.mean(own)), "values": list(own)}},
        }
        for seed, own in enumerate(values)
    ]


def test_a_share_of_the_teacher_has_the_interval_of_the_paired_difference(modules: Any):
    rng = np.random.default_rng(0)
    whole = rng.uniform(0.2, 1, 400)
    own = 0.96 * whole + rng.normal(0, 0.02, (3, 400))
    blocks = modules._runs.block(records("50-a", own), "50-a", "mrr")
    reference = modules._runs.block(records("teacher", [whole]), "teacher", "mrr")
    share = modules._runs.share_of(blocks, modules._runs.beside(reference, blocks))
    assert share.value == pytest.approx(96, abs=0.3)
    assert 95 < share.interval[0] < share.value < share.interval[1] < 97


def test_claims_are_confirmed_refuted_or_open(modules: Any):
    rng = np.random.default_rng(1)
    level = {"50-inherited-affinity": 0.6, "50-random-infonce": 0.5, "50-random-affinity": 0.7}
    blocks = {
        arm: modules._runs.block(records(arm, mean + rng.normal(0, 0.02, (3, 300))), arm, "mrr")
        for arm, mean in level.items()
    } | {
        "50-random-features": modules._runs.block(
            records("50-random-features", blocks_noise(rng)), "50-random-features", "mrr"
        )
    }
    found = {what: one["verdict"] for what, one in modules.compress.claims(blocks).items()}
    assert found == {
        "inheritance and affinity above drawn weights and InfoNCE": "confirmed",
        "inheritance above drawn weights, both by affinity": "refuted",
        "affinity above InfoNCE, both drawn": "confirmed",
        "affinity above the teacher's embeddings, both drawn": "not distinguishable",
        "inheritance and affinity above the teacher's embeddings": "refuted",
    }


def blocks_noise(rng: np.random.Generator) -> np.ndarray:
    return 0.7 + rng.normal(0, 0.02, (3, 300))


def test_a_value_is_reached_on_the_line_between_points(modules: Any):
    curve = [{"step": 10, "value": 20.0}, {"step": 20, "value": 40.0}, {"step": 30, "value": 30.0}]
    assert [modules._runs.reached(curve, target) for target in (10, 30, 40, 41)] == [5, 15, 20, None]


def test_fewer_steps_are_counted_with_and_without_the_teacher(modules: Any):
    slow = [{"step": 100, "value": 40.0}]
    fast = [{"step": 25, "value": 40.0}, {"step": 100, "value": 60.0}]
    values = np.full((2, 4), 0.5)
    runs = records("50-random-infonce", values, curve=slow) + records(
        "50-random-affinity", values, curve=fast
    )
    found = modules.compress.sooner(
        runs, records("teacher", [values[0]])[0] | {"size": {"gflops": {"image": 2.0}}}
    )
    assert found == {"50-random-affinity": {"steps": 4.0, "arithmetic": 4.0, "with teacher": 2.4}}


def test_records_become_sections_of_the_results_page(modules: Any):
    """Every arm has a row, every claim its verdict, every goal what was reached."""
    rng = np.random.default_rng(2)
    arms = ["50-random-infonce", "50-inherited-affinity", "25-staged-auto-affinity"]
    curve = [{"step": 50, "value": 40.0}, {"step": 100, "value": 60.0}]
    runs = [one for arm in arms for one in records(arm, 0.5 + rng.normal(0, 0.02, (3, 100)), curve=curve)]
    whole = records("teacher", [np.full(100, 0.6)])[0]
    metrics = {"mrr": modules.compress.summary(runs, whole, "mrr")}
    scenes = {
        "metrics": metrics,
        **metrics["mrr"],
        "sooner": modules.compress.sooner(runs, whole),
        "samples": {"teacher": 2000, "student": 1000},
        "baselines": {"mrr": {"chance": 0.4, "pixel_nn_1": 3.0}},
    }
    rates = {"random-infonce": {"tried": {"0.001": 1.0}, "rate": 0.001}}
    found = {"scenes": scenes, "seeds": 3, "rates": rates}
    found["goals"] = modules.compress.goals(found)
    page = "\n".join(modules.compress_page.compress(found))
    for arm in arms:
        assert page.count(f"| {modules.compress_page.arm_in_words(arm)} |") == 1 + (arm == arms[1])
    assert "25 %, learned gates, over 75 and 50 %, affinity" in page
    assert "50-inherited-affinity: percent of the teacher | 95 |" in page and "**not reached**" in page
    assert "random + infonce 0.001 (of 0.001)" in page and "| *pixel nn 1* | – | 3.0 | – |" in page


def test_baselines_copy_the_captions_of_the_nearest_pictures(modules: Any, data: Path):
    everything = open_data(str(data))
    metric = modules._runs.Metric("split=test", "retrieval")
    found = modules._runs.baselines(everything, "split=train", metric)
    assert found["chance"] == pytest.approx(100 * sum(1 / n for n in range(1, 9)) / 8)
    assert set(found) == {"chance", "pixel_nn_1", "pixel_nn_10", "feature_nn_1", "feature_nn_10"}
    assert all(100 / 8 <= value <= 100 for value in found.values())
