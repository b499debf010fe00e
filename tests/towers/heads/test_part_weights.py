"""Weights of parts: a part that texts do not predict gets none, and given weights stay."""

import math

import torch

from frugalclip.towers.heads.part_weights import chosen_weights

NAN = math.nan


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


TEXTS = normal(60, 4, seed=0)
CAPTION = torch.arange(120) % 60
TOLD = torch.nn.functional.normalize(TEXTS[CAPTION] @ normal(4, 6, seed=1) + 0.3 * normal(120, 6, seed=2))
NOISE = torch.nn.functional.normalize(normal(120, 6, seed=3))


def test_what_texts_predict_outweighs_noise_in_any_order():
    told, noise = chosen_weights([TOLD, NOISE], CAPTION, TEXTS, fixed=torch.tensor([NAN, NAN])).tolist()
    assert told > 2 * noise
    swapped = chosen_weights([NOISE, TOLD], CAPTION, TEXTS, fixed=torch.tensor([NAN, NAN]))
    assert swapped[1] > 2 * swapped[0]


def test_chosen_weights_have_a_mean_square_of_one_and_given_ones_stay():
    weights = chosen_weights([NOISE, TOLD, NOISE], CAPTION, TEXTS, fixed=torch.tensor([0.3, NAN, NAN]))
    assert weights[0] == torch.tensor(0.3)
    torch.testing.assert_close(weights[1:].square().mean(), torch.tensor(1.0))


def test_too_few_captions_choose_nothing():
    few = CAPTION < 10
    caption = CAPTION[few]
    weights = chosen_weights([TOLD[few], NOISE[few]], caption, TEXTS[:10], fixed=torch.tensor([NAN, NAN]))
    assert weights.tolist() == [1, 1]
