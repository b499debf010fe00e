"""An import is a run directory with the original's embeddings, to the bit; what is printed and refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import frugalclip
from frugalclip.cli import main
from frugalclip.core.errors import ModelError
from frugalclip.models import load
from frugalclip.verbs.import_model import RECORD, import_model, show

from ..backbones.tiny_backbones import vision_source

VISION = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
SIGMOID: dict[str, Any] = {"embed_dim": 24, "init_logit_bias": -10, "vision_cfg": VISION, "text_cfg": TEXT}


@pytest.fixture
def source(tmp_path: Path) -> str:
    """An open_clip model with random weights, given by its JSON file."""
    from open_clip.model import CLIP

    torch.manual_seed(0)
    save_file(CLIP(**SIGMOID).state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "a.json").write_text(json.dumps(SIGMOID))
    return f"open_clip:{tmp_path}/a.json@{tmp_path}/w.safetensors"


def test_an_import_gives_identical_embeddings(source: str, tmp_path: Path):
    found = frugalclip.import_model(source, out=tmp_path / "run")
    direct, again = load(source), load(tmp_path / "run")
    image = Image.new("RGB", (50, 40), "teal")
    assert torch.equal(again.encode_image(image), direct.encode_image(image))
    assert torch.equal(again.encode_text(["a cat", "two dogs"]), direct.encode_text(["a cat", "two dogs"]))
    assert again.fingerprint == direct.fingerprint == found.model.fingerprint
    assert again.origin == direct.origin and again.origin is not None and again.origin["logit_bias"] == -10
    record = json.loads((tmp_path / "run" / RECORD).read_text())
    assert record["given"] == source and record["fingerprint"] == again.fingerprint
    files = {path.name for path in (tmp_path / "run" / "checkpoints" / "step-0").iterdir()}
    assert files == {
        "model.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "checksums.json",
        "state.json",
    }


def test_a_model_of_hugging_face_keeps_its_own_tokenizer(tmp_path: Path):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    words = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "a": 2, "cat": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    (tmp_path / "hf").mkdir()
    words.save(str(tmp_path / "hf" / "tokenizer.json"))
    (tmp_path / "hf" / "tokenizer_config.json").write_text('{"pad_token": "</s>"}')
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {
        "vocab_size": 4,
        "max_position_embeddings": 6,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    config = SiglipConfig(
        text_config={**sizes, **ids}, vision_config={**sizes, "image_size": 16, "patch_size": 8}
    )
    SiglipModel(config).save_pretrained(tmp_path / "hf")
    SiglipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "hf")
    import_model(f"hf:{tmp_path}/hf", out=tmp_path / "run")
    direct, again = load(f"hf:{tmp_path}/hf"), load(tmp_path / "run")
    assert torch.equal(again.encode_text(["a cat", "cat"]), direct.encode_text(["a cat", "cat"]))
    assert again.fingerprint == direct.fingerprint and again.preprocess == direct.preprocess


def test_what_was_read_is_printed(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "300")
    show(import_model(source, out=tmp_path / "run"))
    printed = capsys.readouterr().out
    for words in (
        "a.json, embeddings of 24",
        "activation    gelu ",
        "49,408 tokens, at most 20 a text, padding is not attended to",
        "32 pixels, bicubic, the centre square; mean 0.4815 0.4578 0.4082",
        "objectives.sigmoid.bias=-10",
        "note: preprocessing: mean and deviation of OpenAI's CLIP",
        f"next: frugalclip evaluate {tmp_path}/run --data sample",
    ):
        assert words in printed, printed


def test_the_command_line_imports_and_other_verbs_read_it(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["import", source, "--out", str(tmp_path / "run")]) == 0
    for i, colour in enumerate(("red", "blue")):
        (tmp_path / "my").mkdir(exist_ok=True)
        Image.new("RGB", (20, 30), colour).save(tmp_path / "my" / f"{i}.png")
        (tmp_path / "my" / f"{i}.txt").write_text(f"a {colour} thing")
    assert main(["embed", str(tmp_path / "run"), str(tmp_path / "my"), "--out", str(tmp_path / "store")]) == 0
    assert main(["import", "runs/demo", "--out", str(tmp_path / "other")]) == 2
    assert "is no model of another library; expected hf:DIR or open_clip:ARCH@FILE" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_an_encoder_of_one_modality_is_no_run_and_says_which_verbs_take_it(tmp_path: Path):
    for one in (vision_source(tmp_path / "dino"), "timm:resnet50@weights.safetensors", "package:minilm"):
        with pytest.raises(
            ModelError,
            match=r"encodes images or texts alone, .*'frugalclip embed' .* use it as a backbone",
        ):
            import_model(one, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_something_else_is_refused(source: str, tmp_path: Path):
    import_model(source, out=tmp_path / "run")
    import_model(source, out=tmp_path / "run")  # the same source again
    (tmp_path / "b.json").write_text(json.dumps(SIGMOID))
    with pytest.raises(
        ModelError, match=r"holds an import of open_clip:.*; give an empty or new folder with --out"
    ):
        import_model(source.replace("a.json", "b.json"), out=tmp_path / "run")
    with pytest.raises(ModelError, match="holds something else than an import"):
        import_model(source, out=tmp_path)
    with pytest.raises(ModelError, match="is a file; give a new folder"):
        import_model(source, out=tmp_path / "a.json")
    (tmp_path / "empty").mkdir()
    import_model(source, out=tmp_path / "empty")


def test_weights_that_are_not_finite_are_not_imported(source: str, tmp_path: Path):
    weights = load_file(tmp_path / "w.safetensors")
    weights["visual.proj"][0, 0] = float("nan")
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"weights that are not finite, in image\..*copy the file again"):
        import_model(source, out=tmp_path / "run")
    weights["visual.proj"][0, 0], weights["logit_scale"] = 0, torch.tensor(50.0)
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"scale of cosines is .*e\+21, expected at most 1000"):
        import_model(source, out=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
