"""Several views of images against several views of captions: weights, what is left out, sums of pairs."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.functional import info_nce_loss, same_rows, unit
from frugalclip.objectives.base import Needs
from frugalclip.objectives.contrastive import Config as ContrastiveConfig
from frugalclip.objectives.contrastive import Contrastive
from frugalclip.objectives.multiview import Config, Multiview

DIMS = Dims(image_width=8, text_width=8, embedding=4, vocabulary=10, context=5, patch_grid=(2, 2), batch=6)


def encoded(seed: int, *, same: bool = False) -> TowerOutput:
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = torch.ones_like(x) if same else x
    return TowerOutput(None, x, x.clone().requires_grad_())


def views(
    *, seeds: tuple[int, int, int, int] = (0, 1, 2, 3), same: bool = False, codes: list[int] | None = None
) -> Features:
    made = [encoded(seed, same=same) for seed in seeds]
    fields = {"caption": torch.tensor(codes)} if codes else {}
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    return Features(
        dict(zip(("main", "second"), made[:2], strict=True)),
        dict(zip(("caption", "augmented"), made[2:], strict=True)),
        scale,
        fields=fields,
    )


def an_objective(**settings: Any) -> Multiview:
    return Multiview(validated(Config, settings, where="objectives.multiview"), DIMS)


def pair(given: Features, image: str, text: str, **options: Any) -> Tensor:
    """() one symmetric InfoNCE, as the CLIP loss is."""
    directions = info_nce_loss(
        unit(given.images[image].embedding), unit(given.texts[text].embedding), given.scale, **options
    )
    return (directions[0] + directions[1]) / 2


def test_is_the_mean_of_four_pairs():
    given = views()
    expected = sum(pair(given, v, t).item() for v in ("main", "second") for t in ("caption", "augmented")) / 4
    outcome = an_objective()(given)
    assert outcome.loss.item() == pytest.approx(expected, abs=1e-12)
    assert outcome.logs["second-caption"].item() == pytest.approx(
        pair(given, "second", "caption").item(), abs=1e-12
    )


def test_equal_views_give_the_contrastive_loss():
    given = views(seeds=(0, 0, 1, 1))
    outcome = an_objective()(given)
    clip = Contrastive(ContrastiveConfig(), DIMS)(given)
    assert outcome.loss.item() == pytest.approx(clip.loss.item(), abs=1e-12)
    terms = [outcome.logs[f"{v}-{t}"].item() for v in ("main", "second") for t in ("caption", "augmented")]
    assert terms == pytest.approx([clip.loss.item()] * 4, abs=1e-12)


def test_weights_are_those_of_the_pairs_in_order():
    given, weights = views(), [[0.4, 0.2], [0.1, 0.3]]
    names = [
        ("main", "caption", 0.4),
        ("main", "augmented", 0.2),
        ("second", "caption", 0.1),
        ("second", "augmented", 0.3),
    ]
    expected = sum(weight * pair(given, v, t).item() for v, t, weight in names)
    assert an_objective(weights=weights)(given).loss.item() == pytest.approx(expected, abs=1e-12)


def test_a_view_of_weight_zero_is_not_asked_for():
    objective = an_objective(weights=[[0, 0.5], [0, 0.5]])
    assert objective.needs() == Needs(images=frozenset({"main", "second"}), texts=frozenset({"augmented"}))
    given = views()
    del given.texts["caption"]
    outcome = objective(given)
    expected = (pair(given, "main", "augmented") + pair(given, "second", "augmented")).item() / 2
    assert outcome.loss.item() == pytest.approx(expected, abs=1e-12) and not [
        name for name in outcome.logs if name.endswith("caption")
    ]


def test_two_images_with_one_caption_get_gradients_everywhere():
    given = views()
    an_objective(texts=["caption"])(given).loss.backward()
    assert all(given.images[name].embedding.grad.abs().max() > 1e-4 for name in ("main", "second"))
    assert (
        given.texts["caption"].embedding.grad.abs().max() > 1e-4
        and given.texts["augmented"].embedding.grad is None
    )
    assert given.scale.grad.abs() > 0


def test_rows_with_equal_captions_are_positives_in_every_pair():
    codes = [1, 2, 1, 3, 4, 5]
    given, objective = views(codes=codes), an_objective(positives="caption", same="outside")
    same = same_rows(torch.tensor(codes)[:, None], torch.tensor(codes)[:, None], torch.arange(6))
    expected = (
        sum(
            pair(given, v, t, same=same, policy="outside").item()
            for v in ("main", "second")
            for t in ("caption", "augmented")
        )
        / 4
    )
    outcome = objective(given)
    assert outcome.loss.item() == pytest.approx(expected, abs=1e-12)
    assert outcome.logs["same_share"].item() == pytest.approx(2 / 36) and objective.needs().fields == {
        "caption"
    }
    assert abs(expected - an_objective()(given).loss.item()) > 1e-3


@pytest.mark.parametrize("weights", [[], [[1, 1], [1, 1]]], ids=["mean", "sum"])
def test_collapsed_features_sit_at_the_chance_that_is_logged(weights: list[list[float]]):
    outcome = an_objective(weights=weights)(views(same=True))
    assert outcome.loss.item() == pytest.approx((4 if weights else 1) * math.log(6), rel=1e-6)
    assert outcome.logs["chance"].item() == pytest.approx(outcome.loss.item(), rel=1e-6)


def test_wrong_weights_say_what_would_fit():
    with pytest.raises(
        RecipeError,
        match=r"expected weights of 2 image views by 1 text views, such as \[\[0\.5\], \[0\.5\]\]",
    ):
        an_objective(texts=["caption"], weights=[[1, 2]])
    with pytest.raises(
        RecipeError, match="weights are all 0, so nothing would be contrasted; give one pair a weight above 0"
    ):
        an_objective(weights=[[0, 0], [0, 0]])
    with pytest.raises(
        RecipeError, match="'main' is named twice; name each view once and set its share in weights"
    ):
        an_objective(images=["main", "main"])
