"""Runs on pretrained backbones: a store replaces the backbone; checkpoints hold the head and its name."""

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import frugalclip
from frugalclip.core.errors import DataError, InUseError, ModelError, RecipeError
from frugalclip.core.locks import writing
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.records import RunDirectory
from frugalclip.core.types import CachedFeatures, Strings
from frugalclip.data.ledger import read_ledger
from frugalclip.features import backbone_stores
from frugalclip.features.backbone import BackboneEncoder
from frugalclip.features.embed import Embedded, embed_manifest
from frugalclip.features.store import Store
from frugalclip.loading.views import ViewConfig
from frugalclip.sources.open import open_data
from frugalclip.towers.heads.kernel_ridge import KernelRidge, KernelRidgeConfig
from frugalclip.towers.pretrained import PretrainedTower
from frugalclip.training.feature_cache import StoredViews
from frugalclip.training.loop import Silent, train_run
from frugalclip.training.recipe import validate_recipe
from frugalclip.training.run import Run, open_run

from ..backbones.tiny_backbones import (
    BERT_WIDTH,
    LLAMA_WIDTH,
    TIMM_WIDTH,
    VISION_WIDTH,
    bert_source,
    image_backbone,
    llama_source,
    text_backbone,
    text_tokenizer,
    timm_source,
    vision_source,
)

HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
FITTED = {
    "model": {
        "image": {"head": {"kind": "whitening"}},
        "text": {"head": {"kind": "kernel_ridge", "train": True}},
    }
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRUGALCLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "backbones"


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("backbones")
    return timm_source(folder), bert_source(folder / "bert")


def pairs(folder: Path, *, rows: int = 24, broken: tuple[int, ...] = (), prefix: str = "") -> Path:
    """Pictures of 32 x 32, which no view has to resample, with one of two captions each."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in range(rows):
        noise = np.random.default_rng(row).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{prefix}{row:02}.png")
        if row in broken:
            (folder / f"{prefix}{row:02}.png").write_bytes(b"no picture")
        colours = ["red", "green", "blue", "grey"]
        captions = [f"{colours[row % 4]} above {colours[row // 4 % 4]}", f"a {colours[row % 4]} square"]
        lines.append(
            json.dumps({"id": f"{prefix}{row}", "image": f"{prefix}{row:02}.png", "captions": captions})
        )
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return folder / "pairs.jsonl"


def merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        result[key] = (
            merged(result[key], value)
            if isinstance(value, Mapping) and isinstance(result.get(key), dict)
            else value
        )
    return result


def recipe_of(data: Path, backbones: tuple[str, str], *changes: Mapping[str, Any]) -> dict[str, Any]:
    image = {"kind": "pretrained", "from": backbones[0], "width": TIMM_WIDTH, "resolution": 32}
    text = {"kind": "pretrained", "from": backbones[1], "width": BERT_WIDTH, "options": {"context": 12}}
    content: dict[str, Any] = {
        "data": {"path": str(data), "validation": "none"},
        "model": {"image": image, "text": text, "dim": 8},
        "preprocess": HALF,
        "views": {"main": "none"},
        "texts": {"caption": {}},
        "objectives": {"contrastive": {"positives": "caption"}},
        "store": {"dtype": "float32"},
        "batch": 8,
        "steps": 5,
        "precision": "fp32",
        "evaluation": {"points": 1},
        "optimizer": {"lr": 3e-3},
    }
    for change in changes:
        content = merged(content, change)
    return content


def go(out: Path, content: dict[str, Any], **options: Any) -> RunDirectory:
    run = RunDirectory(out)
    train_run(validate_recipe(content), open_data(content["data"]["path"]), run, **options)
    return run


def vectors_of(store: Store | None) -> dict[str, np.ndarray]:
    assert store is not None
    return dict(zip(store.ids, store.ragged("text", range(len(store))).values.numpy(), strict=True))


def built(out: Path, content: dict[str, Any]) -> Run:
    return open_run(validate_recipe(content), open_data(content["data"]["path"]), RunDirectory(out))


def saved(run: RunDirectory, name: str = "model") -> dict[str, Tensor]:
    return load_file(run.last_checkpoint() / f"{name}.safetensors")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Embedded]:
    """What every embedding took, in chunks of 8 rows."""
    done: list[Embedded] = []

    def embed(*arguments: Any, **options: Any) -> Embedded:
        done.append(embed_manifest(*arguments, **options | {"chunk_rows": 8}))
        return done[-1]

    monkeypatch.setattr(backbone_stores, "embed_manifest", embed)
    return done


def test_a_frozen_backbone_is_in_no_state_and_its_name_is_in_the_model(
    tmp_path: Path, backbones: tuple[str, str]
):
    own = built(tmp_path / "unused", recipe_of(pairs(tmp_path / "data"), backbones))
    assert {name.rpartition("head.")[0] for name in own.stage.network.state_dict()} == {"image.", "text.", ""}
    towers = own.stage.network.pretrained_towers()
    in_optimiser = {id(p) for group in own.stage.optimizer.param_groups for p in group["params"]}
    assert in_optimiser and not in_optimiser & {
        id(p) for tower in towers.values() for p in tower.attached.parameters()
    }
    run = go(tmp_path / "run", recipe_of(tmp_path / "data" / "pairs.jsonl", backbones))
    assert saved(run).keys() == own.stage.network.state_dict().keys()
    assert all("head" in name or "log_scale" in name for name in saved(run, "optimizer"))
    content = json.loads((run.last_checkpoint() / "model.json").read_text())
    assert content["architecture"]["backbones"] == {side: tower.fingerprint for side, tower in towers.items()}


def test_a_store_gives_the_weights_that_the_backbone_at_each_step_gives(
    tmp_path: Path, backbones: tuple[str, str]
):
    content = recipe_of(pairs(tmp_path / "data"), backbones)
    stored, live = (
        go(tmp_path / "stored", content),
        go(tmp_path / "live", merged(content, {"store": {"images": False}})),
    )
    one, two = saved(stored), saved(live)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=2e-5, rtol=1e-4)
    losses = [[row["loss"] for row in run.rows()] for run in (stored, live)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    parts = go(tmp_path / "parts", merged(content, {"micro_batch": 4}))
    for name, value in saved(parts).items():
        torch.testing.assert_close(value, one[name], atol=2e-5, rtol=1e-4)


def test_heads_are_fitted_without_a_store_to_what_they_are_fitted_to_with_one(
    tmp_path: Path, backbones: tuple[str, str]
):
    content = recipe_of(pairs(tmp_path / "data"), backbones, FITTED)
    stored, live = (
        saved(go(tmp_path / name, merged(content, {"store": {"images": name == "stored"}})))
        for name in ("stored", "live")
    )
    fitted = [name for name in stored if name.endswith(("head.mean", "head.centre", "head.anchors"))]
    assert len(fitted) == 4
    for name in fitted:
        torch.testing.assert_close(live[name], stored[name], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("heads", [{}, FITTED])
def test_a_checkpoint_encodes_the_same_after_the_store_is_deleted(
    tmp_path: Path, backbones: tuple[str, str], heads: dict[str, Any], cache: Path
):
    data = pairs(tmp_path / "data")
    result = train_run(
        validate_recipe(recipe_of(data, backbones, heads)), open_data(data), RunDirectory(tmp_path / "run")
    )
    manifest, texts = open_data(data), ["red above blue", "a white square beside a square"]
    before = result.model.image_features(manifest).features, result.model.encode_text(texts)
    shutil.rmtree(cache)
    loaded = frugalclip.load(tmp_path / "run")
    assert loaded.fingerprint == result.model.fingerprint
    torch.testing.assert_close(loaded.image_features(manifest).features, before[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(loaded.encode_text(texts), before[1], atol=1e-5, rtol=1e-4)
    photo = Image.open(tmp_path / "data" / "03.png")
    torch.testing.assert_close(loaded.encode_image(photo), before[0][3:4], atol=1e-5, rtol=1e-4)
    output = loaded.network.pretrained_towers()["image"].run_backbone(loaded.preprocess(photo)).pooled
    torch.testing.assert_close(
        loaded.encode_image(CachedFeatures(output)), before[0][3:4], atol=1e-5, rtol=1e-4
    )


def test_two_encoders_side_by_side_give_the_features_of_each_alone(
    tmp_path: Path, backbones: tuple[str, str]
):
    other = bert_source(tmp_path / "other", seed=1)
    both = {
        "from": [backbones[1], other],
        "width": 2 * BERT_WIDTH,
        "options": [{"context": 12}, {"context": 9, "pool": "first"}],
    }
    head = {"kind": "kernel_ridge", "parts": [BERT_WIDTH, BERT_WIDTH], "sharpness": [1, 0.5], "novelty": 0.1}
    content = recipe_of(
        pairs(tmp_path / "data"), backbones, FITTED, {"model": {"text": both | {"head": head}}}
    )
    run = go(tmp_path / "run", content)
    loaded, texts = (
        frugalclip.load(run.path),
        ["red above blue", "a long text about a white square beside another square"],
    )
    output = loaded.network.pretrained_towers()["text"].run_backbone(loaded.tokenizer.encode(texts)).pooled
    for part, source, options in zip(
        output.split(BERT_WIDTH, dim=1), both["from"], both["options"], strict=True
    ):
        alone = text_backbone(source, options)(text_tokenizer(source, options).encode(texts)).pooled
        torch.testing.assert_close(part, alone, atol=1e-6, rtol=1e-5)
    photo = loaded.encode_image(Image.new("RGB", (32, 32)))
    assert photo[0, -1] > 0 and (loaded.encode_text(texts)[:, -1] > 0).all()
    with pytest.raises(
        RecipeError,
        match=r"head\.novelty of a text head needs .* set model\.image\.head\.kind=whitening, or novelty=0",
    ):
        built(tmp_path / "no", merged(content, {"model": {"image": {"head": {"kind": "mlp"}}}}))


def test_descriptors_counts_and_names_of_classes_are_in_the_fit_and_in_what_is_loaded(tmp_path: Path):
    tensors = load_file(timm_source(tmp_path).partition("@")[2])
    tensors["fc.weight"] = torch.randn(1000, TIMM_WIDTH, generator=torch.Generator().manual_seed(0))
    tensors["fc.bias"] = torch.zeros(1000)
    save_file(tensors, tmp_path / "imagenet.safetensors")
    sources = f"timm:test_resnet@{tmp_path}/imagenet.safetensors", bert_source(tmp_path / "bert")
    image = {
        "descriptors": ["colours", "layout"],
        "width": TIMM_WIDTH + 256,
        "head": {"kind": "whitened_parts", "parts": [TIMM_WIDTH, 64, 192], "weights": [1, 0.5, 0.5]},
    }
    text = {
        "from": [sources[1], "hashed:words"],
        "options": [{"context": 12}, {"width": 32}],
        "width": BERT_WIDTH + 32,
        "head": {"kind": "kernel_ridge", "parts": [BERT_WIDTH, 32], "sharpness": [1, 0.25], "classes": 0.3},
    }
    changes = {"model": {"image": image, "text": text}}
    content = recipe_of(pairs(tmp_path / "data"), sources, changes)
    run = go(tmp_path / "run", content)
    network = built(tmp_path / "again", content).model.network
    head = network.pretrained_towers()["text"].head
    assert isinstance(head, KernelRidge) and len(head.anchors) == 20 + 1000  # texts of the data, and names
    model = frugalclip.load(tmp_path / "run")
    towers = model.network.pretrained_towers()
    pictures = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert towers["image"].run_backbone(pictures).pooled.shape == (2, TIMM_WIDTH + 256)
    words = ["red above blue", "a zebra"]
    texts = towers["text"].run_backbone(model.tokenizer.encode(words)).pooled
    assert torch.equal(
        texts[:, BERT_WIDTH:], text_backbone("hashed:words", {"width": 32})(Strings(tuple(words))).pooled
    )
    torch.testing.assert_close(saved(run)["text.head.anchors"], head.anchors)
    assert model.encode_text(words).isfinite().all() and model.encode_image(pictures).isfinite().all()


def test_caption_words_need_captions_with_words(tmp_path: Path, backbones: tuple[str, str]):
    content = recipe_of(
        pairs(tmp_path / "data"), backbones, {"model": {"image": {"head": {"kind": "caption_words"}}}}
    )
    with pytest.raises(
        RecipeError,
        match=r"gives images the words of captions; set model\.text\.head\.kind=lexical over a frozen text",
    ):
        built(tmp_path / "run", content)


def test_an_exchanged_backbone_is_refused_by_the_model_and_by_a_run_that_goes_on(tmp_path: Path):
    folder = tmp_path / "own"
    folder.mkdir()
    own = timm_source(folder), bert_source(folder / "bert")
    content = recipe_of(pairs(tmp_path / "data"), own)
    run = go(tmp_path / "run", content)
    Path(timm_source(tmp_path, seed=1).partition("@")[2]).replace(own[0].partition("@")[2])
    with pytest.raises(
        ModelError,
        match=r"is not the backbone that this model's image head was trained on .* or train the head again",
    ):
        frugalclip.load(tmp_path / "run").encode_image(Image.new("RGB", (32, 32)))
    with pytest.raises(
        ModelError,
        match=r"was trained on image backbone \w+, and timm:test_resnet@.* restore its files, or train anew",
    ):
        go(run.path, merged(content, {"steps": 9}), resume=True)


@pytest.mark.parametrize("tune", ["all", ["module.layer4.*"]])
def test_a_tuned_convolutional_backbone_is_saved_and_read_again(
    tmp_path: Path, backbones: tuple[str, str], tune: Any
):
    content = recipe_of(pairs(tmp_path / "data"), backbones, {"model": {"image": {"tune": tune}}})
    run = go(tmp_path / "run", content)
    model, photo = frugalclip.load(run.path), Image.open(tmp_path / "data" / "03.png")
    assert model.fingerprint == json.loads((run.last_checkpoint() / "model.json").read_text())["fingerprint"]
    assert torch.isfinite(model.encode_image(photo)).all()


@pytest.mark.parametrize(
    ("change", "trained"),
    [
        ({}, []),
        (
            {"tune": ["module.encoder.layer.1.*", "module.layernorm.*"]},
            ["module.encoder.layer.1.", "module.layernorm."],
        ),
        ({"tune": "all"}, ["module."]),
        (
            {"lora": {"rank": 2, "targets": ["*q_proj", "*v_proj"]}},
            [],
        ),  # what is added has no counterpart in the original
    ],
    ids=["frozen", "partly", "all", "lora"],
)
def test_an_image_encoder_of_hugging_face_is_a_backbone_like_any_other(
    tmp_path: Path, backbones: tuple[str, str], cache: Path, change: dict[str, Any], trained: list[str]
):
    source, data = vision_source(tmp_path / "dino"), pairs(tmp_path / "data")
    content = recipe_of(data, (source, backbones[1]), {"model": {"image": {"width": VISION_WIDTH, **change}}})
    run = go(tmp_path / "run", content)
    assert len(list(cache.glob("images-*"))) == (1 if not change else 0)
    model, untuned = frugalclip.load(run.path), image_backbone(source, {})
    assert model.fingerprint == json.loads((run.last_checkpoint() / "model.json").read_text())["fingerprint"]
    attached = model.network.pretrained_towers()["image"].attached
    found = {name.replace(".base.", "."): parameter for name, parameter in attached.named_parameters()}
    moved = {
        name for name, parameter in untuned.named_parameters() if not torch.equal(found[name], parameter)
    }
    assert moved == {name for name in found if name.startswith(tuple(trained))}
    pixels = model.preprocess(Image.open(tmp_path / "data" / "03.png"))
    assert torch.equal(attached(pixels).pooled, untuned(pixels).pooled) == (not change)
    assert any("backbone" in name for name in saved(run)) == bool(change)


def test_a_step_larger_than_the_data_is_refused_before_a_backbone_reads_it(
    tmp_path: Path, backbones: tuple[str, str], written: list[Embedded]
):
    with pytest.raises(DataError, match="has 24 usable samples, and one step takes 32; set batch=16 or less"):
        go(tmp_path / "run", recipe_of(pairs(tmp_path / "data"), backbones, {"batch": 32}))
    assert not written


def test_options_without_effect_are_refused(tmp_path: Path, backbones: tuple[str, str]):
    run = go(tmp_path / "run", recipe_of(pairs(tmp_path / "data"), backbones))
    for side in ("image", "text"):
        change = {"model": {side: {"from": str(run.path), "options": {"stages": True}}}}
        with pytest.raises(
            RecipeError,
            match=rf"model\.{side}\.options \(.*stages\) have no effect on .*run, which has no options",
        ):
            go(tmp_path / side, recipe_of(tmp_path / "data" / "pairs.jsonl", backbones, change))


def test_a_second_run_computes_no_chunk_again(
    tmp_path: Path, backbones: tuple[str, str], written: list[Embedded]
):
    content = recipe_of(pairs(tmp_path / "data"), backbones)
    built(tmp_path / "a", content)
    assert [(done.computed, done.reused) for done in written] == [(3, 0), (3, 0)]  # 24 pictures and 20 texts
    built(tmp_path / "b", merged(content, {"batch": 4, "seed": 7, "optimizer": {"lr": 1.0}}))
    assert [(done.computed, done.reused) for done in written[2:]] == [(0, 3), (0, 3)]
    built(
        tmp_path / "c",
        merged(
            content, {"model": {"image": {"head": {"hidden": 5}}}, "texts": {"caption": {"pick": "first"}}}
        ),
    )
    assert [(done.computed, done.reused) for done in written[4:]] == [(0, 3), (0, 3)]


def test_a_run_that_fills_a_store_holds_it(
    tmp_path: Path, backbones: tuple[str, str], monkeypatch: pytest.MonkeyPatch
):
    held: list[str] = []
    fill = backbone_stores.embed_manifest

    def tried(encoder: Any, rows: Any, folder: Path, **options: Any) -> Embedded:
        with pytest.raises(InUseError), writing(folder):
            pass
        held.append(options["what"])
        return fill(encoder, rows, folder, **options)

    monkeypatch.setattr(backbone_stores, "embed_manifest", tried)
    built(tmp_path / "a", recipe_of(pairs(tmp_path / "data"), backbones))
    assert held == ["images", "texts"]


def test_texts_that_another_store_holds_are_not_read_again(
    tmp_path: Path, backbones: tuple[str, str], monkeypatch: pytest.MonkeyPatch
):
    read: list[str] = []
    run_backbone = PretrainedTower.run_backbone

    def counting(self: PretrainedTower, inputs: Any, **options: Any) -> Any:
        read.extend([""] * len(inputs) if self.side == "text" else [])
        return run_backbone(self, inputs, **options)

    monkeypatch.setattr(PretrainedTower, "run_backbone", counting)
    first = built(tmp_path / "a", recipe_of(pairs(tmp_path / "one", rows=8), backbones))
    held = vectors_of(first.inputs.stores.texts)
    assert len(read) == len(held)
    read.clear()
    second = built(tmp_path / "b", recipe_of(pairs(tmp_path / "two", rows=24), backbones))
    more = vectors_of(second.inputs.stores.texts)
    assert len(read) == len(more.keys() - held.keys()) > 0
    assert held.keys() & more.keys() and all(
        np.array_equal(held[text], more[text]) for text in held.keys() & more.keys()
    )


def test_a_killed_embedding_computes_one_chunk_again_and_gives_the_same_bytes(
    tmp_path: Path, backbones: tuple[str, str], written: list[Embedded], monkeypatch: pytest.MonkeyPatch
):
    def files(folder: Path) -> dict[str, bytes]:
        return {
            str(file.relative_to(folder)): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }

    data, encode, calls = pairs(tmp_path / "data"), BackboneEncoder.encode_image, []

    def stopping(self: BackboneEncoder, images: Tensor, *, normalize: bool = True) -> Tensor:
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, images, normalize=normalize)

    monkeypatch.setattr(BackboneEncoder, "encode_image", stopping)
    with pytest.raises(KeyboardInterrupt):
        built(tmp_path / "a", recipe_of(data, backbones, {"store": {"path": str(tmp_path / "cut")}}))
    with pytest.raises(DataError, match="is not finished"):
        Store.open(tmp_path / "cut" / "images")
    built(tmp_path / "a", recipe_of(data, backbones, {"store": {"path": str(tmp_path / "cut")}}))
    assert (written[0].computed, written[0].reused) == (1, 2) and calls == [8, 8, 8, 8]
    built(tmp_path / "a", recipe_of(data, backbones, {"store": {"path": str(tmp_path / "whole")}}))
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_other_views_and_other_preprocessing_have_their_own_store(
    tmp_path: Path, backbones: tuple[str, str], written: list[Embedded], cache: Path
):
    content = recipe_of(pairs(tmp_path / "data"), backbones)
    own: list[Mapping[str, Any]] = [
        {},
        {"store": {"views": 3}},
        {"store": {"views": 3}, "views": {"main": {"flip": 0.5}}},
    ]
    own += [{"preprocess": {"resize": "squash"}}, {"store": {"dtype": "float16"}}]
    for change in own:
        built(tmp_path / "unused", merged(content, change))
    assert (
        len(list(cache.glob("images-*"))) == 5 and len(list(cache.glob("texts-*"))) == 2
    )  # texts differ in their type alone
    assert len({done.store.path for done in written[::2]}) == 5
    fixed = merged(content, {"store": {"path": str(tmp_path / "fixed")}})
    built(tmp_path / "unused", fixed)
    with pytest.raises(DataError, match=r"settings\.views.* give another folder"):
        built(tmp_path / "unused", merged(fixed, {"store": {"views": 2}}))


def test_pictures_of_another_data_set_are_not_read_again_but_only_from_a_store_as_exact(
    tmp_path: Path, backbones: tuple[str, str], monkeypatch: pytest.MonkeyPatch
):
    calls, encode = [], BackboneEncoder.encode_image
    monkeypatch.setattr(
        BackboneEncoder,
        "encode_image",
        lambda self, images, **options: calls.append(len(images)) or encode(self, images, **options),
    )
    first, larger = pairs(tmp_path / "a"), pairs(tmp_path / "b", rows=30, prefix="other-")
    built(tmp_path / "unused", recipe_of(first, backbones, {"store": {"dtype": "float16"}}))
    calls.clear()
    exact = built(tmp_path / "unused", recipe_of(larger, backbones))
    assert sum(calls) == 30  # what was rounded is no source of float32
    calls.clear()
    rounded = built(tmp_path / "unused", recipe_of(larger, backbones, {"store": {"dtype": "float16"}}))
    assert sum(calls) == 0
    a, b = (one.inputs.loader.stored.views(np.arange(30)) for one in (exact, rounded))
    torch.testing.assert_close(a.half().float(), b, atol=1e-3, rtol=1e-3)
    assert torch.equal(a[24:].half().float(), b[24:])
    calls.clear()
    found = exact.model.image_features(open_data(first)).features  # by their bytes
    assert len(found) == 24 and not calls


def test_broken_pictures_are_counted_in_the_ledger_of_the_run(tmp_path: Path, backbones: tuple[str, str]):
    content = recipe_of(
        pairs(tmp_path / "data", broken=(2, 17)), backbones, {"data": {"max_error_fraction": 0.2}}
    )
    run = go(tmp_path / "run", content)
    dropped = {row["id"]: row["reason"] for row in read_ledger(run.ledger).to_pylist() if row["reason"]}
    assert dropped == {"2": "not-an-image", "17": "not-an-image"}


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_the_first_view_is_that_of_evaluation_and_the_others_depend_on_the_id_alone():
    preprocess, config = Preprocess(size=24), ViewConfig(crop_scale=(0.3, 0.6), flip=0.5)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    made = StoredViews(preprocess, config, number=4)
    views = made(png(photo), "a")
    assert views.shape == (4, 3, 24, 24) and torch.equal(views[:1], preprocess(photo))
    assert torch.equal(made(png(photo), "a"), views) and torch.equal(
        StoredViews(preprocess, config, number=6)(png(photo), "a")[:4], views
    )
    others = made(png(photo), "b")
    assert torch.equal(others[0], views[0])
    different = [others[1:], views[[2, 3, 1]]]
    assert all(not torch.equal(views[1 + i], one[i]) for one in different for i in range(3))
    smooth = photo.resize((6, 4)).resize((60, 40))
    plain = StoredViews(preprocess, ViewConfig.model_validate("none"), number=2)(png(smooth), "a")
    assert float((plain[1] - plain[0]).abs().mean()) < 0.02  # cut as evaluation cuts, by another path


def test_several_views_are_drawn_in_training_and_evaluation_sees_the_first(
    tmp_path: Path, backbones: tuple[str, str]
):
    content = recipe_of(
        pairs(tmp_path / "data"),
        backbones,
        {"store": {"views": 3}, "views": {"main": {"crop_scale": [0.3, 0.6]}}},
    )
    own = built(tmp_path / "unused", content)
    single = built(tmp_path / "unused", recipe_of(tmp_path / "data" / "pairs.jsonl", backbones))
    every, first = (
        own.inputs.loader.stored.views(np.arange(24)).view(24, 3, -1),
        single.inputs.loader.stored.views(np.arange(24)),
    )
    torch.testing.assert_close(every[:, 0], first, atol=1e-5, rtol=1e-4)
    assert float((every[:, 1] - first).abs().mean()) > 1e-3
    ((_, evaluated),) = own.model.image_inputs(
        open_data(tmp_path / "data" / "pairs.jsonl"), batch=24, faults=[]
    )
    assert torch.equal(evaluated.values, every[:, 0])


class Killed(Silent):
    """Stops a run in the middle of a step's record."""

    def row(self, row: dict[str, Any]) -> None:
        if row["step"] == 3:
            raise RuntimeError("killed")


@pytest.mark.parametrize(
    "change", [FITTED, {"model": {"image": {"lora": {"rank": 2, "targets": ["*fc1", "*fc2"]}}}}]
)
def test_resuming_equals_not_having_stopped(
    tmp_path: Path, backbones: tuple[str, str], change: dict[str, Any]
):
    content = recipe_of(
        pairs(tmp_path / "data"), backbones, change, {"steps": 6, "evaluation": {"points": 3}}
    )
    if change is not FITTED:
        vit = timm_source(tmp_path, name="test_vit")
        content = merged(content, {"model": {"image": {"from": vit, "width": 64, "resolution": 160}}})
    whole = go(tmp_path / "whole", content)
    with pytest.raises(RuntimeError, match="killed"):
        go(tmp_path / "cut", content, listener=Killed())
    cut = go(tmp_path / "cut", content, resume=True)
    for name in ("model", "optimizer"):
        one, two = saved(whole, name), saved(cut, name)
        assert one.keys() == two.keys() and one
        assert not [key for key in one if not torch.equal(one[key], two[key])]
    assert [row["loss"] for row in whole.rows()] == [row["loss"] for row in cut.rows()]
    moved = [name for name in saved(whole, "optimizer") if name.endswith("exp_avg")]
    assert (
        any("text.head.weight" in name for name in moved)
        if change is FITTED
        else any(".down" in name for name in moved)
    )


def test_fitted_heads_begin_where_the_closed_form_puts_them(tmp_path: Path, backbones: tuple[str, str]):
    own = built(tmp_path / "unused", recipe_of(pairs(tmp_path / "data"), backbones, FITTED))
    assert own.notes[-2:] == [
        "the image head is fitted to 24 pictures",
        "the text head is fitted to 20 texts",
    ]
    with torch.no_grad():
        images = own.stage.network.image(
            CachedFeatures(own.inputs.loader.stored.mean(np.arange(24)))
        ).embedding  # (24, 8)
    torch.testing.assert_close(images.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
    captions = own.data.training.captions()
    texts = sorted({text for row in captions for text in row})
    drawn = torch.tensor(
        [[0.5 * row.count(text) for row in captions] for text in texts]
    )  # (texts, 24) times an epoch
    expected = KernelRidgeConfig(kind="kernel_ridge").build(width=BERT_WIDTH, dim=8)
    output = (
        own.stage.network.pretrained_towers()["text"].run_backbone(own.model.tokenizer.encode(texts)).pooled
    )
    expected.fit_to(output, drawn @ images / drawn.sum(1, keepdim=True), drawn.sum(1))
    torch.testing.assert_close(
        own.model.encode_text(texts, normalize=False), expected(output), atol=1e-4, rtol=1e-3
    )


def test_a_run_of_our_own_is_a_backbone(
    tmp_path: Path, backbones: tuple[str, str], small_recipe: dict[str, Any], squares: Path
):
    go(
        tmp_path / "base",
        small_recipe | {"data": {"path": str(squares)}, "steps": 2, "evaluation": {"points": 1}},
    )
    base, source = frugalclip.load(tmp_path / "base"), str(tmp_path / "base")
    image, text = (
        {"kind": "pretrained", "from": source, "width": 32, "resolution": 16},
        {"kind": "pretrained", "from": source, "width": 32},
    )
    content = small_recipe | {
        "data": {"path": str(squares)},
        "model": {"image": image, "text": text, "dim": 8},
        "store": {"dtype": "float32"},
    }
    run = go(tmp_path / "run", content)
    loaded = frugalclip.load(tmp_path / "run")
    assert loaded.tokenizer.fingerprint() == base.tokenizer.fingerprint()
    photo, words = Image.new("RGB", (20, 20), "red"), ["red beside blue"]
    with torch.no_grad():
        pooled = base.network.image(base.preprocess(photo)).pooled
        expected = (
            loaded.network.image.head(pooled),
            loaded.network.text.head(base.network.text(base.tokenizer.encode(words)).pooled),
        )
    torch.testing.assert_close(loaded.encode_image(photo, normalize=False), expected[0])
    torch.testing.assert_close(loaded.encode_text(words, normalize=False), expected[1])
    content = json.loads((run.last_checkpoint() / "model.json").read_text())
    assert content["architecture"]["backbones"] == dict.fromkeys(("image", "text"), base.fingerprint)


BLOCK = ["module.layers.1.*"]  # the last that is read: layer -2 of three
LORA = {"rank": 2, "targets": ["*q_proj", "*v_proj"]}


@pytest.mark.parametrize(
    ("how", "moving"),
    [({"tune": "all"}, ""), ({"tune": BLOCK}, "layers.1."), ({"lora": LORA}, ("q_proj.", "v_proj."))],
)
def test_a_tuned_language_model_trains_what_is_named_goes_on_and_is_read_again(
    tmp_path: Path, backbones: tuple[str, str], how: dict[str, Any], moving: str | tuple[str, ...]
):
    content = recipe_of(pairs(tmp_path / "data"), backbones, {"steps": 6, "evaluation": {"points": 3}})
    options = {"caption_tokens": 20}
    content["model"]["text"] = {
        "kind": "pretrained",
        "from": llama_source(tmp_path / "llama"),
        "width": LLAMA_WIDTH,
        "options": options,
    } | how
    started = {
        name: value.clone()
        for name, value in built(tmp_path / "unused", content).stage.network.state_dict().items()
    }
    result = train_run(
        validate_recipe(content),
        open_data(content["data"]["path"]),
        whole := RunDirectory(tmp_path / "whole"),
    )
    with pytest.raises(RuntimeError, match="killed"):
        go(tmp_path / "cut", content, listener=Killed())
    cut = go(tmp_path / "cut", content, resume=True)
    for name in ("model", "optimizer"):
        one, two = saved(whole, name), saved(cut, name)
        assert one.keys() == two.keys() and not [key for key in one if not torch.equal(one[key], two[key])]
    ended = saved(whole)
    of_trunk = {name for name in ended if name.startswith("text.backbone.")}
    moved = {name for name in of_trunk if not torch.equal(ended[name], started[name])}
    expected = {
        name
        for name in of_trunk
        if any(part in name for part in ([moving] if isinstance(moving, str) else moving))
    }
    assert (
        moved == {name for name in expected if "lora" not in how or name.endswith((".up", ".down"))} and moved
    )
    texts, loaded = ["red above blue", "a white square beside a square"], frugalclip.load(tmp_path / "whole")
    output = loaded.encode_text(texts)
    torch.testing.assert_close(result.model.encode_text(texts), output, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        torch.cat([loaded.encode_text(text) for text in texts]), output, atol=1e-5, rtol=1e-4
    )
    assert loaded.fingerprint == result.model.fingerprint == frugalclip.load(tmp_path / "cut").fingerprint


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_tuned_language_model_has_the_gradient_of_the_whole_batch_in_parts(
    tmp_path: Path, backbones: tuple[str, str], precision: str
):
    content = recipe_of(pairs(tmp_path / "data"), backbones, {"steps": 2, "precision": precision})
    text = {
        "from": llama_source(tmp_path / "llama"),
        "width": LLAMA_WIDTH,
        "options": {"caption_tokens": 20},
        "tune": "all",
    }
    content["model"]["text"] = {"kind": "pretrained"} | text
    whole, parts = (
        go(tmp_path / name, merged(content, change))
        for name, change in (("whole", {}), ("parts", {"micro_batch": 4}))
    )
    losses = [[row["loss"] for row in run.rows()] for run in (whole, parts)]
    np.testing.assert_allclose(*losses, rtol=1e-4 if precision == "fp32" else 3e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"preprocess": {"mean": [0.4, 0.5, 0.5]}},
            r"set preprocess\.mean=\[0\.5, 0\.5, 0\.5\] preprocess\.std=",
        ),
        ({"preprocess": {"mean": [0.4, 0.5, 0.5]}, "store": {"images": False}}, r"set preprocess\.mean="),
        (
            {"preprocess": {"mean": [0.4, 0.5, 0.5]}, "model": {"image": {"tune": "all"}}},
            r"set preprocess\.mean=",
        ),
        ({"model": {"image": {"width": 97}}}, r"gives vectors of 96; set model\.image\.width=96"),
        ({"model": {"text": {"width": 7}}}, r"gives vectors of 24; set model\.text\.width=24"),
        (
            {"objectives": {"masked_text": {"weight": 1}}},
            "an objective predicts masked words, which a pretrained text tower does not support",
        ),
        (
            merged(FITTED, {"model": {"text": {"tune": "all"}}}),
            r"leave model\.text\.tune and model\.text\.lora out",
        ),
        ({"store": {"views": 2}, "views": {"main": {"size": 16}}}, r"views\.NAME\.size is 16; leave it out"),
        (
            {"model": {"image": {"tune": ["*layer4.wieght"]}}},
            r"tune names '\*layer4\.wieght', which matches no parameter",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_settings_to_write(
    tmp_path: Path, backbones: tuple[str, str], change: dict[str, Any], message: str, recwarn: Any
):
    with pytest.raises(RecipeError, match=message):
        go(tmp_path / "run", recipe_of(pairs(tmp_path / "data", rows=8), backbones, change))


def test_a_plan_of_pretrained_towers_needs_none_of_their_libraries(monkeypatch: pytest.MonkeyPatch):
    for name in ("timm", "transformers"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    planned = frugalclip.plan("pretrained")
    assert {one.tower for one in planned.passes} == {"image", "text"} and planned.parameters["all"] >= 1
