"""Kernel ridge: weighted ridge regression written as loops, anchors, novelty, saving and loading."""

import math
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from frugalclip.core.errors import RecipeError
from frugalclip.towers.base import FitData, KnownClasses
from frugalclip.towers.heads.kernel_ridge import KernelRidge, KernelRidgeConfig, class_directions


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


TEXTS, TARGETS = normal(30, 6, seed=2) + 1, normal(30, 4, seed=3)
WEIGHTS = 0.2 + torch.rand(30, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def kernel(texts: Tensor, others: Tensor, *, sharpness: float) -> Tensor:
    """Written as loops."""
    return torch.tensor(
        [[math.exp(-sharpness * float((a - b).square().sum())) for b in others] for a in texts],
        dtype=torch.float64,
    )


def test_the_kernel_head_is_weighted_kernel_ridge_regression():
    head = KernelRidgeConfig(kind="kernel_ridge", sharpness=0.7, ridge=0.3).build(width=6, dim=4).double()
    head.fit_to(TEXTS, TARGETS, WEIGHTS)
    mean = (WEIGHTS[:, None] * TEXTS).sum(0) / WEIGHTS.sum()
    centred = TEXTS - mean
    unit = centred / centred.norm(dim=1, keepdim=True)
    among = kernel(unit, unit, sharpness=0.7)
    # the weights a that minimise sum_i w_i |y_i - (K a)_i|^2 + ridge a' K a, from its normal equations
    solved = torch.linalg.solve(
        among @ torch.diag(WEIGHTS) @ among + 0.3 * among, among @ (WEIGHTS[:, None] * TARGETS)
    )
    new = normal(9, 6, seed=5)
    unit_new = (new - mean) / (new - mean).norm(dim=1, keepdim=True)
    torch.testing.assert_close(
        head(new), kernel(unit_new, unit, sharpness=0.7) @ solved, atol=1e-8, rtol=1e-6
    )


def test_fewer_anchors_that_span_all_texts_give_the_same():
    """One text stands twice: its weight is shared, and the rarer copy is no anchor."""
    texts, targets = torch.cat([TEXTS, TEXTS[3:4]]), torch.cat([TARGETS, TARGETS[3:4]])
    weights = torch.cat([WEIGHTS, WEIGHTS.new_tensor([0.05])])
    weights[3] -= 0.05
    whole = KernelRidgeConfig(kind="kernel_ridge").build(width=6, dim=4).double()
    whole.fit_to(TEXTS, TARGETS, WEIGHTS)
    fewer = KernelRidgeConfig(kind="kernel_ridge", anchors=30).build(width=6, dim=4).double()
    fewer.fit_to(texts, targets, weights)
    assert fewer.anchors.shape == (30, 6)
    torch.testing.assert_close(fewer(TEXTS), whole(TEXTS), atol=1e-6, rtol=1e-6)


def test_the_anchors_are_the_texts_that_are_drawn_most_often():
    head = KernelRidgeConfig(kind="kernel_ridge", anchors=5).build(width=6, dim=4).double()
    head.fit_to(TEXTS, TARGETS, WEIGHTS)
    unit = torch.nn.functional.normalize(TEXTS - head.mean, dim=-1)
    assert torch.equal(head.anchors, unit[torch.sort(torch.topk(WEIGHTS, 5).indices).values])


def fitted(*, anchors: int = 6000, train: bool = False) -> KernelRidge:
    head = KernelRidgeConfig(kind="kernel_ridge", anchors=anchors, train=train).build(width=6, dim=4)
    head.fit_to(TEXTS, TARGETS, WEIGHTS)
    return head


@pytest.mark.parametrize("anchors", [30, 7])
def test_a_saved_head_is_loaded_whatever_its_number_of_anchors(anchors: int):
    saved = fitted(anchors=anchors)
    fresh, other = KernelRidgeConfig(kind="kernel_ridge").build(width=6, dim=4), fitted(anchors=12)
    for head in (fresh, other):
        head.load_state_dict(saved.state_dict())
        assert torch.equal(head(TEXTS.float()), saved(TEXTS.float()))


def test_kernels_of_backbones_side_by_side_are_multiplied():
    """A constant part changes nothing, and kernels of parts are multiplied."""
    head = (
        KernelRidgeConfig(kind="kernel_ridge", parts=(2, 4), sharpness=(0.7, 0.4), ridge=0.3)
        .build(width=6, dim=4)
        .double()
    )
    head.fit_to(TEXTS, TARGETS, WEIGHTS)
    mean = (WEIGHTS[:, None] * TEXTS).sum(0) / WEIGHTS.sum()
    parts = [torch.nn.functional.normalize(part, dim=-1) for part in (TEXTS - mean).split((2, 4), dim=1)]
    among = kernel(parts[0], parts[0], sharpness=0.7) * kernel(parts[1], parts[1], sharpness=0.4)
    solved = torch.linalg.solve(among + torch.diag(0.3 / WEIGHTS), TARGETS)
    torch.testing.assert_close(head(TEXTS), among @ solved, atol=1e-9, rtol=1e-7)


def test_what_is_unknown_of_a_text_is_the_variance_of_the_process():
    head = (
        KernelRidgeConfig(kind="kernel_ridge", sharpness=0.7, ridge=0.3, novelty=0.25)
        .build(width=6, dim=4)
        .double()
    )
    head.fit_to(TEXTS, torch.cat([TARGETS[:, :3], torch.zeros(30, 1)], dim=1), WEIGHTS)
    new = torch.cat([normal(9, 6, seed=5), TEXTS[:3]])
    unit = torch.nn.functional.normalize(TEXTS - head.mean, dim=-1)
    near = kernel(torch.nn.functional.normalize(new - head.mean, dim=-1), unit, sharpness=0.7)
    # conditioning the joint normal distribution of the new texts and the noisy anchors, Rasmussen & Williams
    # 2006, eq. 2.24
    noisy = kernel(unit, unit, sharpness=0.7) + torch.diag(0.3 / WEIGHTS)
    variance = (torch.ones(12, 12) - near @ torch.linalg.inv(noisy) @ near.T).diagonal()
    out = head(new)
    torch.testing.assert_close(out[:, 3], 0.5 * variance, atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(out[:, :3].norm(dim=1), torch.ones(12, dtype=torch.float64))
    assert out[:9, 3].mean() > out[9:, 3].mean()  # the training texts are known better


@pytest.mark.parametrize("novelty", [0.0, 0.25])
def test_a_head_that_was_saved_knows_as_much(novelty: float):
    head = KernelRidgeConfig(kind="kernel_ridge", novelty=novelty).build(width=6, dim=4)
    head.fit_to(TEXTS, TARGETS, WEIGHTS)
    again = KernelRidgeConfig(kind="kernel_ridge", novelty=novelty).build(width=6, dim=4)
    again(torch.zeros(1, 6))  # what it worked out before is forgotten
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(TEXTS.float()), head(TEXTS.float()))


@pytest.mark.parametrize(
    "settings", [{"parts": [2, 4]}, {"sharpness": [1, 2]}, {"parts": [2], "sharpness": [-1]}, {"novelty": -1}]
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object]):
    with pytest.raises(ValueError, match=r"sharpness|novelty"):
        KernelRidgeConfig.model_validate({"kind": "kernel_ridge", **settings})


def test_parts_that_do_not_add_up_are_refused():
    with pytest.raises(RecipeError, match=r"add up to 5, and model\.text\.width is 6"):
        KernelRidgeConfig(kind="kernel_ridge", parts=(2, 3), sharpness=(1, 1)).build(width=6, dim=4)


def test_loading_keeps_the_weight_that_an_optimiser_holds():
    head = fitted(train=True)
    held = head.weight
    head.load_state_dict({name: value + 1 for name, value in head.state_dict().items()})
    assert head.weight is held


@pytest.mark.parametrize("train", [False, True])
def test_the_weights_move_only_where_that_is_asked_for(train: bool):
    head = fitted(train=train)
    assert [p.requires_grad for p in head.parameters()] == [train]
    assert head(TEXTS.float()).requires_grad == train


def test_a_direction_of_a_class_is_where_its_score_grows():
    embeddings = normal(50, 4, seed=6)
    scores = torch.stack([3 * embeddings[:, 2] + 7, -embeddings[:, 0], torch.ones(50).double()], dim=1)
    found = class_directions(embeddings, scores)
    torch.testing.assert_close(found[:2].norm(dim=1), torch.ones(2).double())
    assert found[0, 2] > 0.98 and found[1, 0] < -0.98 and found[2].abs().max() == 0


class Pictures:
    """One text a picture, and a backbone whose second class is brighter where the first number is higher."""

    def __init__(self, classes: KnownClasses | None) -> None:
        self.classes, self.rows = classes, np.arange(len(TEXTS))

    def pairs(self, *, weighted: bool = False):
        return self.rows, self.rows, np.ones(len(self.rows))

    def image_embeddings(self, rows: np.ndarray) -> Tensor:
        return TARGETS[rows]

    def image_features(self, rows: np.ndarray) -> Tensor:
        return TARGETS[rows].float()

    def text_features(self, texts: np.ndarray) -> Tensor:
        return TEXTS[texts].float()

    def known_classes(self) -> KnownClasses | None:
        return self.classes

    def features_of(self, texts: tuple[str, ...]) -> Tensor:
        assert texts == ("dark", "bright")
        return normal(2, 6, seed=9).float() + 1


def test_names_of_classes_are_further_texts_with_the_directions_of_their_scores():
    classes = KnownClasses(("dark", "bright"), torch.tensor([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]]))
    head = KernelRidgeConfig(kind="kernel_ridge", classes=50).build(width=6, dim=4)
    said = head.fit(cast(FitData, Pictures(classes)), side="text")
    assert said == "30 texts and 2 classes of the image backbone" and len(head.anchors) == 32
    dark, bright = torch.nn.functional.normalize(head(normal(2, 6, seed=9).float() + 1), dim=-1)
    assert dark[0] < -0.9 and bright[0] > 0.9
    plain = KernelRidgeConfig(kind="kernel_ridge").build(width=6, dim=4)
    assert plain.fit(cast(FitData, Pictures(classes)), side="text") == "30 texts"
    without = KernelRidgeConfig(kind="kernel_ridge", classes=50).build(width=6, dim=4)
    assert without.fit(cast(FitData, Pictures(None)), side="text") == "30 texts"
    assert torch.equal(without.weight, plain.weight)
    assert "classes" not in plain.config.model_dump() and head.config.model_dump()["classes"] == 50
