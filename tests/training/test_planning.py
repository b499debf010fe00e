"""What a recipe costs follows from its settings."""

import json
from pathlib import Path
from typing import Any

import pytest

import frugalclip
from frugalclip.backbones.attach import attach_backbones, backbone_tokenizer
from frugalclip.backbones.packages import PACKAGES, package_path
from frugalclip.core.errors import MissingExtra, ModelError, RecipeError
from frugalclip.models import load
from frugalclip.sources.open import open_data
from frugalclip.towers.dual import DualEncoder
from frugalclip.training.planning import UNKNOWN, Plan, Reading, plan_recipe
from frugalclip.training.recipe import load_recipe, validate_recipe

from ..backbones.tiny_backbones import (
    BERT_WIDTH,
    LLAMA_WIDTH,
    VISION_WIDTH,
    bert_source,
    image_backbone,
    image_shape,
    llama_source,
    timm_source,
    vision_source,
)
from .test_feature_cache import built, pairs, recipe_of


def planned(*overrides: str) -> Plan:
    return plan_recipe(load_recipe("clip", overrides))


def test_the_gradient_cache_trades_memory_for_a_third_more_arithmetic():
    whole, parts = planned("batch=4096"), planned("batch=4096", "micro_batch=256")
    assert parts.memory_gb["activations"] == pytest.approx(whole.memory_gb["activations"] / 16)
    assert parts.gflops_per_sample / whole.gflops_per_sample == pytest.approx((3 + 15 / 16) / 3)
    assert planned("batch=64", "micro_batch=64").gflops_per_sample == planned("batch=64").gflops_per_sample


def test_logits_stop_growing_where_tiles_begin():
    small, large, larger = (planned(f"batch={n}").memory_gb["logits"] for n in (1024, 8192, 65536))
    assert small == pytest.approx(6 * 4 * 1024**2 * 1e-9) and large == larger


def test_kept_patches_teachers_and_episodes_are_counted():
    found = {one.view: one for one in plan_recipe(load_recipe("aclip-efficient")).passes}
    assert {view: one.tokens for view, one in found.items()} == {
        "main@kept": 33,
        "second@kept": 33,
        "caption": 32,
        "ema:around": 17,
    }
    assert not found["ema:around"].has_gradient and found["main@kept"].has_gradient
    views = [one.view for one in plan_recipe(load_recipe("protoclip")).passes if not one.has_gradient]
    assert sorted(views) == ["episode:caption", "episode:main"]


def test_declip_shares_two_image_and_two_text_passes():
    passes = plan_recipe(load_recipe("declip")).passes
    assert [(one.tower, one.view) for one in passes] == [
        ("image", "main"),
        ("image", "second"),
        ("text", "augmented"),
        ("text", "caption@masked"),
    ]


@pytest.mark.parametrize("name", ["aclip-efficient", "declip", "protoclip"])
def test_a_sum_with_teachers_and_derived_views_is_probed(name: str):
    small = [
        "batch=8",
        "model.image.resolution=16",
        "model.image.depth=1",
        "model.text.depth=1",
        "model.image.patch=4",
    ]
    more = ["views.around.size=8"] if name == "aclip-efficient" else []
    probe = plan_recipe(load_recipe(name, [*small, *more]), probe=True).probe
    assert probe is not None
    assert probe["samples_per_second"] > 0


BERT, LLAMA = {"options": {"context": 12}}, {"options": {"caption_tokens": 20}}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", BERT | {"tune": "all"}),
        ("bert", BERT | {"tune": ["module.encoder.layer.1.*"], "lora": {"rank": 2, "targets": ["*query"]}}),
        ("llama", LLAMA | {"tune": "all"}),
        ("llama", LLAMA | {"tune": ["*.layers.1.mlp.*"], "lora": {"rank": 2, "targets": ["*_proj"]}}),
        ("llama", {"lora": {}, "options": {"caption_tokens": 20, "layer": -1}}),
    ],
)
def test_parameters_of_a_tuned_backbone_are_those_that_training_has(
    tmp_path: Path, kind: str, settings: dict[str, Any]
):
    source, width = (
        (bert_source(tmp_path), BERT_WIDTH) if kind == "bert" else (llama_source(tmp_path), LLAMA_WIDTH)
    )
    content = recipe_of(tmp_path, (timm_source(tmp_path), source))
    content["data"]["path"], content["model"]["text"] = (
        None,
        {"kind": "pretrained", "from": source, "width": width} | settings,
    )
    recipe = validate_recipe(content)
    tokenizer = backbone_tokenizer(recipe.model.text, load)  # pyright: ignore[reportArgumentType]
    network = attach_backbones(
        DualEncoder(recipe.model, vocabulary=tokenizer.vocabulary, context=tokenizer.context), load
    )
    every = list(network.parameters())
    (tmp_path / "model.safetensors").unlink()  # the configuration is enough
    plan = plan_recipe(recipe)
    counts = plan.parameters
    assert counts["all"] == sum(p.numel() for p in every) and counts["text"] == sum(
        p.numel() for p in network.text.parameters()
    )
    assert (
        counts["trained"]
        == sum(p.numel() for p in every if p.requires_grad)
        == counts["all"] - counts["frozen"]
    )
    assert counts["image backbone, frozen"] == sum(
        p.numel() for p in network.pretrained_towers()["image"].attached.parameters()
    )
    assert plan.memory_gb["frozen backbones"] == pytest.approx(4e-9 * counts["image backbone, frozen"])


@pytest.mark.parametrize("kind", ["vit", "dinov2", "siglip_vision_model"])
def test_parameters_of_a_tuned_image_encoder_are_those_that_training_has(tmp_path: Path, kind: str):
    source = vision_source(tmp_path, kind=kind)
    content = recipe_of(tmp_path, (source, bert_source(tmp_path / "text")))
    content["data"]["path"] = None
    content["model"]["image"] = {
        "kind": "pretrained",
        "from": source,
        "width": VISION_WIDTH,
        "resolution": 32,
        "tune": "all",
    }
    recipe = validate_recipe(content)
    tokenizer = backbone_tokenizer(recipe.model.text, load)  # pyright: ignore[reportArgumentType]
    network = attach_backbones(
        DualEncoder(recipe.model, vocabulary=tokenizer.vocabulary, context=tokenizer.context), load
    )
    (tmp_path / "model.safetensors").unlink()  # the configuration is enough
    assert plan_recipe(recipe).parameters["image"] == sum(p.numel() for p in network.image.parameters())


@pytest.mark.parametrize("size", [96, 160])
def test_parameters_of_a_fitted_transformer_of_timm_are_those_that_training_has(tmp_path: Path, size: int):
    source = timm_source(tmp_path, name="test_vit")
    backbone = image_backbone(source, {}, size=size)
    assert sum(p.numel() for p in image_shape(source, size=size).parameters()) == sum(
        p.numel() for p in backbone.parameters()
    )


def test_a_broken_configuration_of_an_image_encoder_is_one_sentence(tmp_path: Path):
    source = vision_source(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": "x"}))
    for read in (lambda: image_shape(source, size=32), lambda: image_backbone(source, {})):
        with pytest.raises(ModelError, match=r"hidden_size|image encoder"):
            read()
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": ["vit"]}))
    with pytest.raises(ModelError, match=r"holds a model of type"):
        image_backbone(source, {})


def test_a_pattern_that_matches_nothing_and_a_wrong_width_are_found_before_any_weights_are_read():
    tuned = ["model.text.options.prompt=single", "model.text.head.centre=false"]
    with pytest.raises(
        RecipeError,
        match=r"tune names 'module\.layers\.29\.\*', which matches no parameter of package:smollm2",
    ):
        plan_recipe(
            load_recipe("flame", [*tuned, "model.text.tune=[module.layers.29.*]"])
        )  # behind the layer that is read
    with pytest.raises(
        RecipeError, match=r"package:smollm2 gives vectors of 576; set model\.text\.width=576"
    ):
        plan_recipe(load_recipe("flame", ["model.text.width=575", "model.dim=575"]))
    assert (
        plan_recipe(load_recipe("flame", [*tuned, "model.text.tune=[module.layers.28.*]"])).parameters["text"]
        == 130_974_336
    )


@pytest.mark.parametrize("name", ["minilm"])
def test_the_facts_of_a_packaged_part_are_those_of_its_files(name: str):
    try:
        config = json.loads((package_path(name) / "config.json").read_text())
    except MissingExtra as error:
        pytest.skip(str(error))
    assert {key: config[key] for key in PACKAGES[name].config} == PACKAGES[name].config


def test_what_is_not_known_is_said():
    planned = plan_recipe(load_recipe("pretrained"))
    assert planned.notes == [
        "the parameters of the text backbone are unknown: package:e5 computes with an engine of its own, "
        "whose parameters cannot be counted; it is never trained."
    ]
    assert planned.readings == [Reading("image", None, None, None), Reading("text", None, None, None)]
    assert {one["samples"] for one in planned.to_json()["readings"]} == {UNKNOWN}
    one, _ = plan_recipe(
        load_recipe("flame", ["model.text.tune=all", "model.text.options={prompt: single, layer: 99}"])
    ).notes
    assert (
        one
        == "the parameters of the text backbone are unknown: layer is 99, expected -31 to 30: the model has "
        "30 blocks and hidden states 0 to 30."
    )
    (note,) = plan_recipe(load_recipe("lit", ["model.image.tune=[module.blocks.6.*]"])).notes
    assert "what backward keeps of the tuned image backbone is not counted" in note


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_what_is_read_once_is_what_the_stores_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
):
    monkeypatch.setenv("FRUGALCLIP_CACHE", str(tmp_path / "cache"))
    content = recipe_of(pairs(tmp_path / "data"), (timm_source(tmp_path), bert_source(tmp_path / "bert")))
    content["store"], content["model"]["image"]["gflops"] = {"views": 2, "dtype": dtype}, 0.5
    image, text = frugalclip.plan(write(tmp_path / "r.yaml", content)).readings
    stores = built(tmp_path / "unused", content).inputs.stores
    assert stores.images is not None and stores.texts is not None
    assert (image.samples, text.samples) == (2 * len(stores.images), len(stores.texts)) == (48, 20)
    assert image.gflops == 24 and len(open_data(tmp_path / "data" / "pairs.jsonl")) == 24
    for reading, store in ((image, stores.images), (text, stores.texts)):
        held = sum(file.stat().st_size for file in store.path.rglob("*.safetensors")) * 1e-9
        assert reading.store_gb is not None and reading.store_gb < held < 1.5 * reading.store_gb + 1e-5


def write(path: Path, content: dict[str, Any]) -> str:
    path.write_text(json.dumps(content))
    return str(path)


THINNED = [
    "objectives.attentive_mask.choose=random",
    "objectives.attentive_mask.views=[main]",
    "objectives.contrastive.image=main@kept",
]


@pytest.mark.parametrize(
    ("recipe", "changes", "output"),
    [
        (
            "clip-small",
            THINNED,
            "drops patches, which a resnet tower does not support; set model.image.kind=vit",
        ),
        (
            "aclip",
            ["model.image.pool=mean"],
            r"attention of \[CLS\], which a tower with pool: mean does not support; set model\.image\.pool",
        ),
        (
            "clip-small",
            ["objectives.masked_text.weight=1"],
            "masked words, which a bag of words does not support; set model.text.kind=transformer",
        ),
        (
            "pretrained",
            ["objectives.masked_text.weight=1"],
            "masked words, which a pretrained text tower does not support; give model.text another kind",
        ),
    ],
)
def test_what_a_tower_cannot_do_is_said_before_anything_is_read(recipe: str, changes: list[str], output: str):
    with pytest.raises(RecipeError, match=output):
        plan_recipe(load_recipe(recipe, changes))


def test_another_models_attention_is_its_own_affair():
    changes = [
        "model.image.pool=mean",
        "objectives.attentive_mask.teacher=frozen",
        "objectives.byol=null",
        "teachers.frozen.from=runs/vit",
    ]
    assert plan_recipe(load_recipe("aclip", changes)).passes
