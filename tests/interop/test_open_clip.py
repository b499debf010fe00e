"""Models of open_clip against open_clip: random weights of small architectures, the same images and texts."""

import json
import pickle
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import timm.models
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models._builder import build_model_with_cfg
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from frugalclip.core.errors import ModelError
from frugalclip.interop import open_clip as reader
from frugalclip.interop.foreign import ForeignModel
from frugalclip.interop.open_clip import BESIDE, OPENAI_MARKS, find_architecture, read_open_clip
from frugalclip.interop.source import ModelSource
from frugalclip.models import Model, load

TEXTS = ["a photo of a cat", "two dogs, running!", "", "Größe &amp; Farbe  <b>", "a very long caption " * 40]
VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
TINY: dict[str, Any] = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT}
RESNET: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 16, "patch_size": None},
    "text_cfg": TEXT,
}


@timm.models.register_model
def vit_toy_siglip(pretrained: bool = False, **settings: Any) -> VisionTransformer:
    """A small backbone with SigLIP's parts: no [CLS], attention pooling."""
    sizes: dict[str, Any] = {
        "img_size": 30,
        "patch_size": 7,
        "embed_dim": 48,
        "depth": 2,
        "num_heads": 2,
        "class_token": False,
        "mlp_ratio": 2.5,
    }
    return build_model_with_cfg(VisionTransformer, "vit_toy_siglip", pretrained, **{**sizes, **settings})


@timm.models.register_model
def vit_toy_gap(pretrained: bool = False, **settings: Any) -> VisionTransformer:
    """A small backbone read by the mean, with layer scale and attention without bias."""
    sizes: dict[str, Any] = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 48,
        "depth": 2,
        "num_heads": 2,
        "class_token": False,
    }
    kind = {"global_pool": "avg", "fc_norm": False, "qkv_bias": False, "init_values": 1e-5}
    return build_model_with_cfg(VisionTransformer, "vit_toy_gap", pretrained, **{**sizes, **kind, **settings})


SIGLIP: dict[str, Any] = {
    "embed_dim": 48,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 30,
        "timm_model_name": "vit_toy_siglip",
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": TEXT
    | {
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
    },
}
GAP: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {
        "image_size": 32,
        "timm_model_name": "vit_toy_gap",
        "timm_pool": "",
        "timm_proj": "linear",
    },
    "text_cfg": TEXT | {"ls_init_value": 0.1},
}


def built(name: str) -> Any:
    """A model of open_clip whose every tensor is random: normalisations, biases and statistics too."""
    torch.manual_seed(0)
    model = open_clip.create_model(name)
    with torch.no_grad():
        for tensor in [*model.parameters(), *(b for n, b in model.named_buffers() if "running" in n)]:
            tensor.add_(torch.rand_like(tensor) * 0.1)
    return model.eval()


def read(source: str) -> ForeignModel:
    return read_open_clip(ModelSource.parse(source))


def images(side: int) -> Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def same(found: Tensor, expected: Tensor) -> None:
    """Equal to 1e-5 of the largest entry."""
    torch.testing.assert_close(found, expected, rtol=0, atol=float(1e-5 * expected.abs().max()))


@torch.inference_mode()
def agree(model: Model, original: Any, name: str) -> None:
    """Pictures and texts have the same embeddings, before normalisation and after."""
    side = model.preprocess.size
    same(model.encode_image(images(side), normalize=False), original.encode_image(images(side)))
    tokens = open_clip.get_tokenizer(name)(TEXTS)
    same(model.encode_text(TEXTS, normalize=False), original.encode_text(tokens))
    same(model.encode_text(TEXTS[1]), original.encode_text(tokens[1:2], normalize=True))
    assert model.network.scale().item() == pytest.approx(original.logit_scale.exp().item(), rel=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        TINY | {"quick_gelu": True},
        TINY
        | {
            "vision_cfg": VISION
            | {
                "no_ln_pre": True,
                "mlp_ratio": 2.0,
                "ls_init_value": 0.1,
                "image_size": 30,
                "norm_kwargs": {"eps": 1e-3},
            }
        },
        TINY
        | {
            "custom_text": True,
            "text_cfg": TEXT | {"proj_bias": True, "no_causal_mask": True, "pool_type": "last"},
        },
        RESNET,
        RESNET | {"quick_gelu": True},
        SIGLIP,
        GAP,
    ],
    ids=[
        "vit",
        "quick_gelu",
        "variants",
        "custom_text",
        "resnet",
        "resnet_quick_gelu",
        "siglip",
        "timm_mean_pool",
    ],
)
def test_embeddings_are_those_of_open_clip(config: dict[str, Any], known: Callable[..., str], tmp_path: Path):
    name = known("tiny-arch", config)
    original = built(name)
    save_file(original.state_dict(), tmp_path / "weights.safetensors")
    model = load(f"open_clip:{name}@{tmp_path}/weights.safetensors")
    agree(model, original, name)
    expected = (
        "quick_gelu"
        if config.get("quick_gelu")
        else "gelu (images), gelu_tanh (texts)"
        if config is SIGLIP
        else "gelu"
    )
    assert model.origin is not None and model.origin["activation"] == expected
    bias = model.origin["logit_bias"]
    assert (
        bias is None if "init_logit_bias" not in config else bias == pytest.approx(original.logit_bias.item())
    )
    assert "dim" in json.dumps(model.description) and model.network.config.dim == config["embed_dim"]


@pytest.mark.parametrize("kind", ["state_dict.pt", "training.pt", "wrapped.pt", "half.safetensors"])
def test_every_kind_of_file_gives_the_same(kind: str, known: Callable[..., str], tmp_path: Path):
    name = known("tiny-arch", TINY)
    original = built(name)
    state, file = original.state_dict(), tmp_path / kind
    if kind == "training.pt":
        content = {
            "epoch": 3,
            "name": "run",
            "state_dict": {f"module.{k}": v for k, v in state.items()},
            "optimizer": {"state": {}, "lr": 0.1},
        }
        torch.save(content, file)
    elif kind == "wrapped.pt":
        torch.save({f"_orig_mod.{k}": v for k, v in state.items()}, file)
    elif kind == "half.safetensors":
        save_file({k: v.half() for k, v in state.items()}, file)
        original.load_state_dict({k: v.half().float() for k, v in state.items()})
    else:
        torch.save(state, file)
    agree(load(f"open_clip:{name}@{file}"), original, name)


@pytest.mark.parametrize(
    ("loop", "selection"),
    [
        (lambda state: {"epoch": 1, "model_state_dict": state, "loss": np.float64(0.5)}, ""),
        (
            lambda state: {
                "model": state,
                "args": Namespace(lr=0.1, out=Path("runs")),
                "best": np.float32(1),
            },
            "",
        ),
        (
            lambda state: {
                "state_dict": {f"model.{k}": v for k, v in state.items()} | {"head.weight": torch.ones(2)},
                "pytorch-lightning_version": "2.5",
            },
            "",
        ),
        (lambda state: {f"_orig_mod.module.{k}": v for k, v in state.items()}, ""),
        (lambda state: {"a": state, "b": {k: 0 * v for k, v in state.items()}}, "#key=a"),
        (
            lambda state: (
                {f"student.{k}": v for k, v in state.items()} | {"teacher.visual": state["visual.proj"]}
            ),
            "",
        ),
    ],
    ids=["loss", "args", "lightning", "compiled", "named", "student"],
)
def test_checkpoints_of_ordinary_loops_are_read(
    loop: Callable[[Any], Any], selection: str, known: Callable[..., str], tmp_path: Path
):
    name = known("tiny-arch", TINY)
    original, file = built(name), tmp_path / "me@work" / "last.ckpt"
    file.parent.mkdir()
    torch.save(loop(original.state_dict()), file)
    agree(load(f"open_clip:{name}@{file}{selection}"), original, name)


def test_what_was_left_out_is_a_note_of_the_model(known: Callable[..., str], tmp_path: Path):
    name = known("tiny-arch", TINY)
    state = {f"model.{k}": v for k, v in built(name).state_dict().items()}
    torch.save({"state_dict": state | {"head.weight": torch.ones(2)}}, tmp_path / "w.ckpt")
    model = load(f"open_clip:{name}@{tmp_path}/w.ckpt")
    assert model.origin is not None
    assert any("1 beside them are left out, such as head.weight" in note for note in model.origin["notes"])


def test_an_architecture_may_be_a_file(tmp_path: Path, known: Callable[..., str]):
    original = built(known("tiny-arch", TINY))
    save_file(original.state_dict(), tmp_path / "open_clip_model.safetensors")
    preprocess = {
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.6, 0.7],
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    (tmp_path / BESIDE).write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": preprocess}))
    model = load(f"open_clip:{tmp_path}/{BESIDE}@{tmp_path}/open_clip_model.safetensors")
    agree(model, original, "tiny-arch")
    found = model.preprocess
    assert (found.mean, found.std, found.interpolation, found.resize) == (
        (0.1, 0.2, 0.3),
        (0.5, 0.6, 0.7),
        "bilinear",
        "squash",
    )
    assert model.origin is not None and model.origin["notes"] == []


def test_pictures_are_prepared_as_open_clip_does(known: Callable[..., str], tmp_path: Path):
    name = known("tiny-arch", TINY)
    original = built(name)
    save_file(original.state_dict(), tmp_path / "weights.safetensors")
    model = load(f"open_clip:{name}@{tmp_path}/weights.safetensors")
    theirs = open_clip.image_transform(32, is_train=False)
    for size in ((32, 32), (64, 64), (50, 32), (90, 131)):
        image = Image.frombytes("RGB", size, bytes(i * 37 % 251 for i in range(size[0] * size[1] * 3)))
        step = (
            1.01 / 255 / min(model.preprocess.std)
        )  # one value of a pixel: the order of cropping and resampling differs
        torch.testing.assert_close(model.preprocess(image)[0], theirs(image), rtol=0, atol=step)
    image = Image.new("RGB", (32, 32), "orange")
    with torch.inference_mode():
        same(model.encode_image(image), original.encode_image(theirs(image)[None], normalize=True))


class Table:
    """Stands in for open_clip's table of published weights."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tags: dict[str, dict[str, Any]]) -> None:
        monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: list(tags))
        monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: tags[tag])


TAGS = {
    "openai": {
        "url": "https://example.org/a/tiny.pt",
        "hf_hub": "timm/tiny_patch8.openai/",
        "quick_gelu": True,
    },
    "laion": {"url": "https://example.org/tiny-laion-1234.pt", "hf_hub": ""},
}


def weights(name: str, file: Path, **more: Tensor) -> Any:
    original = built(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(original.state_dict() | more, file)
    return original


def test_an_ambiguous_name_says_what_was_assumed_and_how_to_say_otherwise(
    known: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = known("tiny-arch", TINY)
    weights(name, tmp_path / "mine.pt")
    Table(monkeypatch, TAGS)
    found = read(f"open_clip:{name}@{tmp_path}/mine.pt")
    assert found.activation == "gelu"
    assert f"gelu was assumed, as {name} means" in found.notes[0] and found.notes[0].endswith(
        f"open_clip:{name}-quickgelu@{tmp_path}/mine.pt"
    )
    output = read(f"open_clip:{name}-quickgelu@{tmp_path}/mine.pt")
    assert output.activation == "quick_gelu" and not output.notes
    assert output.network.config.image.model_dump()["activation"] == "quick_gelu"


@pytest.mark.parametrize(
    "place",
    ["tiny.pt", "models--timm--tiny_patch8.openai/snapshots/0/open_clip_model.pt", "tiny_patch8.openai/x.pt"],
)
def test_a_known_file_brings_its_activation(
    place: str, known: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = known("tiny-arch", TINY)
    weights(name, tmp_path / place)
    known("tiny-arch-quickgelu", TINY | {"quick_gelu": True})
    Table(monkeypatch, TAGS)
    model = load(f"open_clip:{name}@{tmp_path / place}")
    assert (
        model.origin is not None
        and "quick_gelu, since it is open_clip's 'openai'" in model.origin["notes"][0]
    )
    quick = open_clip.create_model("tiny-arch-quickgelu").eval()
    quick.load_state_dict(torch.load(tmp_path / place, weights_only=True))
    agree(model, quick, name)


def test_the_entries_of_openais_own_files_are_known(known: Callable[..., str], tmp_path: Path):
    name = known("tiny-arch", TINY)
    weights(name, tmp_path / "mine.pt", **{mark: torch.tensor(1) for mark in OPENAI_MARKS})
    found = read(f"open_clip:{name}@{tmp_path}/mine.pt")
    assert found.activation == "quick_gelu" and "entries of OpenAI's own" in found.notes[0]


def test_a_name_that_contradicts_a_known_file_is_refused(
    known: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = known("tiny-arch", TINY)
    weights(name, tmp_path / "tiny-laion-1234.pt")
    Table(monkeypatch, TAGS)
    with pytest.raises(
        ModelError, match=r"was trained with gelu \(it is open_clip's 'laion'\).*write open_clip:tiny-arch@"
    ):
        load(f"open_clip:{name}-quickgelu@{tmp_path}/tiny-laion-1234.pt")


def test_a_configuration_beside_the_weights_says_the_activation(known: Callable[..., str], tmp_path: Path):
    name = known("tiny-arch", TINY)
    weights(name, tmp_path / "w.pt")
    (tmp_path / BESIDE).write_text(json.dumps({"model_cfg": TINY | {"quick_gelu": True}}))
    assert read(f"open_clip:{name}@{tmp_path}/w.pt").activation == "quick_gelu"


def test_weights_of_one_publisher_have_its_preprocessing(
    known: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = known("tiny-arch", TINY)
    weights(name, tmp_path / "w.pt")
    half = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    Table(monkeypatch, {"webli": half})
    assert load(f"open_clip:{name}@{tmp_path}/w.pt").preprocess.resize == "squash"
    Table(monkeypatch, {"webli": half, "other": {}})
    found = read(f"open_clip:{name}@{tmp_path}/w.pt")
    assert found.preprocess.resize == "shorter" and "mean and deviation of OpenAI's CLIP" in found.notes[-1]


@pytest.mark.parametrize(
    ("arch", "sentence"),
    [
        ("ViT-B-33", r"no architecture 'ViT-B-33'; did you mean 'ViT-B-32'"),
        ("coca_ViT-B-32", "is a CoCa"),
        ("mt5-base-ViT-B-32", "text tower google/mt5-base of transformers"),
        ("convnext_base", r"backbone ConvNeXt of timm; only its plain"),
        ("ViTamin-S", "patches by HybridEmbed"),
        ("ViT-H-14-CLIPA", "tokenizer with strip_sep_token"),
        ("ViT-B-16-SigLIP", r"with the tokenizer of timm/ViT-B-16-SigLIP; put its tokenizer.json"),
        ("nowhere.json", r"there is no file nowhere\.json"),
    ],
)
def test_what_has_no_counterpart_is_refused_with_the_reason(arch: str, sentence: str, tmp_path: Path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=sentence):
        load(f"open_clip:{arch}@{tmp_path}/w.pt")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vision_cfg": VISION | {"attentional_pool": True}}, "attentional_pool: True"),
        ({"vision_cfg": VISION | {"pool_type": "avg"}}, "pool_type: avg"),
        ({"vision_cfg": VISION | {"qk_norm": True}}, "qk_norm: True"),
        ({"vision_cfg": VISION | {"image_size": [32, 64]}}, "ours are square"),
        ({"text_cfg": TEXT | {"embed_cls": True}}, "embed_cls: True"),
        ({"text_cfg": TEXT | {"pool_type": "first"}}, "pools texts by 'first'"),
        ({"text_cfg": TEXT | {"pool_type": "last"}}, "pools padded texts at the last position"),
        ({"text_cfg": TEXT | {"vocab_size": 100}}, "has 100 tokens"),
        ({"text_cfg": TEXT | {"width": "wide"}}, "cannot be understood .ValueError"),
        ({"vision_cfg": 7}, "cannot be understood"),
    ],
)
def test_a_setting_without_counterpart_is_named(change: dict[str, Any], sentence: str, tmp_path: Path):
    (tmp_path / "a.json").write_text(json.dumps(TINY | change))
    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=sentence):
        load(f"open_clip:{tmp_path}/a.json@{tmp_path}/w.pt")


def test_weights_of_another_architecture_are_refused(known: Callable[..., str], tmp_path: Path):
    name = known("tiny-arch", TINY)
    weights(name, tmp_path / "w.pt")
    for other, sentence in (
        (
            TINY | {"vision_cfg": VISION | {"layers": 3}},
            r"no tensor 'visual.transformer.resblocks.2.ln_1.weight'",
        ),
        (TINY | {"vision_cfg": VISION | {"layers": 1}}, r"12 tensors have no place"),
        (
            TINY | {"vision_cfg": VISION | {"patch_size": 16}},
            r"'visual.conv1.weight' gives our image.patch.weight the shape \(64, 192\)",
        ),
        (RESNET, "no tensor 'visual.conv1.weight'|have no place|the shape|no tensor"),
        ({"embed_dim": 3}, "has no vision_cfg"),
    ):
        (tmp_path / "a.json").write_text(json.dumps(other))
        with pytest.raises(ModelError, match=sentence):
            load(f"open_clip:{tmp_path}/a.json@{tmp_path}/w.pt")


class Shell:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, ("touch pickled_code_ran",)


def test_files_that_are_no_weights_are_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(TINY))
    torch.save({"state_dict": {"x": Shell()}}, tmp_path / "code.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"x": Shell()}))
    save_file({"x": torch.zeros(100)}, tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-10])
    torch.save({"x": torch.zeros(100)}, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:300])
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pt")
    with warnings.catch_warnings(action="ignore"):  # TorchScript is on its way out, OpenAI's files are not
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(tmp_path / "script.pt"))
    (tmp_path / "w.npz").write_bytes(b"PK")
    for file, sentence in (
        ("code.pt", "could run code and is not read"),
        ("plain.pt", "could run code and is not read"),
        ("cut.safetensors", "not a whole safetensors file"),
        ("cut.pt", "damaged|not a whole file"),
        ("empty.pt", "damaged|not a whole file"),
        ("list.pt", "holds no tensors by name"),
        ("script.pt", "TorchScript archive, which is a program"),
        ("w.npz", "no file of weights that is read here"),
        ("gone.pt", "gone.pt is not there"),
        (".", "is a folder, not a file"),
    ):
        with pytest.raises(ModelError, match=sentence):
            load(f"open_clip:a.json@{tmp_path / file}")
    assert not (tmp_path / "pickled_code_ran").exists()


def test_a_source_without_file_says_how_to_write_one():
    for source in ("open_clip:ViT-B-32", "open_clip:@x", "open_clip:ViT-B-32@"):
        with pytest.raises(ModelError, match="write open_clip:ARCH@FILE"):
            load(source)


def test_a_missing_library_names_the_install_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import sys

    from frugalclip.core.errors import MissingExtra

    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pt")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtra, match=r"pip install 'frugalclip\[openclip\]'"):
        load(f"open_clip:ViT-B-32@{tmp_path}/w.pt")


def test_every_architecture_of_open_clip_is_read_or_refused_in_a_sentence():
    """What the towers of each would be, without weights: plain CLIP and SigLIP have a counterpart."""
    refused = {}
    for name in (
        "ViT-B-32",
        "ViT-B-16-plus-240",
        "ViT-L-14-336-quickgelu",
        "ViT-H-14",
        "RN50",
        "RN101",
        "RN50x64",
        "ViT-bigG-14",
        "MobileCLIP-S1",
        "coca_base",
    ):
        config = find_architecture(name).config
        try:
            reader.refuse_other_kinds(config, where=name)
            reader.image_tower(config, where=name)
            reader.text_tower(config, end=49407, fill=None, where=name)
        except ModelError as error:
            refused[name] = str(error)
    assert set(refused) == {"MobileCLIP-S1", "coca_base"}
