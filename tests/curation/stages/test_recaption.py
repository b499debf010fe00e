from pathlib import Path

import pytest

import frugalclip
from frugalclip.core.errors import ModelError
from frugalclip.data.manifest import Manifest


def plan(folder: Path, stages: str) -> Path:
    (folder / "plan.yaml").write_text(f"stages: [{stages}]")
    return folder / "plan.yaml"


def test_captions_of_a_run_stand_behind_the_old_ones_and_in_their_field(coloured: Path, tmp_path: Path):
    stages = f"{{stage: recaption, model: {coloured / 'run'}}}"
    frugalclip.curate(coloured / "data", plan=plan(tmp_path, stages), out=tmp_path / "out")
    rows = Manifest.read(tmp_path / "out" / "manifest.parquet")
    new = rows.field("caption_captioner")
    assert len(set(new)) == 4
    assert rows.captions() == [[f"{text}; {text}"] for text in new]


def test_a_codebook_that_was_trained_is_taken_by_tldr(coloured: Path, tmp_path: Path):
    stages = f"{{stage: tldr, model: {coloured / 'run'}, clusters: 4}}"
    result = frugalclip.curate(coloured / "data", plan=plan(tmp_path, stages), out=tmp_path / "out")
    assert "of 8 are used" in result.summary.stages[-1].notes[0]
    kept = Manifest.read(tmp_path / "out" / "manifest.parquet")
    assert sorted(text for (text,) in kept.captions()) == [
        f"a {name} square" for name in ("blue", "green", "red", "white")
    ]


def test_a_model_without_patches_or_captions_is_named(coloured: Path, tmp_path: Path):
    stages = f"{{stage: recaption, model: {coloured / 'data'}}}"
    with pytest.raises(ModelError, match="tldr-captioner"):
        frugalclip.curate(coloured / "data", plan=plan(tmp_path, stages), out=tmp_path / "out")


def test_scores_of_new_captions_are_those_of_the_new_captions(coloured: Path, tmp_path: Path):
    score = f"{{stage: clip_score, model: {coloured / 'run'}, fraction: 1, trained: score}}"
    written = "{stage: recaption_template, template: 'a photo of {id}', join: replace}"
    frugalclip.curate(
        coloured / "data", plan=plan(tmp_path, f"{score}, {written}, {score}"), out=tmp_path / "out"
    )
    rows = Manifest.read(tmp_path / "out" / "manifest.parquet")
    model = frugalclip.load(coloured / "run")
    images = model.encode_image([str(coloured / "data" / f"{id}.png") for id in rows.ids])
    texts = model.encode_text([f"a photo of {id}" for id in rows.ids])
    assert rows.field("clip_score") == pytest.approx((images * texts).sum(1).tolist(), abs=1e-5)
