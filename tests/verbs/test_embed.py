import json

import numpy as np
import pytest
from PIL import Image

from frugalclip.cli import main
from frugalclip.core.errors import DataError, FrugalclipError, ModelError
from frugalclip.core.preprocess import Preprocess
from frugalclip.data.manifest import image_places, make_manifest
from frugalclip.data.tokens import train_tokenizer
from frugalclip.features.store import Store
from frugalclip.models import Model, load
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.towers.pretrained import PretrainedTower
from frugalclip.verbs.embed import embed, show

from ..backbones.tiny_backbones import BERT_WIDTH, TIMM_WIDTH, bert_source, timm_source, vision_source
from ..training.test_feature_cache import go, pairs, recipe_of


@pytest.fixture
def checkpoint(tmp_path):
    tokenizer = train_tokenizer(["a red thing", "a blue thing"], vocabulary=1024, context=20)
    towers = {
        "image": {"width": 32, "depth": 1, "patch": 8, "resolution": 16},
        "text": {"width": 32, "depth": 1},
    }
    network = DualEncoder(
        ModelConfig.model_validate({**towers, "dim": 16}),
        vocabulary=tokenizer.vocabulary,
        context=tokenizer.context,
        seed=3,
    )
    Model(network, tokenizer, Preprocess(size=16)).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "my"
    data.mkdir()
    for i, colour in enumerate(("red", "blue", "green", "white", "black")):
        Image.new("RGB", (20, 30), colour).save(data / f"{i}.png")
        (data / f"{i}.txt").write_text(
            f"a {colour} thing"
            + (" that is described at great length in many unknown words" if i == 4 else "")
        )
    return data


def test_embeds_a_folder_and_says_what_is_in_the_store(checkpoint, folder, tmp_path, capsys):
    result = embed(checkpoint, folder, out=tmp_path / "store", dtype="int8", batch=2)
    show(result)
    out = capsys.readouterr().out
    error = result.store.head.summary["image"].error
    assert 0 < error.mean <= error.max
    row = next(line.split() for line in out.splitlines() if line.startswith("images "))
    assert row == ["images", "5", "16", "int8", f"{error.mean:.1e}", f"{error.max:.1e}", "0"]
    assert "captions longer than the model's context, cut at its end: 1\n" in out
    assert "chunks computed: 1, reused: 0" in out
    store = Store.open(tmp_path / "store")
    images = [Image.open(folder / f"{i}.png") for i in range(5)]
    expected = load(checkpoint).encode_image(images).numpy()
    order = [store.row_of(id) for id in sorted(store.ids)]
    np.testing.assert_allclose(store.vectors("image", order), expected, atol=0.01)


def test_started_again_it_reuses_what_is_there(checkpoint, folder, tmp_path, capsys):
    embed(checkpoint, folder, out=tmp_path / "store")
    show(embed(checkpoint, folder, out=tmp_path / "store"))
    assert "chunks computed: 0, reused: 1" in capsys.readouterr().out


def test_broken_pictures_are_printed(checkpoint, folder, tmp_path, capsys):
    (folder / "2.png").write_bytes((folder / "0.png").read_bytes()[:-30])
    show(embed(checkpoint, folder, out=tmp_path / "store"))
    assert "pictures without a vector: 1 (the image ends early; copy it again)" in capsys.readouterr().out


def test_data_without_captions_gives_pictures_only_and_says_so(checkpoint, folder, tmp_path, capsys):
    places = image_places([f"{i}.png" for i in range(3)])
    options = {"fields": {"label": ["cat", "dog", "cat"]}, "root": folder, "name": "bare"}
    make_manifest(ids=["a", "b", "c"], images=places, captions=[[], [], []], **options).write(
        folder / "bare.parquet"
    )
    result = embed(checkpoint, folder / "bare.parquet", out=tmp_path / "store", where="label=cat")
    show(result)
    assert "captions: none in this data, so none are stored" in capsys.readouterr().out
    assert result.store.head.origin.where == "label=cat"
    assert (result.store.ids, result.store.head.kinds) == (["a", "c"], ("image",))


def test_the_command_line_writes_the_same_store(checkpoint, folder, tmp_path, capsys):
    assert main(["embed", str(checkpoint), str(folder), "--out", str(tmp_path / "a")]) == 0
    embed(checkpoint, folder, out=tmp_path / "b")
    first, second = (json.loads((tmp_path / name / "store.json").read_text()) for name in "ab")
    assert first == second


def test_other_settings_are_refused_in_one_sentence(checkpoint, folder, tmp_path, capsys):
    embed(checkpoint, folder, out=tmp_path / "store")
    with pytest.raises(
        DataError,
        match=r"written with dtype float16, now requested is dtype float32; "
        "give another folder, such as .*-2, or delete",
    ):
        embed(checkpoint, folder, out=tmp_path / "store", dtype="float32")
    with pytest.raises(ModelError, match="there is no model at nowhere"):
        embed("nowhere", folder, out=tmp_path / "other")
    assert main(["embed", str(checkpoint), str(folder), "--out", str(folder)]) == 2
    assert "is there and is not a store; give an empty or new folder with --out" in capsys.readouterr().err


def test_an_encoder_of_one_modality_gives_vectors_that_can_teach(folder, tmp_path):
    with pytest.raises(DataError, match=r"reads texts, and --what is images; leave --what out"):
        embed(bert_source(tmp_path / "bert"), folder, out=tmp_path / "store", what="images")
    for kind, source, width in (
        ("text", bert_source(tmp_path / "bert"), BERT_WIDTH),
        ("image", timm_source(tmp_path), TIMM_WIDTH),
    ):
        store = embed(source, folder, out=tmp_path / kind).store
        assert {name: summary.shape for name, summary in store.head.summary.items()} == {kind: (width,)}
    with pytest.raises(DataError, match=r"reads images, and --what is texts; leave --what out"):
        embed(vision_source(tmp_path / "dino"), folder, out=tmp_path / "store", what="texts")
    store = embed(vision_source(tmp_path / "dino"), folder, out=tmp_path / "store", dtype="float32").store
    expected = (
        load(f"hf:{tmp_path}/dino").encode_image([Image.open(folder / f"{i}.png") for i in range(5)]).numpy()
    )
    np.testing.assert_allclose(
        store.vectors("image", [store.row_of(id) for id in sorted(store.ids)]), expected, atol=1e-5
    )
    again = embed(bert_source(tmp_path / "bert"), folder, out=tmp_path / "text")
    assert (again.computed, again.reused) == (0, 1)


def test_features_that_training_stored_are_not_computed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("FRUGALCLIP_CACHE", str(tmp_path / "cache"))
    data = pairs(tmp_path / "data", rows=16)
    backbones = timm_source(tmp_path), bert_source(tmp_path / "bert")
    go(tmp_path / "run", recipe_of(data, backbones))
    fresh = embed(tmp_path / "run", data, out=tmp_path / "fresh", dtype="float32").store
    calls = []
    run_backbone = PretrainedTower.run_backbone

    def counted(tower, inputs, **options):
        calls.append(len(inputs))
        return run_backbone(tower, inputs, **options)

    monkeypatch.setattr(PretrainedTower, "run_backbone", counted)
    again = embed(tmp_path / "run", data, out=tmp_path / "again", dtype="float32", centre=True).store
    assert calls == []  # not for the mean either
    monkeypatch.setenv("FRUGALCLIP_CACHE", str(tmp_path / "empty"))
    alone = embed(tmp_path / "run", data, out=tmp_path / "alone", dtype="float32").store
    assert sum(calls) > 0
    rows = list(range(16))
    for kind in ("image", "text"):
        assert (fresh.ragged(kind, rows).values - alone.ragged(kind, rows).values).abs().max() < 1e-5
        assert again.ragged(kind, rows).values.shape == alone.ragged(kind, rows).values.shape


def test_augmentations_are_announced_before_and_named_after(checkpoint, folder, tmp_path, capsys):
    words = ["embed", str(checkpoint), str(folder), "--out", str(tmp_path / "s"), "--augmentations", "3"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "about 15 image and 5 text vectors, 0.0 MB on disk" in out
    assert "augmentations of each image: 3, 16 pixels on a side; learn from them with" in out
    assert out.index("about 15 image") < out.index("augmentations of each")
    assert (Store.open(tmp_path / "s").counts("image") == 3).all()
    assert main(words) == 0
    again = capsys.readouterr().out
    assert "about" not in again and "chunks computed: 0, reused: 1" in again


def test_texts_of_a_field_stand_behind_the_captions(checkpoint, tmp_path):
    for i, colour in enumerate(("red", "blue")):
        Image.new("RGB", (20, 30), colour).save(tmp_path / f"{i}.png")
    rows = [
        {"image": "0.png", "caption": "a red thing", "generated": ["red", "all red"]},
        {"image": "1.png", "caption": "a blue thing", "generated": []},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = embed(checkpoint, tmp_path / "rows.jsonl", out=tmp_path / "s", captions=["generated"]).store
    assert store.counts("text").tolist() == [3, 1]
    expected = load(checkpoint).encode_text(["a red thing", "red", "all red", "a blue thing"])
    np.testing.assert_allclose(store.vectors("text").values, expected, atol=1e-3)
    with pytest.raises(DataError, match=r"caption_fields|from .* not from"):
        embed(checkpoint, tmp_path / "rows.jsonl", out=tmp_path / "s")
    with pytest.raises(DataError, match="has no field 'invented'"):
        embed(checkpoint, tmp_path / "rows.jsonl", out=tmp_path / "s2", captions=["invented"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"centre": True}, "--centre changes a teacher's vectors"),
        ({"what": "texts"}, "--augmentations are of images"),
        ({"view": "slipp"}, "'slipp' is not a view.*slip"),
        ({"view": "{crop_scale: [0.9, 2]}"}, "at most 1"),
        ({"view": "{contains: [main]}"}, "leave contains out"),
        ({"view": "{"}, "--view"),
        ({"augmentations": 0}, "augmentations.number"),
    ],
)
def test_augmentations_that_make_no_sense_are_a_sentence(checkpoint, folder, tmp_path, options, sentence):
    with pytest.raises(FrugalclipError, match=sentence):
        embed(checkpoint, folder, out=tmp_path / "s", **{"augmentations": 2, **options})
    assert not (tmp_path / "s" / "store.json").exists()
