"""The kind of a backbone is known by its name or config.json; options are checked before weights are read."""

import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

from frugalclip import backbones
from frugalclip.backbones.base import BackboneKind, Side, Use
from frugalclip.backbones.find import backbone_kinds, check_source_options, find_backbone, modality
from frugalclip.core.errors import FrugalclipError, ModelError, RecipeError
from frugalclip.interop.source import ModelSource
from frugalclip.interop.tokenizers import PassThroughTokenizer
from frugalclip.models import load

from .tiny_backbones import bert_source, text_tokenizer, vision_source


def kind(source: str, side: Side = "text") -> str:
    return type(find_backbone(ModelSource.parse(source), Use(side, load))).__name__


def check(source: str, side: Side, options: dict[str, Any], **use: Any) -> None:
    check_source_options(ModelSource.parse(source, options), Use(side, load, **use))


OWN_KIND = """
from typing import ClassVar

from frugalclip import backbones
from frugalclip.backbones.base import BackboneKind, NoOptions


class Mine(BackboneKind[NoOptions]):
    form = "mine:NAME"
    sides = ("image",)
    Options = NoOptions

    @classmethod
    def matches(cls, source):
        return source.text.startswith("mine.")

    def load(self):
        return "loaded"

    def on_meta(self):
        return "shape"
"""


def test_a_kind_is_a_file_and_needs_no_other_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kinds = backbone_kinds()
    assert len({one.__module__ for one in kinds}) == len(kinds) >= 6
    assert all(issubclass(one, BackboneKind) and not inspect.isabstract(one) for one in kinds)
    (tmp_path / "mine.py").write_text(OWN_KIND)
    monkeypatch.setattr(backbones, "__path__", [*backbones.__path__, str(tmp_path)])
    backbone_kinds.cache_clear()
    try:
        found = [one for one in backbone_kinds() if one.__name__ == "Mine"]
        assert len(found) == 1 and found[0].matches(ModelSource.parse("mine.own"))
    finally:
        sys.modules.pop("frugalclip.backbones.mine", None)
        backbone_kinds.cache_clear()


def test_the_kind_stands_in_the_name_or_the_configuration(tmp_path: Path):
    assert kind(bert_source(tmp_path / "bert")) == "TextEncoder"
    assert kind(vision_source(tmp_path / "dino"), "image") == "ImageEncoder"
    for architecture in ("LlamaForCausalLM", "GPT2LMHeadModel"):
        (tmp_path / "config.json").write_text(f'{{"architectures": ["{architecture}"]}}')
        assert kind(f"hf:{tmp_path}") == "CausalLanguageModel"
    (tmp_path / "config.json").write_text("[1]")  # a list names no language model
    assert kind(f"hf:{tmp_path}") == "TextEncoder"
    assert kind("package:smollm2") == kind("some/file.gguf") == "CausalLanguageModel"
    assert kind("package:e5") == "E5" and kind("package:minilm") == "TextEncoder"
    assert kind("timm:x@file", "image") == kind("package:efficientnet-lite0", "image") == "Timm"
    assert kind("runs/demo", "image") == kind("open_clip:A@file") == "TowerOfModel"
    (tmp_path / "config.json").write_text('{"model_type": "clip", "vision_config": {}}')
    assert kind(f"hf:{tmp_path}") == kind(f"hf:{tmp_path}", "image") == "TowerOfModel"
    assert isinstance(
        text_tokenizer("package:e5"), PassThroughTokenizer
    )  # nothing has to be installed for that


def test_what_a_source_encodes_is_known_without_weights(tmp_path: Path):
    expected = {
        vision_source(tmp_path / "dino"): "image",
        "timm:x@file": "image",
        bert_source(tmp_path / "bert"): "text",
        "package:e5": "text",
        "file.gguf": "text",
        "runs/demo": "both",
        f"hf:{tmp_path}/gone": "both",  # nobody knows yet
    }
    assert {source: modality(ModelSource.parse(source)) for source in expected} == expected


def test_a_source_of_the_other_side_is_refused_with_those_of_this_side(tmp_path: Path):
    vision, bert = vision_source(tmp_path / "dino"), bert_source(tmp_path / "bert")
    for source, side, sentence in (
        (vision, "text", r"type 'dinov2', which is no text backbone; expected .*hf:DIR with a text encoder"),
        (
            bert,
            "image",
            r"type 'bert', which is no image backbone; expected hf:DIR with an image encoder \(vit",
        ),
        ("package:minilm", "image", r"no image backbone; Known: package:efficientnet-lite0\."),
        ("package:minilmm", "text", "no text backbone; did you mean 'package:minilm'"),
        (f"hf:{tmp_path}/gone", "image", r"gone has no config\.json; expected hf:DIR with an image encoder"),
        (f"hf:{tmp_path}/gone", "text", r"has no config\.json; expected .*FILE\.gguf"),
        ("file.gguf", "image", "no image backbone"),
    ):
        with pytest.raises(ModelError, match=sentence):
            kind(source, side)


def test_options_are_checked_before_any_weights_are_read(tmp_path: Path):
    gone = f"hf:{tmp_path}/gone"
    for source, side, options, use, sentence in (
        ("package:minilm", "text", {"pol": "end"}, {}, r"model\.text\.options\.pol .* did you mean 'pool'"),
        (
            gone,
            "text",
            {"pol": "end"},
            {},
            r"model\.text\.options\.pol is not a setting; did you mean 'pool'",
        ),
        (gone, "text", {"prompt": "long"}, {"is_tuned": True}, "prompt 'long' has 7 facets"),
        (gone, "text", {"context": 1}, {}, "greater than or equal to 3|at least 3"),
        (gone, "image", {"stages": True}, {}, r"\(stages\) have no effect on hf:"),
        (
            "runs/demo",
            "image",
            {"stages": True},
            {},
            r"\(stages\) have no effect on runs/demo, which has no options",
        ),
        ("package:e5", "text", {}, {"is_tuned": True}, "its weights cannot be trained"),
        ("package:e5", "image", {}, {}, "no image backbone"),
        ("timm:x@y", "image", {"stage": 1}, {"where": "model.image.options.0"}, r"options\.0\.stage is not"),
    ):
        with pytest.raises(FrugalclipError, match=sentence):
            check(source, side, options, **use)
    check(gone, "text", {})
    check(gone, "text", {"prompt": "long"})
    check(gone, "image", {})
    with pytest.raises(RecipeError):
        check(gone, "text", {"pool": "end", "prompt": "single"})
