"""Models as users hold them: what goes in, what comes out, and what a damaged checkpoint says."""

import json
from pathlib import Path

import pytest
import torch

from frugalclip.core.errors import ModelError
from frugalclip.language_model import Lexicon
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data

from ..backbones.tiny_backbones import bert_source, image_backbone, timm_source, vision_source
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
    model.save(tmp_path / "m")
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


def test_what_is_not_a_model_says_what_was_expected(model: Model, tmp_path: Path):
    with pytest.raises(ModelError, match="there is no model at"):
        load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="neither a run nor a checkpoint"):
        load(tmp_path)
    with pytest.raises(ModelError, match="'openclip:' is not a known format"):
        load("openclip:ViT-B-32")
    model.save(tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"does not fit model\.json"):
        load(tmp_path / "m")
    weights.write_bytes(whole)
    content = json.loads((tmp_path / "m" / "model.json").read_text())
    (tmp_path / "m" / "model.json").write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(ModelError, match="has format 99, this version reads 2; update frugalclip"):
        load(tmp_path / "m")
    (tmp_path / "m" / "model.json").write_text(json.dumps(content | {"format": 1}))
    with pytest.raises(
        ModelError, match="has format 1, this version reads 2; train or import the model again"
    ):
        load(tmp_path / "m")
    with pytest.raises(ModelError, match="expected \\(batch, 3, height, width\\)"):
        model.encode_image(torch.zeros(4, 4))


def test_an_encoder_of_pictures_alone_is_a_model_without_texts(tmp_path: Path):
    for source in (timm_source(tmp_path), vision_source(tmp_path / "dino")):
        backbone, model = image_backbone(source, {}), load(source)
        image = photo("teal", (50, 40))
        output = backbone(backbone.preprocess(image)).pooled
        torch.testing.assert_close(model.encode_image(image, normalize=False), output)
        torch.testing.assert_close(model.encode_image([image]), torch.nn.functional.normalize(output, dim=1))
        assert (model.reads, model.dim, model.preprocess) == ("images", backbone.width, backbone.preprocess)
        with pytest.raises(
            ModelError,
            match=r"this model encodes .* and no texts; give one with two towers, or train a text tower",
        ):
            model.encode_text("teal")
        model.save(tmp_path / "saved")
        again = load(tmp_path / "saved")
        assert again.reads == "images" and again.fingerprint == model.fingerprint == load(source).fingerprint
        assert torch.equal(again.encode_image(image), model.encode_image(image))


def test_encoders_of_texts_alone_are_no_models_and_say_where_they_belong(tmp_path: Path):
    with pytest.raises(
        ModelError,
        match=r"of type 'bert', expected clip or siglip, or .*'frugalclip embed' and model\.text\.from",
    ):
        load(bert_source(tmp_path / "bert"))
    with pytest.raises(
        ModelError,
        match=r"'package:minilm' is no image backbone; Known: package:efficientnet-lite0\.",
    ):
        load("package:minilm")
    with pytest.raises(ModelError, match=r"names no file; write timm:NAME@FILE"):
        load("timm:resnet50")


def test_schemes_of_foreign_models_are_known_and_others_are_not(tmp_path: Path):
    with pytest.raises(
        ModelError,
        match=r"'openclip:' is not a known format; did you mean 'open_clip'\? Known: hf, open_clip",
    ):
        load("openclip:ViT-B-32@x.pt")
    with pytest.raises(ModelError, match="nothing is not a folder"):
        load(f"hf:{tmp_path}/nothing")
    with pytest.raises(ModelError, match=r"write open_clip:ARCH@FILE"):
        load("open_clip:ViT-B-32")


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
