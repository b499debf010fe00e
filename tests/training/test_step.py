"""What a step needs, refused by the plan as by the run."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frugalclip.core.errors import RecipeError, TrainingError
from frugalclip.core.records import RunDirectory
from frugalclip.objectives.base import ObjectiveConfig
from frugalclip.sources.open import open_data
from frugalclip.training.loop import train_run
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import load_recipe, validate_recipe
from frugalclip.training.run import open_run
from frugalclip.training.step import check_active


def test_a_text_with_changed_words_needs_no_reader_of_its_source(
    small_recipe: dict[str, Any], squares: Path, tmp_path: Path
):
    texts = {"caption": {}, "augmented": {"of": "caption", "augment": {}}}
    content = small_recipe | {
        "texts": texts,
        "objectives": {"contrastive": {"text": "augmented"}},
        "steps": 2,
        "batch": 8,
    }
    recipe = validate_recipe(content)
    assert plan_recipe(recipe).passes
    result = train_run(recipe, open_data(squares), RunDirectory(tmp_path / "run"))
    assert result.is_finished


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ({"augmented": {"of": "caption"}}, "texts.caption is read by an objective but not in the recipe"),
        (
            {"caption": {"of": "other"}, "other": {}, "augmented": {"of": "caption"}},
            "texts.augmented.of names 'caption', expected a text view that draws its own text; Known: other.",
        ),
        (
            {"augmented": {"of": "augmented"}},
            "texts.augmented.of names 'augmented', expected a text view that",
        ),
    ],
)
def test_a_source_that_is_none_is_refused_by_the_plan(
    texts: dict[str, Any], sentence: str, small_recipe: dict[str, Any]
):
    content = small_recipe | {"texts": texts, "objectives": {"contrastive": {"text": "augmented"}}}
    with pytest.raises(RecipeError) as error:
        plan_recipe(validate_recipe(content))
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("during", "steps", "step"),
    [
        ({"contrastive": [0.5, 1]}, 20, "step 1 of 20"),
        ({"contrastive": [0, 0.5]}, 20, "step 11 of 20"),
        ({"contrastive": [0, 0.4], "sigmoid": [0.6, 1]}, 10, "step 5 of 10"),
        ({"contrastive": [0, 0.41], "sigmoid": [0.45, 1]}, 10, ""),  # no step lies in between
        ({"contrastive": [0, 0.4], "sigmoid": [0.45, 1]}, 100, "step 41 of 100"),
        ({"contrastive": [0, 0.5], "sigmoid": [0.5, 1]}, 7, ""),
        ({"contrastive": [0, 0.9], "sigmoid": [0.2, 0.3]}, 10, "step 10 of 10"),
        ({"contrastive": [0, 1 / 3], "sigmoid": [1 / 3, 1]}, 3, ""),
    ],
)
def test_a_step_without_an_objective_is_refused_by_the_plan(
    during: dict[str, Any], steps: int, step: str, small_recipe: dict[str, Any]
):
    objectives = {name: {"during": span} for name, span in during.items()}
    recipe = validate_recipe(small_recipe | {"objectives": objectives, "steps": steps})
    if not step:
        assert plan_recipe(recipe).steps == steps
        return
    with pytest.raises(RecipeError, match=f"no objective has a loss in {step}, and there is nothing"):
        plan_recipe(recipe)


def test_the_steps_that_are_refused_are_those_in_which_nothing_counts(small_recipe: dict[str, Any]):
    draw = random.Random(0)
    for _ in range(300):
        spans = [sorted(draw.choices([k / 12 for k in range(13)], k=2)) for _ in range(draw.randint(1, 4))]
        spans = [(a, b) for a, b in spans if a < b] or [(0.0, 1.0)]
        steps = draw.randint(1, 40)
        objectives = {
            str(i): SimpleNamespace(has_loss=True, config=ObjectiveConfig(during=span))
            for i, span in enumerate(spans)
        }
        counts = [any(one.config.counts_at(k / steps) for one in objectives.values()) for k in range(steps)]
        try:
            check_active(objectives, steps=steps)
            refused = ""
        except RecipeError as error:
            refused = str(error)
        assert (f"in step {counts.index(False) + 1:,} of" in refused) if not all(counts) else not refused


def test_an_objective_that_only_makes_views_does_not_count():
    without = [f"objectives.{name}=" for name in ("multiview", "simclr", "byol")]
    with pytest.raises(RecipeError, match=r"no objective has a loss in step 1 of .*: none of them ever has"):
        plan_recipe(load_recipe("aclip", without))


def test_a_teacher_that_is_not_there_is_refused_by_the_plan(small_recipe: dict[str, Any]):
    objectives = {"contrastive": {}, "byol": {"teacher": "emma", "images": ["main"], "target": "main"}}
    with pytest.raises(RecipeError, match=r"teachers\.emma is read by an objective but not in the recipe"):
        plan_recipe(validate_recipe(small_recipe | {"objectives": objectives}))


def test_a_step_in_which_nothing_is_trained_is_a_sentence(
    small_recipe: dict[str, Any], squares: Path, tmp_path: Path
):
    content = small_recipe | {"steps": 2, "batch": 8, "objectives": {"contrastive": {}}}
    run = open_run(validate_recipe(content), open_data(squares), RunDirectory(tmp_path / "run"))
    run.model.network.requires_grad_(False)
    with pytest.raises(TrainingError, match="step 1 trains nothing: every objective that counts in it reads"):
        run.train_step()
