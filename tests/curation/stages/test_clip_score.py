from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import ImageOps

import frugalclip
from frugalclip.auditing.noise import FOLDS, folds_of
from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.curation.base import StageRows
from frugalclip.curation.pair_cosines import has_frozen_towers, head_cosines
from frugalclip.curation.run import WRITTEN, with_captions
from frugalclip.curation.stages.clip_score import Config
from frugalclip.curation.trained_rows import trained_ids
from frugalclip.data.manifest import Manifest

from ...verbs.test_curate import drawing

ROWS = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and a run that was trained on half of it."""
    folder = tmp_path_factory.mktemp("scored")
    for seed in range(ROWS):
        (folder / "data").mkdir(exist_ok=True)
        drawing(seed).save(folder / "data" / f"p{seed:02d}.png")
        (folder / "data" / f"p{seed:02d}.txt").write_text(f"boxes number {seed}\nboxes of seed {seed}")
    rows = frugalclip.curate(folder / "data", plan=_plan(folder, "rules, min_words: 1"), out=folder / "all")
    assert rows.summary.kept == ROWS
    whole = Manifest.read(folder / "all" / "manifest.parquet")
    whole.take(range(ROWS // 2)).write(folder / "half.parquet")
    words = [f"data={folder / 'half.parquet'}", "epochs=null", "steps=2", "batch=8", "threads=1"]
    frugalclip.train("clip-small", words, out=folder / "run")
    return folder


def _plan(folder: Path, stage: str) -> Path:
    path = folder / f"{abs(hash(stage))}.yaml"
    path.write_text(f"stages: [{{stage: {stage}}}]")
    return path


def ledger(out: Path) -> dict[str, dict]:
    return {row["id"]: row for row in pq.read_table(out / "ledger.parquet").to_pylist()}


def test_scores_are_cosines_and_exactly_the_fraction_stays(place: Path, tmp_path: Path):
    plan = _plan(place, "clip_score, model: run, fraction: 0.3, trained: score")
    result = frugalclip.curate(place / "data", plan=plan, out=tmp_path / "out")
    assert result.summary.kept == round(0.3 * ROWS)
    model = frugalclip.load(place / "run")
    scores = {}
    for seed in range(ROWS):
        image = model.encode_image(str(place / "data" / f"p{seed:02d}.png"))
        texts = model.encode_text([f"boxes number {seed}", f"boxes of seed {seed}"])
        scores[f"p{seed:02d}"] = float((image @ texts.T).max())
    rows = Manifest.read(tmp_path / "out" / "rows.parquet")
    found = dict(zip(rows.ids, rows.field("clip_score"), strict=True))
    assert {id: pytest.approx(score, abs=1e-5) for id, score in scores.items()} == found
    dropped = {id for id, row in ledger(tmp_path / "out").items() if row["fate"] == "dropped"}
    assert dropped == set(sorted(scores, key=scores.__getitem__)[: ROWS - result.summary.kept])


def test_rows_that_the_model_was_trained_on_are_refused_or_kept_without_a_score(place: Path, tmp_path: Path):
    assert trained_ids(str(place / "run")) == {f"p{seed:02d}" for seed in range(ROWS // 2)}
    refused = _plan(place, "clip_score, model: run, fraction: 0.5")
    with pytest.raises(DataError, match=r"12 of 24 rows were trained on .* trained: cross_fit"):
        frugalclip.curate(place / "data", plan=refused, out=tmp_path / "refused")
    kept = _plan(place, "clip_score, model: run, fraction: 0.5, trained: keep")
    result = frugalclip.curate(place / "data", plan=kept, out=tmp_path / "kept")
    assert result.summary.kept == ROWS // 2 + ROWS // 4
    rows = Manifest.read(tmp_path / "kept" / "rows.parquet")
    unscored = {id for id, score in zip(rows.ids, rows.field("clip_score"), strict=True) if score is None}
    assert unscored == trained_ids(str(place / "run"))


def test_a_threshold_keeps_what_reaches_it(place: Path, tmp_path: Path):
    plan = _plan(place, "clip_score, model: run, threshold: 0.0, trained: score, captions: mean")
    frugalclip.curate(place / "data", plan=plan, out=tmp_path / "out")
    for row in ledger(tmp_path / "out").values():
        assert (row["fate"] == "kept") == (row["value"] is None or np.isnan(row["value"]))
        assert row["fate"] == "kept" or row["value"] < row["threshold"] == 0


def test_one_bound_is_needed():
    with pytest.raises(RecipeError, match="give one"):
        validated(Config, {"stage": "clip_score", "model": "x"}, where="")


def test_a_cosine_that_falls_in_the_mirror_drops_a_row_unless_its_caption_names_a_side(
    place: Path, tmp_path: Path
):
    data = tmp_path / "data"
    data.mkdir()
    for seed in range(ROWS):
        drawing(seed).save(data / f"p{seed:02d}.png")
        (data / f"p{seed:02d}.txt").write_text(f"boxes {seed}" + (" on the LEFT" if seed % 3 == 0 else ""))
    score = {}
    model = frugalclip.load(place / "run")
    for seed in range(ROWS):
        text = model.encode_text((data / f"p{seed:02d}.txt").read_text())
        both = [drawing(seed), ImageOps.mirror(drawing(seed))]
        score[f"p{seed:02d}"] = (model.encode_image(both) @ text.T)[:, 0].tolist()
    falls = {id: own - mirrored for id, (own, mirrored) in score.items()}
    largest = float(np.median([max(fall, 0) for fall in falls.values()])) + 1e-4
    stage = f"clip_score, model: {place / 'run'}, fraction: 1, trained: score, largest_fall: {largest}"
    result = frugalclip.curate(data, plan=_plan(tmp_path, stage), out=tmp_path / "out")
    fell = {id for id, fall in falls.items() if fall > largest}
    sided = {id for id in fell if int(id[1:]) % 3 == 0}
    gone = {id: row for id, row in ledger(tmp_path / "out").items() if row["fate"] == "dropped"}
    assert set(gone) == fell - sided and gone and sided
    for id, row in gone.items():
        assert (row["reason"], row["threshold"]) == ("mirror-fall", largest)
        assert row["value"] == pytest.approx(falls[id], abs=1e-5)
    assert f"{len(sided)} captions fall in the mirror" in " ".join(result.summary.stages[0].notes)
    rows = Manifest.read(tmp_path / "out" / "rows.parquet")
    plain = dict(zip(rows.ids, rows.field("clip_score"), strict=True))
    assert plain == {id: pytest.approx(own, abs=1e-5) for id, (own, _) in score.items()}
    stage = f"clip_score, model: {place / 'run'}, fraction: 1, trained: score, image: mirrored"
    frugalclip.curate(data, plan=_plan(tmp_path, stage), out=tmp_path / "mirrored")
    rows = Manifest.read(tmp_path / "mirrored" / "rows.parquet")
    found = dict(zip(rows.ids, rows.field("clip_score"), strict=True))
    assert found == {id: pytest.approx(mirrored, abs=1e-5) for id, (_, mirrored) in score.items()}


def test_cross_fitted_scores_are_given_to_all_rows_and_say_what_the_towers_saw(place: Path, tmp_path: Path):
    plan = _plan(place, "clip_score, model: run, fraction: 0.5, trained: cross_fit")
    result = frugalclip.curate(place / "data", plan=plan, out=tmp_path / "out")
    assert result.summary.kept == ROWS // 2
    heads, towers = result.summary.stages[0].notes
    assert "cross-fitted" in heads and "trained on these rows" in towers
    rows = Manifest.read(tmp_path / "out" / "rows.parquet")
    assert all(-1 <= score <= 1 for score in rows.field("clip_score"))
    assert not has_frozen_towers(frugalclip.load(place / "run"))


def test_no_head_is_fitted_to_the_row_that_it_scores(place: Path):
    model = frugalclip.load(place / "run")
    manifest = Manifest.read(place / "all" / "manifest.parquet")

    def scores(captions: list[list[str]]) -> np.ndarray:
        changed = with_captions(manifest, pa.table({"id": manifest.ids, WRITTEN: captions}))
        return head_cosines(model, StageRows(changed, None, {}, 0, services=None))

    captions = manifest.captions()
    folds = folds_of(manifest.codes("id").view(np.uint64), FOLDS, seed=0)
    own = int(folds[0])
    others_of_fold = [["a hat"] if fold == own and row else captions[row] for row, fold in enumerate(folds)]
    others = [["a hat"] if fold != own else captions[row] for row, fold in enumerate(folds)]
    before = scores(captions)[0]
    assert (folds[1:] == own).any()
    assert scores(others_of_fold)[0] == pytest.approx(before, abs=1e-9)
    assert abs(scores(others)[0] - before) > 1e-3


def test_heads_do_not_score_mirrored_images():
    settings = {"stage": "clip_score", "model": "x", "fraction": 1, "trained": "cross_fit"}
    with pytest.raises(RecipeError, match="as they are"):
        validated(Config, settings | {"image": "mirrored"}, where="")
