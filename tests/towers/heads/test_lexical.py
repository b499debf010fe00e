"""The lexical head: states to words, what is trained, what is masked, what is centred."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from frugalclip.core.errors import ModelError
from frugalclip.core.random import generator
from frugalclip.functional import unit
from frugalclip.towers.heads.lexical import LexicalConfig, LexicalHead, truncated

WIDTH, INSIDE, WORDS = 8, 6, 15
MASK = torch.tensor([[True, True, False, True], [False, True, True, False]])


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def a_head(*, width: int = WIDTH, **settings: Any) -> LexicalHead:
    config = LexicalConfig.model_validate({"kind": "lexical", "head_dim": 4} | settings)
    head = LexicalHead(config, width=width, codebook=rows(WORDS, INSIDE, seed=1))
    head.reset(generator(0, "test"))
    return head.double()


def test_without_adapter_a_image_is_the_maximum_of_its_mapped_patches():
    head, tokens = a_head(adapter_depth=0), rows(2, 4, WIDTH)
    assert head.mapper is not None
    mapped = head.mapper(F.layer_norm(tokens, (WIDTH,)))
    expected = torch.log1p((mapped @ head.codebook.T).amax(dim=1).clamp(min=0))
    torch.testing.assert_close(head(tokens), expected, rtol=0, atol=1e-12)
    assert (head(tokens) == 0).any() and (head(tokens) > 0).any()


def test_cosines_are_multiplied_by_a_learned_scale_that_is_held():
    head, tokens = (
        a_head(adapter_depth=0, mapper=False, width=INSIDE, score="cosine", scale=5, activation="elu1p"),
        rows(2, 4, INSIDE),
    )
    scores = (5 * unit(tokens) @ unit(head.codebook).T).amax(dim=1)
    torch.testing.assert_close(
        head(tokens), F.elu(scores) + 1, rtol=0, atol=1e-6
    )  # the scale starts in single precision
    torch.testing.assert_close(head(7 * tokens), head(tokens))
    head(tokens).sum().backward()
    assert head.log_scale.grad.abs() > 0
    with torch.no_grad():
        head.log_scale.fill_(99)
    head.clamp()
    assert head.log_scale.exp().item() == pytest.approx(100)
    a_head().clamp()


@pytest.mark.parametrize("activation", ["log1p_relu", "elu1p"])
@pytest.mark.parametrize("depth", [0, 2])
def test_masked_patches_do_not_matter_even_to_the_adapter(depth: int, activation: str):
    head, tokens = a_head(adapter_depth=depth, activation=activation), rows(2, 4, WIDTH)
    spoilt = torch.where(MASK[:, :, None], tokens, 50.0)
    torch.testing.assert_close(head(spoilt, mask=MASK), head(tokens, mask=MASK), rtol=0, atol=1e-12)
    torch.testing.assert_close(head(tokens[:1], mask=MASK[:1]), head(tokens[:1, MASK[0]]), rtol=0, atol=1e-12)
    nobody = head(tokens, mask=torch.zeros_like(MASK))
    assert not nobody.any() and nobody.isfinite().all()


def test_patches_have_what_the_image_takes_the_maximum_of():
    head, tokens = a_head(centre=True), rows(2, 4, WIDTH)
    head.set_centre(rows(WORDS, seed=3))
    torch.testing.assert_close(head.of_patches(tokens).amax(dim=1), head(tokens), rtol=0, atol=1e-12)


def test_a_text_is_one_patch():
    head, states = a_head(adapter_depth=0), rows(5, WIDTH)
    torch.testing.assert_close(head(states), head(states[:, None]), rtol=0, atol=1e-12)


def test_a_text_as_it_comes_from_its_language_model_is_scored_by_that_models_words():
    head, states = a_head(adapter_depth=0, mapper=False, width=INSIDE, train_codebook=False), rows(5, INSIDE)
    torch.testing.assert_close(
        head(states), (states @ rows(WORDS, INSIDE, seed=1).T).clamp(min=0).log1p(), rtol=0, atol=1e-12
    )
    assert not list(filter(lambda p: p.requires_grad, head.parameters()))


def test_the_mean_over_a_corpus_is_taken_off_before_the_activation():
    head, states = a_head(adapter_depth=0, centre=True), rows(50, WIDTH)
    means = head.scores(states).mean(dim=0)
    head.set_centre(means)
    torch.testing.assert_close(
        head(states), (head.scores(states) - means).clamp(min=0).log1p(), rtol=0, atol=1e-12
    )
    assert "centre" in head.state_dict(), "a saved head knows what it takes off"
    with pytest.raises(ModelError, match="set centre: true"):
        a_head().set_centre(means)


def test_what_is_trained_and_what_is_frozen():
    trained, frozen = a_head(), a_head(train_codebook=False)
    for head in (trained, frozen):
        head(rows(2, 4, WIDTH)).sum().backward()
        assert all(
            p.grad is not None
            for name, p in head.named_parameters()
            if name.startswith(("mapper", "adapter", "norm"))
        )
    assert (
        trained.codebook.grad is not None
        and frozen.codebook.grad is None
        and not frozen.codebook.requires_grad
    )


def test_a_trained_codebook_is_a_copy_and_resetting_leaves_the_words():
    given = rows(WORDS, INSIDE, seed=1)
    head = LexicalHead(LexicalConfig(kind="lexical", adapter_depth=0), width=WIDTH, codebook=given)
    head.reset(generator(1, "test"))
    assert torch.equal(head.codebook, given)
    with torch.no_grad():
        head.codebook.zero_()
    assert given.any()
    assert all(
        torch.equal(a, b)
        for a, b in zip(a_head().state_dict().values(), a_head().state_dict().values(), strict=True)
    )


def test_under_autocast_activations_are_in_single_precision_and_near_the_exact_ones():
    head, tokens = a_head(), rows(2, 4, WIDTH)
    exact = head(tokens)
    single = head.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = single(tokens.float())
    assert found.dtype == torch.float32 and (found - exact).abs().max() < 0.1
    found.sum().backward()
    assert single.codebook.grad.dtype == torch.float32


def test_what_does_not_fit_is_refused_with_the_next_step():
    with pytest.raises(
        ModelError, match="states are 8 wide and words 6, and there is no mapper; set mapper: true"
    ):
        a_head(mapper=False)
    with pytest.raises(ModelError, match="states are 8 wide, which is not a multiple of head_dim 3"):
        a_head(head_dim=3)


def test_cost_counts_layers_map_and_words():
    config = LexicalConfig(kind="lexical", adapter_depth=1, head_dim=4, inside=INSIDE)
    sizes = {"tokens": 10, "width": WIDTH, "dim": WORDS}
    layer = 2 * 10 * WIDTH * (4 * WIDTH + 2 * 4 * WIDTH) + 4 * 100 * WIDTH
    assert config.forward_gflops(**sizes) == pytest.approx(
        1e-9 * (layer + 2 * 10 * (WIDTH * INSIDE + INSIDE * WORDS))
    )
    more = config.kept_numbers(**(sizes | {"dim": WORDS + 1000})) - config.kept_numbers(**sizes)
    assert more == 3000, "the scores of all patches are never kept"


def test_truncation_keeps_the_largest_above_the_threshold_and_of_equal_ones_the_first():
    vectors = torch.tensor([[0.5, 0.1, 0.5, 0.5, 0.0], [0.0, 0.2, 0.0, 0.3, 0.1]])
    assert truncated(vectors, top_k=2).tolist() == [[0.5, 0, 0.5, 0, 0], pytest.approx([0, 0.2, 0, 0.3, 0])]
    assert truncated(vectors, threshold=0.2).tolist() == [
        [0.5, 0, 0.5, 0.5, 0],
        pytest.approx([0, 0, 0, 0.3, 0]),
    ]
    assert truncated(vectors, threshold=0.2, top_k=1).count_nonzero() == 2
    assert truncated(vectors).equal(vectors) and truncated(vectors, top_k=99).equal(vectors)


@pytest.mark.parametrize("shape", [(40, WIDTH), (40, 3, WIDTH)])
def test_a_mapper_that_starts_from_captions_is_ridge_regression(shape: tuple[int, ...]):
    head, tokens, states = a_head(adapter_depth=0), rows(*shape, seed=5) * 3 + 1, rows(40, INSIDE, seed=6)
    head.start_mapper(tokens, states, ridge=0.2)
    x = F.layer_norm(tokens, (WIDTH,))
    x = x if x.ndim == 2 else x.mean(dim=1)
    centred = x - x.mean(0)
    penalty = 0.2 * (centred**2).sum(0).mean()
    # the rows of sqrt(penalty) beside the data make least squares of it
    more = torch.cat([centred, penalty.sqrt() * torch.eye(WIDTH)])
    weight = torch.linalg.lstsq(
        more, torch.cat([states - states.mean(0), torch.zeros(WIDTH, INSIDE)])
    ).solution
    assert head.mapper is not None
    torch.testing.assert_close(head.mapper(x), centred @ weight + states.mean(0), atol=1e-6, rtol=1e-6)


def test_what_maps_nothing_has_no_start():
    with pytest.raises(ModelError, match=r"leave start: captions out, or set mapper: true"):
        a_head(adapter_depth=0, mapper=False, width=INSIDE).start_mapper(rows(4, INSIDE), rows(4, INSIDE))
