"""Whitened parts: no part outweighs another, and what differs within captions is shrunk."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from frugalclip.core.errors import RecipeError
from frugalclip.towers.heads.whitened_parts import WhitenedParts, WhitenedPartsConfig, main_texts


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def head(*parts: int, dim: int = 12, **settings: object) -> WhitenedParts:
    config = WhitenedPartsConfig.model_validate({"kind": "whitened_parts", "parts": parts, **settings})
    return config.build(width=sum(parts), dim=dim).double()


PICTURES = normal(200, 8) @ normal(8, 8, seed=1) + 3
ALONE = torch.arange(200)  # every picture has a caption of its own


def test_a_part_counts_by_its_weight_whatever_its_scale_and_width():
    fitted, scaled = (head(6, 2, weights=(1, 0.5)) for _ in range(2))
    fitted.fit_to(PICTURES, ALONE)
    larger = PICTURES.clone()
    larger[:, :6] = 1000 * larger[:, :6]
    scaled.fit_to(larger, ALONE)
    for one, pictures in ((fitted, PICTURES), (scaled, larger)):
        first, second = (one._placed(pictures) + one.middle).split([6, 2], dim=1)
        torch.testing.assert_close(first.norm(dim=1), torch.ones(200, dtype=torch.float64))
        torch.testing.assert_close(second.norm(dim=1), torch.full((200,), 0.5, dtype=torch.float64))
    similar, again = fitted(PICTURES), scaled(larger)
    torch.testing.assert_close(similar @ similar.T, again @ again.T, atol=0.02, rtol=0)


def test_without_captions_that_recur_angles_of_the_first_step_stay():
    fitted = head(6, 2)
    fitted.fit_to(PICTURES, ALONE)
    before = fitted._placed(PICTURES)
    after = fitted(PICTURES) + fitted.centre
    torch.testing.assert_close(after.norm(dim=1), torch.ones(200, dtype=torch.float64))
    torch.testing.assert_close(after @ after.T, F.normalize(before) @ F.normalize(before).T)


def nearest_is_the_same(images: Tensor, texts: Tensor) -> float:
    similar = F.normalize(images) @ F.normalize(images).T
    return float((texts[similar.fill_diagonal_(-2).argmax(1)] == texts).double().mean())


def test_what_differs_within_captions_counts_less():
    things, texts = normal(100, 8, seed=2), torch.arange(200) % 100
    style = torch.tensor([5.0, 5, 5, 0, 0, 0, 0, 0], dtype=torch.float64)
    noise = normal(200, 1, seed=3) * style + 0.3 * normal(200, 8, seed=4)
    pictures = things[texts] + noise
    informed, blind = head(8, power=0, sphere=0.1), head(8, power=0, sphere=0.1)
    informed.fit_to(pictures, texts)
    blind.fit_to(pictures, ALONE)
    assert nearest_is_the_same(informed(pictures), texts) > nearest_is_the_same(blind(pictures), texts) + 0.1


def test_one_recurring_caption_changes_little():
    fitted, alone = head(6, 2), head(6, 2)
    texts = ALONE.clone()
    texts[1] = 0
    fitted.fit_to(PICTURES, texts)
    alone.fit_to(PICTURES, ALONE)
    one, other = F.normalize(fitted(PICTURES)), F.normalize(alone(PICTURES))
    torch.testing.assert_close(one @ one.T, other @ other.T, atol=0.15, rtol=0)


def test_pictures_that_are_all_alike_and_few_of_them_leave_no_noise():
    fitted = head(6, 2, dim=9)
    fitted.fit_to(PICTURES[:1].expand(4, -1), torch.zeros(4, dtype=torch.int64))
    assert torch.isfinite(fitted(PICTURES)).all()
    fitted.fit_to(PICTURES[:3], torch.tensor([0, 0, 1]))
    assert torch.isfinite(fitted(PICTURES)).all()
    assert not fitted.second[:, -1].any()  # kept free


def test_the_last_channel_is_the_constant():
    fitted = head(6, 2)
    fitted.fit_to(PICTURES, ALONE)
    fitted.set_level(0.3)
    assert (fitted(PICTURES)[:, -1] == 0.3).all()


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(RecipeError, match="parts add up to 8, and the features have a width of 9"):
        WhitenedPartsConfig(kind="whitened_parts", parts=(6, 2)).build(width=9, dim=4)
    with pytest.raises(ValueError, match="weights has 1 numbers, and parts has 2"):
        WhitenedPartsConfig(kind="whitened_parts", parts=(6, 2), weights=(1.0,))


def test_features_of_the_other_tower_are_read_only_where_weights_are_chosen():
    assert head(6, 2).fit_inputs("image") == {"image_features", "text_features"}
    assert head(6, 2, weights=(1, None)).fit_inputs("image") == {"image_features", "text_features"}
    assert head(6, 2, weights=(1, 0.5)).fit_inputs("image") == {"image_features"}


class Pairs:
    """Three images: the second text of image 4 is drawn more often."""

    def pairs(self, *, weighted: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.array([4, 4, 2, 9, 9]), np.array([7, 3, 3, 5, 1]), np.array([0.2, 0.8, 1.0, 0.5, 0.5])


def test_the_text_drawn_most_often_says_which_images_belong_together():
    assert main_texts(Pairs(), np.array([2, 4, 9])).tolist() == [3, 3, 1]  # type: ignore[arg-type]
