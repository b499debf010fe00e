"""`adapt probe`: of a model, of a store, in domain and out of domain; what it refuses."""

import json
from pathlib import Path

import pytest

from frugalclip.adaptation.compare_shots import IN_DOMAIN
from frugalclip.cli import main
from frugalclip.core.errors import DataError, UsageError
from frugalclip.verbs.adapt_probe import adapt_probe
from frugalclip.verbs.embed import embed
from frugalclip.verbs.evaluate import evaluate

from ..backbones.tiny_backbones import timm_source
from .test_evaluate import folder, make_model  # noqa: F401  (a fixture)

TEXT_HEADS = {"zero-shot", "near-zero-shot"}


def test_the_command_prints_every_head_and_writes_json(folder: Path, tmp_path: Path, capsys):  # noqa: F811
    make_model().save(tmp_path / "model")
    out = tmp_path / "probe.json"
    words = [str(tmp_path / "model"), "--data", str(folder), "--shots", "1,2", "--seeds", "2"]
    assert main(["adapt", "probe", *words, "--out-of-domain", str(folder), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert set(found["heads"]) == {*TEXT_HEADS, "linear", "mlp"}
    assert found["tests"] == {IN_DOMAIN: 4, str(folder): 8}
    assert len(found["rows"]) == 4 * 2 * 2 and len(found["differences"]) == 6 * 2 * 2
    assert all(row["interval"][0] <= row["top1"] <= row["interval"][1] for row in found["rows"])
    printed = capsys.readouterr().out
    assert "near-zero-shot less linear, 2 examples of each class" in printed
    assert "chance is 33.3" in printed and "2 classes have fewer than 2 examples" in printed


def test_the_linear_probe_is_that_of_evaluate(folder: Path):  # noqa: F811
    model = make_model()
    found = adapt_probe(model, data=folder, shots=[2, 1])
    theirs = evaluate(model, data=folder, task="fewshot")["metrics"]
    for row in found["rows"]:
        if row["head"] == "linear":
            assert row["top1"] == pytest.approx(theirs[f"{row['shots']}shot_top1"])


def test_zero_shot_is_that_of_evaluate(folder: Path):  # noqa: F811
    model = make_model()
    found = adapt_probe(model, data=folder, shots=[1], seeds=1)
    theirs = evaluate(model, data=folder, task="zeroshot", where="split=test")["metrics"]["top1"]
    assert next(row for row in found["rows"] if row["head"] == "zero-shot")["top1"] == pytest.approx(theirs)


def test_a_store_gives_what_its_model_gives_without_text_heads(folder: Path, tmp_path: Path):  # noqa: F811
    make_model().save(tmp_path / "model")
    embed(tmp_path / "model", folder, out=tmp_path / "store", dtype="float32")
    whole = adapt_probe(tmp_path / "model", data=folder, shots=[1])
    stored = adapt_probe(tmp_path / "store", data=folder, shots=[1])
    assert stored["model"] == whole["model"] and stored["prompts"] is None
    assert stored["rows"] == [row for row in whole["rows"] if row["head"] not in TEXT_HEADS]


def test_an_image_encoder_alone_has_no_text_heads(folder: Path, tmp_path: Path):  # noqa: F811
    found = adapt_probe(timm_source(tmp_path), data=folder, shots=[1], seeds=1)
    assert set(found["heads"]) == {"linear", "mlp"}


def test_features_before_the_projection_have_no_text_heads(folder: Path):  # noqa: F811
    found = adapt_probe(make_model(), data=folder, shots=[1], seeds=1, features="pooled")
    assert set(found["heads"]) == {"linear", "mlp"} and found["features"] == "pooled"


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path, capsys):  # noqa: F811
    make_model().save(tmp_path / "model")
    words = ["adapt", "probe", str(tmp_path / "model"), "--data", str(folder)]
    for shots, sentence in (("1,two", "--shots has 'two'"), ("0", "from 1 on"), (",", "from 1 on")):
        assert main([*words, "--shots", shots]) == 2
        assert sentence in capsys.readouterr().err
    with pytest.raises(UsageError, match="from 1 on"):
        adapt_probe(make_model(), data=folder, seeds=0)
    other = tmp_path / "other"
    other.mkdir()
    (folder / "0.png").rename(other / "a.png")
    (other / "a.txt").write_text("a yellow moon")
    with pytest.raises(DataError, match="has a class of the training data"):
        adapt_probe(make_model(), data=folder, out_of_domain=[other])


def test_a_store_of_other_data_is_refused(folder: Path, tmp_path: Path):  # noqa: F811
    make_model().save(tmp_path / "model")
    embed(tmp_path / "model", folder, where="split=train", out=tmp_path / "store")
    with pytest.raises(DataError, match="embed that data too"):
        adapt_probe(tmp_path / "store", data=folder, shots=[1])
