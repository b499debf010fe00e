"""One table names the recipe for a size of data: its numbers are those of the records, pages follow it."""

import json
import math
from pathlib import Path

import pytest

from frugalclip.training import recommendation
from frugalclip.training.catalogue import recipe_entries
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import known_recipes, load_recipe
from frugalclip.training.recommendation import (
    PARTS,
    PRETRAINED,
    TABLE,
    advice,
    first_recipe,
    recommend,
    train_command,
    warning,
)

ROOT = Path(__file__).resolve().parents[2]


def record(name: str) -> dict:
    return json.loads((ROOT / "results" / name).read_text(encoding="utf-8"))


def test_every_size_has_one_row_and_every_row_a_recipe():
    assert [recommend(pairs).scratch for pairs in (1, 1_500, 10_000, 10_001, 500_000, 3_000_000, 10**9)] == [
        "frugal",
        "frugal",
        "frugal",
        "clip",
        "clip",
        "clip-cc3m",
        "clip-cc12m",
    ]
    assert [row.up_to for row in TABLE] == sorted(row.up_to for row in TABLE)
    assert math.isinf(TABLE[-1].up_to)
    assert {name for row in TABLE for name in (row.scratch, row.pretrained) if name} <= set(known_recipes())


def test_the_evidence_is_what_the_records_hold():
    unseen = record("emoji.json")["metrics"]["unseen"]["arms"]
    pretrained = record("pretrained.json")["metrics"]["unseen"]["arms"]["pretrained"]["value"]
    finding = record("scenes-long.json")["metrics"]["finding"]
    for row, values in (
        (TABLE[0], (unseen["frugal"]["value"], unseen["plain"]["value"], pretrained)),
        (TABLE[1], (finding["arms"]["clip-one"]["value"], max(finding["baselines"].values()))),
    ):
        for value in values:
            assert f"{value:.1f} %" in row.evidence
    assert min(map(int, record("few_pairs.json")["pairs"])) == recommendation.LEAST_PAIRS
    for row in TABLE:
        assert all((ROOT / "results" / name).is_file() for name in row.records)


def test_the_parts_are_those_that_the_recipe_reads():
    towers = load_recipe(PRETRAINED).model.pretrained_towers()
    sources = [name for config in towers.values() for name in config.sources]
    named = [name for name in sources if not name.startswith("hashed:")]  # counts of words need no package
    assert sorted(named) == sorted(f"package:{name}" for name in PARTS)


@pytest.mark.parametrize("page", ["README.md", "docs/choose-a-recipe.md"])
def test_pages_name_the_recipes_of_the_table(page: str):
    text = (ROOT / page).read_text(encoding="utf-8")
    for row in TABLE:
        cells = [row.size, f"`{row.scratch}`", f"`{row.pretrained}`" if row.pretrained else "–"]
        assert f"| {' | '.join(cells)} |" in text, (page, cells)


def test_the_command_takes_the_pretrained_recipe_where_its_parts_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recommendation, "has_pretrained_parts", lambda: False)
    assert train_command("my data", 1_500) == "frugalclip train frugal 'data=my data' --out runs/first"
    monkeypatch.setattr(recommendation, "has_pretrained_parts", lambda: True)
    assert train_command("my", 1_500) == "frugalclip train pretrained data=my --out runs/first"
    assert first_recipe(2_000_000) == "clip-cc3m"


def test_minutes_are_those_of_the_record_times_the_length():
    cost = next(entry.cost for entry in recipe_entries() if entry.name == "frugal")
    assert cost.epochs == load_recipe("frugal").epochs == 8
    assert cost.minutes_for(2_000) == pytest.approx(cost.minutes)  # 8 epochs of 2,000 are the 16,000
    assert f"about {round(cost.minutes_for(8_000))} min" in next(iter(advice(8_000)))
    assert "Nothing was measured below 250 pairs" in " ".join(advice(100))


@pytest.mark.parametrize("name", ["clip", "siglip", "slip", "declip", "filip", "clip-cc3m"])
def test_transformers_from_scratch_on_few_pairs_are_warned_about(name: str):
    assert "start with frugal or pretrained" in (warning(load_recipe(name), 1_500) or "")
    assert warning(load_recipe(name), 50_000) is None


@pytest.mark.parametrize("name", ["frugal", "clip-small", "demo", "pretrained", "lit", "words"])
def test_recipes_for_few_pairs_are_not(name: str):
    assert warning(load_recipe(name), 1_500) is None


def test_a_model_to_start_from_is_no_start_from_scratch(tmp_path: Path):
    assert warning(load_recipe("clip", [f"init_from={tmp_path}"]), 1_500) is None


def test_plan_gives_the_warning(tmp_path: Path):
    notes = plan_recipe(load_recipe("clip", ["data=sample"])).notes
    assert any("start with frugal or pretrained" in note for note in notes)
    assert not any("start with" in note for note in plan_recipe(load_recipe("frugal", ["data=sample"])).notes)
