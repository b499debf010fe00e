"""A tuned language model starts with the vectors of the frozen one; padding and batch mates do not matter."""

from pathlib import Path
from typing import Any

import pytest
import torch

from frugalclip.backbones.language_model import TunedLanguageModelBackbone
from frugalclip.core.errors import FrugalclipError, RecipeError
from frugalclip.core.types import Tokens
from frugalclip.interop.tokenizers import PublishedTokenizer, read_tokenizer
from frugalclip.towers.pretrained import Backbone

from .tiny_backbones import LLAMA_WIDTH, llama_source, text_backbone, text_tokenizer

TEXTS = ["red beside a square", "", 'the "grey" square above black below white beside green?', "blue"]
ROOM: dict[str, Any] = {"caption_tokens": 20}
EXACT = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return llama_source(tmp_path_factory.mktemp("llama"))


def tuned(source: str, options: dict[str, Any]) -> tuple[Backbone, PublishedTokenizer]:
    tokenizer = text_tokenizer(source, options, tuned=True)
    assert isinstance(tokenizer, PublishedTokenizer)
    return text_backbone(source, options, tuned=True), tokenizer


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize(
    "requested", [{}, {"layer": -1}, {"layer": [1, -2]}, {"layer": [1, -1]}, {"caption_tokens": 3}]
)
def test_until_the_first_step_it_says_what_the_frozen_one_says(
    tmp_path: Path, kind: str, requested: dict[str, Any]
):
    source, options = llama_source(tmp_path / kind, kind=kind), ROOM | requested
    backbone, tokenizer = tuned(source, options)
    frozen = text_backbone(source, options | {"precision": "fp32"})
    expected = frozen(text_tokenizer(source, options).encode(TEXTS)).pooled
    assert backbone.width == frozen.width == LLAMA_WIDTH and expected.std(dim=0).mean() > 0.1
    torch.testing.assert_close(backbone(tokenizer.encode(TEXTS)).pooled, expected, **EXACT)


@torch.inference_mode()
def test_the_state_of_the_next_word_is_the_frozen_one(tmp_path: Path):
    options, source = ROOM | {"states": "next_word"}, llama_source(tmp_path, places=512)
    backbone, tokenizer = tuned(source, options)
    expected = text_backbone(source, options | {"precision": "fp32"})(
        text_tokenizer(source, options).encode(TEXTS)
    ).pooled
    torch.testing.assert_close(backbone(tokenizer.encode(TEXTS)).pooled, expected, **EXACT)


@torch.inference_mode()
def test_batch_mates_and_padding_do_not_change_a_vector(source: str):
    backbone, tokenizer = tuned(source, ROOM)
    together = tokenizer.encode(TEXTS)
    output = backbone(together).pooled
    for i, text in enumerate(TEXTS):
        torch.testing.assert_close(backbone(tokenizer.encode([text])).pooled[0], output[i], **EXACT)
    is_padding = torch.arange(together.ids.shape[1]) >= together.lengths[:, None]
    assert is_padding.any()
    other = Tokens(torch.where(is_padding, 7, together.ids), together.lengths)
    assert torch.equal(backbone(other).pooled, output)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_every_parameter_that_is_kept_has_a_gradient(tmp_path: Path, kind: str):
    source = llama_source(tmp_path / kind, kind=kind)
    with pytest.raises(RecipeError, match="layer is 0, the embeddings"):
        tuned(source, ROOM | {"layer": 0})
    for layer, blocks in ((-1, 3), (-2, 2), (1, 1)):
        backbone, tokenizer = tuned(source, ROOM | {"layer": layer})
        backbone.requires_grad_(True)
        backbone(tokenizer.encode(TEXTS)).pooled.square().sum().backward()
        assert {
            name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()
        } == set()
        kept = {
            name.split(".")[2]
            for name, _ in backbone.named_parameters()
            if ".layers." in name or ".h." in name
        }
        assert kept == {str(i) for i in range(blocks)}


def test_the_tokenizer_is_read_again_as_it_was(source: str, tmp_path: Path):
    _, tokenizer = tuned(source, ROOM)
    tokenizer.save(tmp_path)
    again = read_tokenizer(tmp_path)
    assert again.fingerprint() == tokenizer.fingerprint()
    assert torch.equal(again.encode(TEXTS).ids, tokenizer.encode(TEXTS).ids)
    assert tokenizer.truncated(["red " * 21, "red " * 19]) == 1  # a full stop is added


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"prompt": "long"},
            r"prompt 'long' has 7 facets, and .* one vector a text; set model\.text\.options\.prompt=single",
        ),
        (
            {"precision": "fp32"},
            r"model\.text\.options\.precision has no effect on a language model that is tuned",
        ),
        ({"promt": "single"}, r"model\.text\.options\.promt is not a setting; did you mean 'prompt'"),
        ({"states": "next_word", "layer": -1}, r"layer has no effect on states=next_word"),
        ({}, r"positions, the model has 128; set caption_tokens=\d+ or less"),
    ],
)
def test_what_a_tuned_language_model_does_not_offer_is_refused(
    source: str, options: dict[str, Any], message: str
):
    with pytest.raises(FrugalclipError, match=message):
        text_backbone(source, options, tuned=True)


def test_it_gives_no_tokens(source: str):
    backbone, tokenizer = tuned(source, ROOM)
    assert isinstance(backbone, TunedLanguageModelBackbone)
    with pytest.raises(FrugalclipError, match="gives no tokens; use another text tower"):
        backbone(tokenizer.encode(TEXTS), with_tokens=True)
