"""The best score of each word in parts is that of the direct form, forwards and backwards, in less memory."""

import pytest
import torch
from torch import Tensor

from frugalclip.functional import best_word_scores, word_scores

BATCH, PATCHES, WIDTH, WORDS = 3, 5, 4, 11


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def a_mask() -> Tensor:
    mask = torch.arange(PATCHES) < torch.tensor([5, 2, 3])[:, None]
    mask[2] = mask[2].flip(0)
    return mask


def directly(states: Tensor, codebook: Tensor, mask: Tensor | None) -> Tensor:
    scores = torch.einsum("bpd,vd->bpv", states, codebook)
    return (scores if mask is None else scores.masked_fill(~mask[:, :, None], float("-inf"))).amax(dim=1)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("chunk", [None, 1, 4, 50])
def test_is_the_direct_form_forwards_and_backwards(chunk: int | None, masked: bool):
    mask, weight = a_mask() if masked else None, rows(BATCH, WORDS, seed=2)
    found = []
    for form in (
        lambda s, c: best_word_scores(s, c, mask=mask, chunk=chunk),
        lambda s, c: directly(s, c, mask),
    ):
        states, codebook = (
            rows(BATCH, PATCHES, WIDTH).requires_grad_(),
            rows(WORDS, WIDTH, seed=1).requires_grad_(),
        )
        scores = form(states, codebook)
        (scores * weight).sum().backward()
        found.append((scores.detach(), states.grad, codebook.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_right(masked: bool):
    mask = a_mask() if masked else None
    inputs = (rows(BATCH, PATCHES, WIDTH).requires_grad_(), rows(WORDS, WIDTH, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(lambda s, c: best_word_scores(s, c, mask=mask, chunk=3), inputs)


def test_the_gradient_of_a_word_reaches_one_patch_the_first_of_equal_ones():
    states, codebook = rows(1, PATCHES, WIDTH), rows(WORDS, WIDTH, seed=1)
    states[0, 3] = states[0, 1]
    for word in range(WORDS):
        leaf = states.clone().requires_grad_()
        best_word_scores(leaf, codebook)[0, word].backward()
        touched = leaf.grad[0].abs().sum(dim=1).nonzero().flatten().tolist()
        assert len(touched) == 1 and touched != [3]
        torch.testing.assert_close(leaf.grad[0, touched[0]], codebook[word])


def test_masked_patches_are_never_best_and_get_no_gradient():
    states, codebook = rows(BATCH, PATCHES, WIDTH), torch.randn(WORDS, WIDTH, dtype=torch.float64)
    spoilt = torch.where(a_mask()[:, :, None], states, 1e3).requires_grad_()
    scores = best_word_scores(spoilt, codebook, mask=a_mask(), chunk=2)
    scores.sum().backward()
    assert scores.equal(best_word_scores(states, codebook, mask=a_mask(), chunk=2))
    assert not spoilt.grad[~a_mask()].any()
    nobody = best_word_scores(states, codebook, mask=torch.zeros(BATCH, PATCHES, dtype=torch.bool))
    assert (nobody == float("-inf")).all()


def test_nothing_of_the_size_of_all_scores_is_held():
    largest = 0

    class Validator(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for one in out if isinstance(out, (tuple, list)) else [out]:
                largest = max(largest, one.numel() if isinstance(one, Tensor) else 0)
            return out

    states, codebook = torch.randn(4, 50, 8, requires_grad=True), torch.randn(1000, 8, requires_grad=True)
    with Validator():
        best_word_scores(states, codebook, chunk=20).sum().backward()
    assert largest <= max(4 * 50 * 20, codebook.numel(), 4 * 1000), (
        "4 images of 50 patches and 1,000 words are 200,000 scores"
    )


def test_low_precision_is_added_up_in_single_precision():
    states, codebook = torch.ones(1, 300, 2, dtype=torch.bfloat16), torch.ones(600, 2)
    states.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = best_word_scores(states, codebook)
    assert scores.dtype == torch.float32
    scores.sum().backward()
    assert states.grad.dtype == torch.bfloat16 and states.grad[0, 0].tolist() == [600, 600], (
        "one by one bfloat16 stops at 256"
    )


def test_products_are_in_the_wider_type():
    assert word_scores(torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(5, 3)).dtype == torch.float32
    assert word_scores(rows(2, 3), rows(5, 3)).shape == (2, 5)
