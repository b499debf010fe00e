from pathlib import Path

import pytest

from frugalclip.core.errors import RecipeError
from frugalclip.curation.base import known_stages
from frugalclip.curation.plan import read_plan, ready_plans


def written(folder: Path, text: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ready_plans())
def test_ready_plans_are_understood(name: str):
    plan = read_plan(name)
    assert plan.stages and plan.description
    assert plan.description.startswith("experimental"), (
        "until a record of planted duplicates shows its precision"
    )
    assert "near_captions" not in {planned.settings["stage"] for planned in plan.stages}


def test_stages_that_occur_twice_get_numbers(tmp_path: Path):
    path = written(tmp_path, "stages: [{stage: rules, min_words: 1}, {stage: rules, name: rules}]")
    assert [planned.name for planned in read_plan(path).stages] == ["rules", "rules-2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [{stage: exact_image}]", "did you mean 'exact_images'"),
        ("stages: [{stage: a/b}]", "beside the plan and set stage: ./a_b.py"),
        ("stages: [{stage: .mine}]", "write stage: ./mine.py for a file beside the plan, or stage: package"),
        ("stages: [{stage: no.module}]", "or write stage: ./module.py for a file beside the plan"),
        ("stages: [{stage: ./mine.py}]", "stage: ./NAME.py is a path from the plan's folder"),
        ("stages: [{stage: rules, min_wrods: 3}]", "did you mean 'min_words'"),
        ("stages: [{min_words: 3}]", "stages.0 names no stage"),
        ("stages: []", "stages"),
        ("stages: [{stage: rules, name: ../mine}]", "name"),
        ("stages: [{stage: exact_images, keep: clip_score}]", "which no earlier stage gives"),
        ("steps: []", "'stages'"),
    ],
)
def test_a_wrong_plan_says_what_to_write(tmp_path: Path, text: str, message: str):
    with pytest.raises(RecipeError, match=message):
        read_plan(written(tmp_path, text))


def test_a_plan_that_is_not_there_names_those_that_are():
    with pytest.raises(RecipeError, match="did you mean 'dedup'"):
        read_plan("dedupe")


def test_every_stage_says_what_its_reasons_mean():
    from frugalclip.curation.base import find_stage

    for name in known_stages():
        stage = find_stage(name)
        assert stage.reasons or stage.gives, name  # one that drops no row gives something
        assert all(meaning[0].islower() for meaning in stage.reasons.values()), name
        assert stage.Config.model_fields.keys() > {"stage", "name"}, name
