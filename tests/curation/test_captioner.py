"""A captioner that knows four colours: its beam search, and its codes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import frugalclip
from frugalclip.core.records import RunDirectory
from frugalclip.curation.captioner import BeamSettings, Captioner, read_captioner
from frugalclip.functional import nearest_codes

from .conftest import COLOURS, TINY


@pytest.fixture(scope="module")
def captioner(coloured: Path) -> Captioner:
    found = read_captioner(str(coloured / "run"))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def images(captioner: Captioner, coloured: Path) -> torch.Tensor:
    paths = [coloured / "data" / f"c{number:02d}.png" for number in range(4)]
    return torch.cat([captioner.model.preprocess(Image.open(path)) for path in paths])


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_those_that_were_learned_alone_and_in_a_batch(
    captioner: Captioner, images: torch.Tensor, beams: int
):
    expected = [f"a {name} square" for name in COLOURS]
    settings = BeamSettings(beams=beams)
    assert captioner.write(images, settings) == expected
    assert [captioner.write(image[None], settings)[0] for image in images] == expected
    assert [len(text) for text in captioner.write(images, BeamSettings(longest=1))] < [8] * 4


@torch.inference_mode()
def test_with_enough_beams_the_search_is_exhaustive(captioner: Captioner, images: torch.Tensor):
    tokenizer, image = captioner.model.tokenizer, images[:1]
    settings = BeamSettings(beams=tokenizer.vocabulary, longest=2, length_power=0)
    found = captioner._search(captioner.image_tokens(image), settings)[0].tolist()
    tokens = captioner.image_tokens(image)
    first = captioner._next_words(torch.tensor([[tokenizer.start]]), tokens)[0]
    second = captioner._next_words(
        torch.tensor([[tokenizer.start, word] for word in range(tokenizer.vocabulary)]),
        tokens.expand(tokenizer.vocabulary, -1, -1),
    )
    second[tokenizer.end] = torch.full_like(second[0], float("-inf"))
    second[tokenizer.end, tokenizer.end] = 0
    total = first[:, None] + second
    assert found == list(divmod(int(total.argmax()), tokenizer.vocabulary))


def test_what_the_decoder_reads_are_rows_of_the_codebook(captioner: Captioner, images: torch.Tensor):
    tokens, codebook = captioner.image_tokens(images), captioner.codebook
    assert codebook is not None and codebook.shape == (8, 32)
    assert torch.equal(codebook[nearest_codes(tokens, codebook)], tokens)


def test_a_model_that_writes_no_captions_is_none(coloured: Path):
    assert read_captioner(str(coloured / "data")) is None


def test_embeddings_that_nothing_trains_are_no_collapse(coloured: Path):
    rows = [json.loads(line) for line in (coloured / "run" / "metrics.jsonl").read_text().splitlines()]
    assert not any("image_similarity" in row or "collapse" in str(row.get("advice")) for row in rows)
    assert rows[-1]["captioning/perplexity"] > 2  # four colours


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(coloured: Path, tmp_path: Path):
    words = [f"data={coloured / 'data'}", "steps=8", *TINY, "evaluation.points=4", "checkpoints.keep=9"]
    frugalclip.train("tldr-captioner", words, out=tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.checkpoint(8).glob("*.safetensors")}
    assert "objectives.safetensors" in before
    for step in run.steps_saved()[1:]:
        shutil.rmtree(run.checkpoint(step))
    frugalclip.train("tldr-captioner", words, out=tmp_path / "run", resume=True)
    assert {path.name: path.read_bytes() for path in run.checkpoint(8).glob("*.safetensors")} == before
