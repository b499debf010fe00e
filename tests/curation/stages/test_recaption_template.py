from pathlib import Path
from typing import Any

import pytest

import frugalclip
from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.curation.base import StageRows, Verdict
from frugalclip.curation.stages.recaption_template import Config, RecaptionTemplate
from frugalclip.data.manifest import Manifest
from frugalclip.verbs import ledger

from ...verbs.test_curate import drawing
from ..conftest import MakeRows

FIELDS = {"label": ["cat", None, "fox"], "tags": [["big", "red"], ["x"], []]}


def verdict_of(rows: StageRows, template: str, **settings: Any) -> Verdict:
    config = Config(stage="recaption_template", template=template, **settings)
    return RecaptionTemplate(config, Path()).decide(rows)


@pytest.fixture
def rows(make_rows: MakeRows) -> StageRows:
    return make_rows([["one", "two"], "three", "four"], fields=FIELDS)


@pytest.mark.parametrize(
    ("join", "captions"),
    [
        ("concat", [["one; a cat: big, red", "two; a cat: big, red"], ["three"], ["four; a fox: "]]),
        ("replace", [["a cat: big, red"], ["three"], ["a fox: "]]),
        ("sample", [["one", "two", "a cat: big, red"], ["three"], ["four", "a fox: "]]),
        ("none", None),
    ],
)
def test_captions_are_filled_from_fields_and_joined(rows: StageRows, join: str, captions: Any):
    verdict = verdict_of(rows, "a {label}: {tags}", join=join)
    assert verdict.scores["caption_template"].tolist() == ["a cat: big, red", None, "a fox: "]
    assert verdict.captions == captions and verdict.is_kept.all()
    assert verdict.notes[0].startswith("2 of 3 rows have a new caption")


def test_captions_that_lose_their_end_are_counted(rows: StageRows):
    verdict = verdict_of(rows, "a {label}", context=5)
    assert verdict.notes[1] == "3 of 3 captions (100.0%) are longer than 5 tokens and lose their end"
    assert verdict_of(rows, "a {label}").notes[1].startswith("0 of 3")


@pytest.mark.parametrize("template", ["plain", "a {}", "a {label"])
def test_a_template_names_fields(template: str):
    with pytest.raises(RecipeError, match="field"):
        validated(Config, {"stage": "recaption_template", "template": template}, where="stages.0")


def test_a_field_that_is_not_there_is_named(rows: StageRows):
    with pytest.raises(DataError, match="no field 'labl'"):
        verdict_of(rows, "a {labl}")


def test_new_captions_are_read_by_later_stages_and_trained_on_and_a_stage_can_be_taken_back(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    for seed in range(4):
        drawing(seed).save(data / f"p{seed}.png")
        (data / f"p{seed}.txt").write_text("box" if seed else "it has more than two words")
    (tmp_path / "plan.yaml").write_text(
        "stages:\n"
        "- {stage: rules, name: short, max_words: 2}\n"
        "- {stage: recaption_template, template: '{id} drawn'}\n"
        "- {stage: rules, min_words: 3}\n"
    )
    out = tmp_path / "out"
    result = frugalclip.curate(data, plan=tmp_path / "plan.yaml", out=out)
    kept = Manifest.read(out / "manifest.parquet")
    assert sorted(kept.ids) == ["p1", "p2", "p3"] and result.summary.kept == 3
    assert kept.captions() == [[f"box; {id} drawn"] for id in kept.ids]
    assert kept.field("caption_template") == [f"{id} drawn" for id in kept.ids]
    ledger.undo(out, "short")
    captions = dict(
        zip((whole := Manifest.read(out / "manifest.parquet")).ids, whole.captions(), strict=True)
    )
    assert captions["p0"] == ["it has more than two words"] and captions["p1"] == ["box; p1 drawn"]
    ledger.undo(out, "recaption_template")
    assert Manifest.read(out / "manifest.parquet").where("id=p1").captions() == [["box"]]
