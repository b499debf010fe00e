"""Random sums of objectives: what the plan accepts trains, and the promises of a sum hold for each."""

from pathlib import Path

import pytest

from frugalclip.core.errors import FrugalclipError
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import validate_recipe

from .random_sums import check, check_on_two, random_recipe, record, try_recipes, write_pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def is_accepted(seed: int) -> bool:
    try:
        plan_recipe(validate_recipe(random_recipe(seed)))
    except FrugalclipError:
        return False
    return True


@pytest.mark.parametrize("seed", range(1000, 1020))
def test_a_random_sum_keeps_what_every_sum_promises(seed: int, pairs: Path, tmp_path: Path):
    found = check(seed, pairs, tmp_path)
    assert found.verdict in ("ok", "refused"), found.detail


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 300, 10))
def test_three_hundred_random_sums_keep_it(first: int, pairs: Path, tmp_path: Path):
    found = [check(seed, pairs, tmp_path) for seed in range(first, first + 10)]
    assert not [one for one in found if one.verdict in ("crash", "difference")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_random_sums_are_the_same_on_two_processes(pairs: Path, tmp_path: Path):
    seeds = list(filter(is_accepted, range(2000, 2080)))[:50]
    assert len(seeds) == 50
    assert not {seed: text for seed, text in check_on_two(seeds, pairs, tmp_path).items() if text}


def test_most_random_recipes_are_accepted_and_every_objective_occurs():
    contents = [random_recipe(seed) for seed in range(200)]
    names = {name for content in contents for name in content["objectives"]}
    assert len(names) >= 15 and sum(map(is_accepted, range(40))) > 25


def test_a_record_counts_the_verdicts(tmp_path: Path):
    lines: list[str] = []
    verdicts = try_recipes(range(4, 5), two=0, folder=tmp_path, tell=lines.append)
    content = record(verdicts, seed=4, two=0)
    assert (content["number"], content["refused"], content["crash"]) == (1, 1, 0) and len(lines) == 1
    assert content["recipes"][0]["seed"] == 4 and "no objective has a loss" in content["recipes"][0]["detail"]
