"""A small model, a model with words, and folders of pictures; made once, copied where a test changes them."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from frugalclip.core.preprocess import Preprocess
from frugalclip.data.tokens import train_tokenizer
from frugalclip.language_model import Lexicon
from frugalclip.models import Model
from frugalclip.serving.building import BuildOptions, build_index
from frugalclip.sources.open import open_data
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.verbs.search_build import source_of

COLOURS = ("red", "blue", "green", "white", "black", "gold", "pink", "grey")
SHADES = (40, 80, 120, 160)


def small_model(*, seed: int = 3, words: bool = False) -> Model:
    tokenizer = train_tokenizer([f"a {colour} thing" for colour in COLOURS], vocabulary=1024, context=20)
    towers = {
        "image": {"width": 32, "depth": 1, "patch": 8, "resolution": 16},
        "text": {"width": 32, "depth": 1},
    }
    network = DualEncoder(
        ModelConfig.model_validate({**towers, "dim": 96 if words else 16}),
        vocabulary=tokenizer.vocabulary,
        context=tokenizer.context,
        seed=seed,
    )
    model = Model(network.eval(), tokenizer, Preprocess(size=16))
    if words:
        names = [f"{a}{b}{c}" for a in "bdfg" for b in "aeio" for c in "klmnpr"]
        model.lexicon = Lexicon(names, range(len(names)))
    return model


def draw(folder: Path, *, shades: tuple[int, ...] = SHADES) -> Path:
    """Pictures of one class folder a colour: a coloured square on a grey of its own."""
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True, exist_ok=True)
        for shade in shades:
            image = Image.new("RGB", (20, 30), (shade, shade, shade))
            image.paste(Image.new("RGB", (12, 12), colour), (shade % 7, shade % 11))
            image.save(folder / colour / f"{shade}.png")
    return folder


def build(path: Path, model: Model, data: Path, **options):
    manifest = open_data(data, without_captions=True)
    source = source_of(data, None)
    return build_index(path, model, manifest, source=source, named="small", options=BuildOptions(**options))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model`, `worded`, `data`, `index` (exact) and `lexical`, which no test may change."""
    folder = tmp_path_factory.mktemp("serving")
    draw(folder / "data")
    for name, words in (("model", False), ("worded", True)):
        small_model(words=words).save(folder / name)
    build(folder / "index", small_model(), folder / "data")
    build(folder / "lexical", small_model(words=True), folder / "data")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of the small index and its data that a test may change."""
    shutil.copytree(made / "data", tmp_path / "data")
    shutil.copytree(made / "model", tmp_path / "model")
    build(tmp_path / "index", small_model(), tmp_path / "data")
    return tmp_path
