"""Images get the main words of captions of similar images: kernel ridge regression, written out."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from frugalclip.towers.heads.caption_words import CaptionWords, CaptionWordsConfig
from frugalclip.towers.pretrained import PretrainedTextConfig


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


PICTURES, CAPTIONS = normal(12, 5) + 2, normal(4, 9, seed=1).abs()
SHARES = F.one_hot(torch.arange(12) % 4, 4).double()
SHARES[0] = torch.tensor([0.5, 0.5, 0, 0], dtype=torch.float64)


def fitted(**settings: float) -> CaptionWords:
    head = (
        CaptionWordsConfig.model_validate({"kind": "caption_words", **settings})
        .build(width=5, dim=9)
        .double()
    )
    head.fit_to(PICTURES, CAPTIONS, SHARES)
    return head


def test_the_head_is_ridge_regression_towards_the_main_words_of_captions():
    head, new = fitted(sharpness=0.7, ridge=0.3, words=3), normal(6, 5, seed=2) + 2
    targets = torch.zeros(4, 9, dtype=torch.float64)
    for i, caption in enumerate(CAPTIONS):
        main = sorted(range(9), key=lambda word: -float(caption[word]))[:3]
        length = math.sqrt(sum(float(caption[word]) ** 2 for word in main))
        for word in main:
            targets[i, word] = caption[word] / length
    mean, deviation = PICTURES.mean(0), PICTURES.std(0) + 1e-3
    own, others = (F.normalize((x - mean) / deviation, dim=1) for x in (PICTURES, new))
    among = torch.exp(-0.7 * torch.cdist(own, own) ** 2)
    near = torch.exp(-0.7 * torch.cdist(others, own) ** 2)
    expected = near @ torch.linalg.solve(among + 0.3 * torch.eye(12), SHARES @ targets)
    torch.testing.assert_close(head(new), expected.clamp_min(0), atol=1e-9, rtol=1e-7)
    assert (expected < 0).any() and not list(head.parameters())


def test_images_get_main_words_of_captions_only():
    output = fitted(words=2)(normal(50, 5, seed=3))
    assert set(output.any(dim=0).nonzero().flatten().tolist()) <= set(
        CAPTIONS.topk(2, dim=1).indices.flatten().tolist()
    )


def test_patches_are_described_like_images_and_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch):
    head, patches = fitted(), normal(3, 7, 5, seed=4)
    output = head.of_patches(patches)
    assert output.shape == (3, 7, 9)
    torch.testing.assert_close(output[1], head(patches[1]))
    monkeypatch.setattr("frugalclip.towers.heads.caption_words._MIXED", 40)  # one row at a time
    torch.testing.assert_close(head.of_patches(patches), output)


def test_a_saved_head_describes_as_before(tmp_path: Path):
    head = fitted().float()
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    again = CaptionWordsConfig(kind="caption_words").build(width=5, dim=9)
    again.load_state_dict(load_file(tmp_path / "head.safetensors"))
    assert torch.equal(again(PICTURES.float()), head(PICTURES.float()))


def test_it_is_no_head_of_texts():
    with pytest.raises(
        ValueError,
        match=r"head\.kind caption_words is not for text towers; they take mlp, identity, kernel_ridge, "
        r"lexical",
    ):
        PretrainedTextConfig.model_validate(
            {"kind": "pretrained", "from": "x", "width": 6, "head": {"kind": "caption_words"}}
        )
