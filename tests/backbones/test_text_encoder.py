"""Text encoders against transformers; wrong folders and settings are answered with what to write."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend
from transformers import BertModel

from frugalclip.core.errors import ModelError, RecipeError
from frugalclip.core.types import Tokens

from .tiny_backbones import BERT_WIDTH, bert_source, text_backbone, text_tokenizer

TEXTS = ["red beside a square", "blue", "the grey square above black below white beside green"]


@torch.inference_mode()
@pytest.mark.parametrize("pool", ["mean", "first", "end"])
def test_an_encoder_gives_the_states_of_transformers(tmp_path: Path, pool: str):
    source = bert_source(tmp_path / "bert")
    options = {"pool": pool, "context": 20}
    backbone, tokenizer = text_backbone(source, options), text_tokenizer(source, options)
    output = backbone(tokenizer.encode(TEXTS), with_tokens=True)
    backend, module = (
        Backend.from_file(str(tmp_path / "bert" / "tokenizer.json")),
        BertModel.from_pretrained(tmp_path / "bert").eval(),
    )
    assert backbone.width == BERT_WIDTH and output.pooled.shape == (3, BERT_WIDTH)
    for i, text in enumerate(TEXTS):  # alone, so without padding
        ids = torch.tensor(
            [
                [
                    backend.token_to_id("[CLS]"),
                    *backend.encode(text, add_special_tokens=False).ids,
                    backend.token_to_id("[SEP]"),
                ]
            ]
        )
        states = module(input_ids=ids).last_hidden_state[0]
        expected = {"mean": states.mean(0), "first": states[0], "end": states[-1]}[pool]
        torch.testing.assert_close(output.pooled[i], expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(output.tokens[i, : len(states)], states, atol=1e-5, rtol=1e-4)
        assert not output.tokens[i, len(states) :].any()


def test_every_parameter_of_an_encoder_has_a_gradient(tmp_path: Path):
    backbone = text_backbone(bert_source(tmp_path), {})
    assert any(name.endswith("query.weight") for name, _ in backbone.named_parameters())
    backbone(
        Tokens(torch.tensor([[2, 3, 4]]), torch.tensor([3])), with_tokens=False
    ).pooled.square().sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


def test_what_changes_a_text_vector_changes_the_fingerprint(tmp_path: Path):
    first, second = bert_source(tmp_path / "a"), bert_source(tmp_path / "b", seed=1)
    options = [
        (first, {"context": 20}),
        (second, {"context": 20}),
        (first, {"context": 9}),
        (first, {"context": 20, "pool": "end"}),
    ]
    found = [text_backbone(source, own).fingerprint for source, own in options]
    assert len(set(found)) == 4 and text_backbone(first, {"context": 20}).fingerprint == found[0]


def test_wrong_text_sources_are_refused_with_what_to_write(tmp_path: Path):
    source = bert_source(tmp_path / "bert")
    with pytest.raises(
        ModelError,
        match=r"has 20 positions, and options\.context is 256; set model\.text\.options\.context=20",
    ):
        text_backbone(source, {"context": 256})
    assert (
        text_backbone(source, {}).fingerprint == text_backbone(source, {"context": 20}).fingerprint
    )  # a text is as long as the encoder reads
    assert text_tokenizer(source, {}).context == 20
    with pytest.raises(RecipeError, match=r"model\.text\.options\.pol is not a setting; did you mean 'pool'"):
        text_backbone(source, {"pol": "end"})
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="cannot be read as a text encoder"):
        text_backbone(source, {"context": 20})


def test_a_tokenizer_of_another_encoder_is_refused(tmp_path: Path):
    source = bert_source(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for rows, sentence in (
        (3, "embedding has 3 rows: none for"),
        (30_522, "embedding has 30,522 rows, so it is"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))
        with pytest.raises(ModelError, match=sentence):
            text_tokenizer(source)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="is not there, and texts cannot be read without it"):
        text_tokenizer(source)
