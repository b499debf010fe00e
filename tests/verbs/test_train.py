"""What the verb adds to a run of the trainer: evaluations and a report of what the recipe is about."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from PIL import Image

from frugalclip.cli import main
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.language_model import FrozenLanguageModel
from frugalclip.verbs.evaluate import evaluate
from frugalclip.verbs.train import show, train

from ..backbones.tiny_backbones import TIMM_WIDTH, timm_source
from ..language_model.conftest import backend, save_llama  # noqa: F401  (a fixture)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Sixty pictures of noise with captions of words that the language model knows."""
    place, known = tmp_path / "data", ["dog", "cats", "boat", "lake", "sofa", "beach"]
    place.mkdir()
    for i in range(60):
        noise = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(place / f"{i:02}.png")
        (place / f"{i:02}.txt").write_text(f"a {known[i % 6]} on a {known[i // 6 % 6]}", encoding="utf-8")
        (place / f"{i:02}.json").write_text(
            json.dumps({"split": "val" if i < 12 else "train"}), encoding="utf-8"
        )
    return place


@pytest.fixture
def language_model(tmp_path: Path, backend: tokenizers.Tokenizer) -> Path:  # noqa: F811
    """Random weights, with as many positions as captions may need."""
    place = tmp_path / "language_model"
    place.mkdir()
    config = save_llama(place, backend, tied=False) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 2048}))
    return place


def test_the_card_names_the_data_and_pictures_that_leak(pairs: Path, tmp_path: Path):
    (pairs / "00.png").write_bytes((pairs / "20.png").read_bytes())  # one validation picture is trained on
    (pairs / "LICENSE").write_text("CC0")
    result = train("clip-small", [f"data={pairs}"], out=tmp_path / "run", batch=8, steps=1)
    page = (tmp_path / "run" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"`{result.training.fingerprint()}`" in page and "beside the data lies `LICENSE`" in page
    assert "- leakage: 1 of 12 validation images also among the training images" in page
    assert "- energy:" in page and page.count('frugalclip.load("') == 1


@pytest.mark.parametrize("has_split", [True, False])
def test_the_last_line_names_the_next_command_on_the_users_data(has_split, pairs, tmp_path, capsys):
    for record in pairs.glob("*.json"):
        if not has_split:
            record.unlink()
    place = pairs.rename(tmp_path / "my photos #1")
    result = train("clip-small", [f"data={place}"], out=tmp_path / "run", batch=8, steps=1)
    capsys.readouterr()
    show(result)
    lines = capsys.readouterr().out.strip().splitlines()
    words = shlex.split(next(line for line in lines if line.startswith("Next: ")))[2:]
    assert words[:4] == ["evaluate", str(tmp_path / "run"), "--data", str(place)]
    assert words[4:] == (["--where", "split=val", "--baselines"] if has_split else ["--task", "retrieval"])
    assert has_split or lines[-1].startswith("That includes the pairs it was trained on; keep some apart")
    assert main(words) == 0 and "Traceback" not in capsys.readouterr().err


def test_the_report_of_a_lexical_model_shows_its_words(pairs, language_model, tmp_path, monkeypatch):
    monkeypatch.setenv("FRUGALCLIP_CACHE", str(tmp_path / "cache"))
    words = len(FrozenLanguageModel.read(language_model).lexicon())
    codebook = {"codebook": f"hf:{language_model}", "inside": 32, "train_codebook": False}
    head = {
        "kind": "lexical",
        "adapter_depth": 0,
        "mapper": False,
        "centre": True,
        "over": "vector",
        **codebook,
    }
    text = {
        "kind": "pretrained",
        "from": f"hf:{language_model}",
        "width": 32,
        "options": {"prompt": "lexical", "states": "next_word"},
        "head": head,
    }
    image = {
        "kind": "pretrained",
        "from": timm_source(tmp_path),
        "width": TIMM_WIDTH,
        "resolution": 32,
        "head": {"kind": "caption_words"},
    }
    recipe = {
        "data": {"path": str(pairs)},
        "model": {"image": image, "text": text, "dim": words},
        "preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "views": {"main": "none"},
        "texts": {"caption": {}},
        "objectives": {"contrastive": {"positives": "caption"}},
        "batch": 8,
        "steps": 1,
        "precision": "fp32",
        "evaluation": {"points": 1},
    }
    (tmp_path / "recipe.yaml").write_text(dump_yaml(recipe), encoding="utf-8")
    run = train(str(tmp_path / "recipe.yaml"), out=tmp_path / "run").run
    found = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["evaluations"]
    assert [one["task"] for one in found] == ["zeroshot", "retrieval", "words"]
    assert found[2]["samples"] == 12 and found[2]["where"] == "the run's validation rows"
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    section = page[(start := page.index('<section id="words"')) : page.index("</section>", start)]
    assert section.count("<img") == 8
    assert found[2]["words"]["used"][0]["word"] in section
    again = evaluate(run, data=pairs, task="words", where="split=val")
    assert again["metrics"] == pytest.approx(found[2]["metrics"], abs=1e-4), (
        "the command gives the figures of the report"
    )


@pytest.mark.parametrize("wanted", [True, False])
def test_a_run_ends_with_baselines_beside_its_metrics(wanted: bool, pairs: Path, tmp_path: Path):
    settings = {"evaluation.baselines": wanted} if not wanted else {}
    train("clip-small", [f"data={pairs}"], out=tmp_path / "run", batch=8, steps=1, **settings)
    evaluations = json.loads((tmp_path / "run" / "metrics.json").read_text())["evaluations"]
    assert [one["task"] for one in evaluations] == ["zeroshot", "retrieval"]
    for one in evaluations:
        assert ("pixel_nn_1" in (one["baselines"] or {})) == wanted
