"""The facets objective as a module: one text or several, its bias, its chance, and several processes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.functional import multi_positive_nce_loss, multi_positive_sigmoid_loss, sigmoid_loss, unit
from frugalclip.objectives.base import Needs
from frugalclip.objectives.contrastive import Config as ContrastiveConfig
from frugalclip.objectives.contrastive import Contrastive
from frugalclip.objectives.facets import Config, Facets
from frugalclip.objectives.sigmoid import Config as SigmoidConfig
from frugalclip.objectives.sigmoid import Sigmoid

DIMS = Dims(image_width=8, text_width=8, embedding=4, vocabulary=10, context=5, patch_grid=(2, 2), batch=6)


def an_objective(**settings: Any) -> Facets:
    return Facets(Config.model_validate(settings), DIMS)


def views(*, facets: int | None = 3, same: bool = False) -> Features:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(6, 4, generator=draw, dtype=torch.float64)
    texts = torch.randn(6, *([] if facets is None else [facets]), 4, generator=draw, dtype=torch.float64)
    images, texts = (torch.ones_like(images), torch.ones_like(texts)) if same else (images, texts)
    scale = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    encoded = [
        TowerOutput(None, x, x.requires_grad_(is_learned))
        for x, is_learned in ((images, True), (texts, False))
    ]  # texts come from a store
    return Features({"main": encoded[0]}, {"caption": encoded[1]}, scale)


def parts(given: Features) -> tuple[Tensor, Tensor, Tensor]:
    return unit(given.images["main"].embedding), unit(given.texts["caption"].embedding), given.scale


def test_is_the_loss_that_the_configuration_names():
    images, texts, scale = parts(views())
    sigmoid = an_objective()(views())
    assert sigmoid.loss.item() == pytest.approx(
        multi_positive_sigmoid_loss(images, texts, scale, torch.tensor(-10.0)).item(), abs=1e-12
    )
    assert sigmoid.logs["bias"] == -10
    contrastive = an_objective(loss="contrastive")(views())
    assert contrastive.loss.item() == pytest.approx(
        multi_positive_nce_loss(images, texts, scale).loss.item() / 2, abs=1e-12
    )


@pytest.mark.parametrize("facets", [None, 1])
def test_one_text_is_the_objective_of_siglip_and_of_clip_to_the_last_bit(facets: int | None):
    plain = views(facets=None)
    assert an_objective()(views(facets=facets)).loss.equal(Sigmoid(SigmoidConfig(), DIMS)(plain).loss)
    assert an_objective(loss="contrastive")(views(facets=facets)).loss.equal(
        Contrastive(ContrastiveConfig(), DIMS)(plain).loss
    )


def test_the_bias_is_learned_by_the_sigmoid_loss_and_absent_from_the_other():
    given, objective = views(), an_objective()
    objective(given).loss.backward()
    assert objective.bias.grad.abs() > 0 and given.scale.grad.abs() > 0
    assert an_objective(bias="batch").bias.item() == pytest.approx(-math.log(5))
    assert not list(an_objective(loss="contrastive").parameters())


def test_gradients_reach_images_across_their_length_only_and_never_stored_texts():
    for loss in ("sigmoid", "contrastive"):
        given = views()
        an_objective(loss=loss)(given).loss.backward()
        images = given.images["main"].embedding
        assert images.grad.abs().sum() > 0 and (images.grad * images).sum(dim=1).abs().max() < 1e-12
        assert given.texts["caption"].embedding.grad is None


def test_the_start_costs_ten_and_collapse_sits_at_the_chance_that_is_logged():
    apart = torch.eye(28, dtype=torch.float64)
    far = Features(
        {"main": TowerOutput(None, apart, apart[:4])},
        {"caption": TowerOutput(None, apart, apart[4:].view(4, 6, 28))},
        torch.tensor(10.0),
    )
    assert an_objective()(far).loss.item() == pytest.approx(10, abs=1e-3), "all of it from the positives"
    outcome = an_objective(loss="contrastive")(views(same=True))
    assert outcome.loss.item() == pytest.approx(math.log(6)) and outcome.logs[
        "chance"
    ].item() == pytest.approx(math.log(6))


def test_permuting_pairs_changes_nothing():
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    for loss in ("sigmoid", "contrastive"):
        given, objective = views(), an_objective(loss=loss)
        images, texts = given.images["main"].embedding[order], given.texts["caption"].embedding[order]
        moved = objective(
            Features(
                {"main": TowerOutput(None, images, images)},
                {"caption": TowerOutput(None, texts, texts)},
                given.scale,
            )
        )
        assert moved.loss.item() == pytest.approx(objective(given).loss.item(), abs=1e-12)


def test_half_precision_features_are_scored_in_single_precision():
    given = views()
    low = [
        TowerOutput(None, x, x.detach().bfloat16())
        for x in (given.images["main"].embedding, given.texts["caption"].embedding)
    ]
    outcome = an_objective()(Features({"main": low[0]}, {"caption": low[1]}, torch.tensor(10.0)))
    exact = sigmoid_loss(
        unit(low[0].embedding), unit(low[1].embedding)[:, 0], torch.tensor(10.0), torch.tensor(-10.0)
    )
    assert outcome.loss.dtype == exact.dtype == torch.float32


def test_needs_follow_the_configuration():
    assert an_objective(image="second", text="facets").needs() == Needs(
        images=frozenset({"second"}), texts=frozenset({"facets"})
    )
