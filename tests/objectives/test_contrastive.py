"""The contrastive objective as a module: what it reads, what it logs, and where gradients go."""

import math

import pytest
import torch

from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.functional import info_nce_loss, unit
from frugalclip.objectives.base import Needs
from frugalclip.objectives.contrastive import Config, Contrastive

DIMS = Dims(image_width=8, text_width=8, embedding=4, vocabulary=10, context=5, patch_grid=(2, 2), batch=6)


def views(*, same: bool = False, codes: list[int] | None = None) -> Features:
    draw = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 6, 4, generator=draw, dtype=torch.float64)
    if same:
        images, texts = torch.ones(2, 6, 4, dtype=torch.float64)
    fields = {"caption": torch.tensor(codes)} if codes else {}
    encoded = [TowerOutput(None, x, x.clone().requires_grad_()) for x in (images, texts)]
    return Features(
        {"main": encoded[0]},
        {"caption": encoded[1]},
        torch.tensor(5.0, dtype=torch.float64, requires_grad=True),
        fields=fields,
    )


def test_needs_follow_the_configuration():
    assert Contrastive(Config(), DIMS).needs() == Needs(
        images=frozenset({"main"}), texts=frozenset({"caption"})
    )
    config = Config.model_validate({"positives": "label", "image": "second"})
    assert Contrastive(config, DIMS).needs() == Needs(
        frozenset({"second"}), frozenset({"caption"}), fields=frozenset({"label"})
    )


def test_mean_and_sum_of_the_directions():
    given = views()
    directions = info_nce_loss(
        unit(given.images["main"].embedding), unit(given.texts["caption"].embedding), given.scale
    )
    mean = Contrastive(Config(), DIMS)(given).loss
    total = Contrastive(Config(reduction="sum"), DIMS)(given).loss
    assert mean.item() == pytest.approx(sum(directions).item() / 2) and total.item() == pytest.approx(
        sum(directions).item()
    )


def test_collapsed_features_sit_at_the_chance_that_is_logged():
    outcome = Contrastive(Config(), DIMS)(views(same=True))
    assert outcome.loss.item() == pytest.approx(math.log(6)) and outcome.logs[
        "chance"
    ].item() == pytest.approx(math.log(6))


def test_gradients_reach_both_towers_and_the_scale_and_are_tangential():
    given = views(codes=[1, 2, 3, 1, 4, 5])
    Contrastive(Config.model_validate({"positives": "caption"}), DIMS)(given).loss.backward()
    for encoded in (given.images["main"], given.texts["caption"]):
        assert encoded.embedding.grad.abs().sum() > 0
        assert (encoded.embedding.grad * encoded.embedding).sum(dim=1).abs().max() < 1e-12, (
            "the length of an embedding does not matter"
        )
    assert given.scale.grad.abs() > 0


def test_permuting_pairs_changes_nothing():
    given, order = (
        views(codes=[1, 2, 3, 1, 4, 5]),
        torch.randperm(6, generator=torch.Generator().manual_seed(1)),
    )
    objective = Contrastive(Config.model_validate({"positives": "caption"}), DIMS)
    shuffled = Features(
        {"main": TowerOutput(None, given.images["main"].pooled, given.images["main"].embedding[order])},
        {
            "caption": TowerOutput(
                None, given.texts["caption"].pooled, given.texts["caption"].embedding[order]
            )
        },
        given.scale,
        fields={"caption": given.fields["caption"][order]},
    )
    assert objective(shuffled).loss.item() == pytest.approx(objective(given).loss.item(), abs=1e-12)


def test_the_share_of_other_positives_is_logged():
    outcome = Contrastive(Config.model_validate({"positives": "caption"}), DIMS)(
        views(codes=[1, 1, 1, 2, 3, 4])
    )
    assert outcome.logs["same_share"].item() == pytest.approx(6 / 36)


def test_a_wrong_setting_says_what_to_set():
    with pytest.raises(
        RecipeError, match="smoothing and positives exclude each other; set smoothing: 0 or positives: \\[\\]"
    ):
        validated(Config, {"smoothing": 0.1, "positives": "id"}, where="objectives.contrastive")
    with pytest.raises(
        RecipeError, match=r"objectives\.contrastive\.same is 'dorp'; expected 'drop', 'outside' or 'inside'"
    ):
        validated(Config, {"same": "dorp"}, where="objectives.contrastive")


@pytest.mark.parametrize("policy", ["drop", "inside"])
def test_a_large_batch_goes_through_in_tiles_and_says_the_same(policy: str, monkeypatch: pytest.MonkeyPatch):
    objective = Contrastive(Config.model_validate({"positives": "caption", "same": policy}), DIMS)
    given = views(codes=[1, 2, 3, 1, 4, 5])
    whole = objective(given)
    monkeypatch.setattr("frugalclip.functional.tiled.TILE", 14)
    tiled = objective(given)
    assert tiled.loss.grad_fn is not None and "Tiled" in str(tiled.loss.grad_fn.next_functions)
    assert tiled.loss.item() == pytest.approx(whole.loss.item(), abs=1e-12)
    assert {k: v.item() for k, v in tiled.logs.items()} == pytest.approx(
        {k: v.item() for k, v in whole.logs.items()}
    )
