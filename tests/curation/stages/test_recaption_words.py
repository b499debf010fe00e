"""A model whose words are planted: its projection is solved so that pictures of a colour have known words."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import frugalclip
from frugalclip.core.errors import ModelError
from frugalclip.core.preprocess import Preprocess
from frugalclip.data.manifest import Manifest
from frugalclip.data.tokens import train_tokenizer
from frugalclip.language_model.lexicon import Lexicon
from frugalclip.models import Model
from frugalclip.towers.dual import DualEncoder, ModelConfig

from ..conftest import COLOURS

LEXICON = ("warm", "cold", "fire", "grass", "sea", "snow")
TRUTH = {
    "red": {"fire": 3.0, "warm": 2.0},
    "green": {"grass": 4.0, "cold": 1.0},
    "blue": {"sea": 3.0, "cold": 2.0, "snow": 1.0},
    "white": {"snow": 5.0},
}


@pytest.fixture(scope="module")
def words_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_tokenizer(["a red square", "a blue circle"], vocabulary=600, context=8)
    tower = {"width": 32, "depth": 1}
    sizes = {"image": {**tower, "patch": 8, "resolution": 16}, "text": tower, "dim": len(LEXICON)}
    config = ModelConfig.model_validate(sizes)
    network = DualEncoder(config, vocabulary=tokenizer.vocabulary, context=tokenizer.context, seed=0).double()
    model = Model(network.eval(), tokenizer, Preprocess(size=16))
    pictures = [Image.new("RGB", (16, 16), colour) for colour in COLOURS.values()]
    pixels = torch.cat([model.preprocess(picture) for picture in pictures]).double()
    pooled = network.image(pixels).pooled  # (colours, width)
    wanted = torch.tensor([[TRUTH[name].get(word, -1.0) for word in LEXICON] for name in COLOURS])
    with torch.no_grad():
        network.image.project.weight.copy_((torch.linalg.pinv(pooled) @ wanted.double()).T)
    network.float()
    model.lexicon = Lexicon(LEXICON, list(range(len(LEXICON))))
    model.save(folder := tmp_path_factory.mktemp("words") / "model")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A row of each colour with a caption, and one whose picture is broken."""
    (tmp_path / "data").mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (16, 16), colour).save(tmp_path / "data" / f"{name}.png")
        (tmp_path / "data" / f"{name}.txt").write_text(f"the {name} one")
    return tmp_path / "data"


def curated(data: Path, model: Path, settings: str) -> tuple[dict[str, list[str]], dict[str, str | None]]:
    """Captions, and the field of new ones, by id."""
    plan = data.parent / "plan.yaml"
    plan.write_text(f"stages: [{{stage: recaption_words, model: {model}, {settings}}}]")
    frugalclip.curate(data, plan=plan, out=data.parent / "out")
    rows = Manifest.read(data.parent / "out" / "manifest.parquet")
    return (
        dict(zip(rows.ids, rows.captions(), strict=True)),
        dict(zip(rows.ids, rows.field("caption_words"), strict=True)),
    )


def test_captions_are_the_planted_words_main_ones_first(data: Path, words_model: Path):
    captions, new = curated(data, words_model, "join: sample")
    expected = {
        name: ", ".join(sorted(words, key=lambda word: -words[word])) for name, words in TRUTH.items()
    }
    assert new == expected  # words of no weight are left out
    assert captions == {name: [f"the {name} one", text] for name, text in expected.items()}


def test_fewer_words_are_the_first_ones(data: Path, words_model: Path):
    captions, new = curated(data, words_model, "join: none, words: 1")
    assert new == {"red": "fire", "green": "grass", "blue": "sea", "white": "snow"}
    assert captions == {name: [f"the {name} one"] for name in COLOURS}


def test_a_row_without_a_picture_keeps_its_caption(data: Path, words_model: Path):
    (data / "green.png").write_bytes((data / "green.png").read_bytes()[:60])
    captions, new = curated(data, words_model, "join: replace, words: 2")
    assert captions["blue"] == ["sea, cold"] and new["red"] == "fire, warm"
    assert "green" not in new or (new["green"] is None and captions["green"] == ["the green one"])


def test_a_model_without_words_is_refused(data: Path, tiny_model: Path):
    with pytest.raises(ModelError, match="not one of words"):
        curated(data, tiny_model, "join: none")
