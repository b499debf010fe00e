"""Models as users hold them: batches of unit vectors, saving and reading, features of a data set, words."""

from pathlib import Path

import pytest
import torch

from frugalclip.core.errors import ModelError
from frugalclip.language_model import Lexicon
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data

from .photos import photo


def test_one_or_many_in_a_batch_of_unit_vectors_out(model: Model):
    one, many = (
        model.encode_image(photo("red")),
        model.encode_image([photo("red"), photo("blue", (5, 90))]),
    )
    assert one.shape == (1, 12) and many.shape == (2, 12)
    torch.testing.assert_close(many[0], one[0])
    torch.testing.assert_close(many.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(model.encode_image(model.preprocess([photo("red")])), one)
    assert model.encode_text("a red square").shape == (1, 12)
    raw = model.encode_text(["a red square", "red"], normalize=False)
    torch.testing.assert_close(
        torch.nn.functional.normalize(raw, dim=1), model.encode_text(["a red square", "red"])
    )
    assert model.encode_text([]).shape == (0, 12) and model.encode_image([]).shape == (0, 12)


def test_a_text_does_not_depend_on_its_batch(model: Model):
    texts = ["red", "a red square", "a blue circle and a red square and more", ""]
    together = model.encode_text(texts)
    for i, text in enumerate(texts):
        torch.testing.assert_close(model.encode_text(text)[0], together[i])


def test_saving_and_reading_keeps_everything(model: Model, tmp_path: Path):
    model.save(str(tmp_path / "m"))
    again = load(tmp_path / "m")
    assert again.fingerprint == model.fingerprint and again.training_data == {"path": "sample", "where": None}
    assert torch.equal(again.encode_text("a red square"), model.encode_text("a red square"))
    assert {p.suffix for p in (tmp_path / "m").iterdir()} == {".safetensors", ".json"}
    with torch.no_grad():
        again.network.log_scale.add_(0.1)
    assert again.fingerprint != model.fingerprint


def test_features_of_a_data_set_leave_out_what_does_not_decode(model: Model, tmp_path: Path):
    for i, colour in enumerate(("red", "green", "blue")):
        photo(colour).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(colour)
    data = open_data(tmp_path)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    found = model.image_features(data, batch=2)
    assert found.rows.tolist() == [0, 2] and [row for row, _ in found.faults] == [1]
    torch.testing.assert_close(found.features[1], model.encode_image(photo("blue"))[0])


def test_where_a_model_comes_from_is_kept_and_does_not_change_what_it_is(model: Model, tmp_path: Path):
    assert "origin" not in model.description
    imported = Model(
        model.network,
        model.tokenizer,
        model.preprocess,
        training_data=model.training_data,
        origin={"logit_bias": -10.0},
    )
    imported.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.origin == {"logit_bias": -10.0} and again.fingerprint == model.fingerprint


def test_the_words_of_an_embedding_are_named_and_kept_with_the_model(model: Model, tmp_path: Path):
    with pytest.raises(
        ModelError,
        match="not one of words; train one with 'frugalclip train words' or 'frugalclip train lexvla'",
    ):
        model.words(torch.ones(1, model.dim))
    model.lexicon = Lexicon([f"word{i}" for i in range(model.dim)], list(range(model.dim)))
    model.save(tmp_path)
    embeddings = torch.zeros(2, model.dim)
    embeddings[0, [3, 1]] = torch.tensor([0.5, 2.0])
    assert load(tmp_path).words(embeddings, top=3) == [[("word1", 2.0), ("word3", 0.5)], []]
