"""The fit of words to descriptors names what it never saw by words that it did."""

import itertools

import torch

from frugalclip.evaluation.descriptor_fit import DescriptorFit

COLOURS, SHAPES = ("red", "green", "blue"), ("disc", "ring", "cross")


def described(colour: str, shape: str, seed: int) -> torch.Tensor:
    """Features that tell colour and shape, a little noisy."""
    noise = 0.05 * torch.randn(20, generator=torch.Generator().manual_seed(seed))
    noise[COLOURS.index(colour)] += 1
    noise[3 + SHAPES.index(shape)] += 1
    return noise


def test_an_unseen_combination_is_named():
    unseen = [("red", "cross"), ("blue", "disc")]
    seen = [pair for pair in itertools.product(COLOURS, SHAPES) if pair not in unseen]
    training = [(pair, copy) for pair in seen for copy in range(8)]
    features = torch.stack([described(*pair, seed=i) for i, (pair, _) in enumerate(training)])
    fit = DescriptorFit(features, [[" ".join(pair)] for pair, _ in training])
    images = torch.stack([described(*pair, seed=1000 + i) for i, pair in enumerate(unseen)])
    found = fit.scores(images, [[" ".join(pair)] for pair in unseen])(torch.arange(2))
    assert found.argmax(dim=1).tolist() == [0, 1]


def test_candidates_of_several_texts_are_averaged_and_unknown_words_score_nothing():
    features = torch.stack(
        [described(*pair, seed=i) for i, pair in enumerate(itertools.product(COLOURS, SHAPES))]
    )
    fit = DescriptorFit(features, [[" ".join(pair)] for pair in itertools.product(COLOURS, SHAPES)])
    scores = fit.scores(features, [["red disc"], ["red disc", "red disc"], ["zebra"]])(torch.tensor([0]))
    torch.testing.assert_close(scores[0, 0], scores[0, 1])
    assert float(scores[0, 2]) == 0 < float(scores[0, 0])


def test_capital_letters_of_a_candidate_change_nothing():
    features = torch.stack(
        [described(*pair, seed=i) for i, pair in enumerate(itertools.product(COLOURS, SHAPES))]
    )
    fit = DescriptorFit(features, [[" ".join(pair)] for pair in itertools.product(COLOURS, SHAPES)])
    scores = fit.scores(features, [["red disc"], ["Red DISC"]])(torch.arange(3))
    torch.testing.assert_close(scores[:, 1], scores[:, 0])
    assert float(scores[0, 0]) > 0
