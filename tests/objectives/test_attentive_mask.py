"""Which patches are kept: whole blocks, those of the highest scores, wherever the crops lie."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Batch, Dims, Features, TowerOutput
from frugalclip.objectives.attentive_mask import (
    AttentiveMask,
    Config,
    block_scores,
    crop_scores,
    highest_blocks,
    mirrored_scores,
)
from frugalclip.objectives.base import Needs

WHOLE = [0, 0, 80, 80]


def dims(grid: tuple[int, int] = (8, 8)) -> Dims:
    return Dims(
        image_width=6, text_width=8, embedding=4, vocabulary=10, context=5, patch_grid=grid, batch=5, seed=3
    )


def an_objective(*, grid: tuple[int, int] = (8, 8), **settings: Any) -> AttentiveMask:
    return AttentiveMask(validated(Config, settings, where="objectives.attentive_mask"), dims(grid))


def scores_of(number: int, patches: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(number, patches, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seen(scores: Tensor) -> dict[str, Features]:
    pooled = torch.zeros(len(scores), 6)
    return {"ema": Features({"around": TowerOutput(None, pooled, pooled, scores)}, {}, torch.tensor(1.0))}


def a_batch(
    number: int, *, main: list[int] = WHOLE, around: list[int] = WHOLE, first: int = 0, turn: int = 0
) -> Batch:
    boxes = {
        name: torch.tensor([box] * number).float()
        for name, box in (("main", main), ("second", main), ("around", around))
    }
    return Batch(torch.arange(number) + first, {}, {}, boxes=boxes, turns=torch.full((number,), turn))


def one_hot(row: int, column: int, side: int = 8) -> Tensor:
    scores = torch.zeros(1, side, side, dtype=torch.float64)
    scores[0, row, column] = 1
    return scores.flatten(1)


def is_union_of_blocks(keep: Tensor, *, grid: tuple[int, int], block: int) -> bool:
    plane = (
        torch.zeros(len(keep), grid[0] * grid[1])
        .scatter(1, keep, 1)
        .view(-1, grid[0] // block, block, grid[1] // block, block)
    )
    return bool((plane.amin(dim=(2, 4)) == plane.amax(dim=(2, 4))).all())


@pytest.mark.parametrize(
    ("grid", "block", "number"), [((8, 8), 2, 5), ((6, 4), 2, 3), ((4, 6), 1, 7), ((6, 9), 3, 2)]
)
def test_highest_blocks_are_the_blocks_of_the_highest_mean(grid: tuple[int, int], block: int, number: int):
    scores = scores_of(7, grid[0] * grid[1])
    keep = highest_blocks(block_scores(scores, grid=grid, block=block), grid=grid, block=block, number=number)
    assert keep.shape == (7, number * block**2) and is_union_of_blocks(keep, grid=grid, block=block)
    for row, kept in zip(scores.tolist(), keep.tolist(), strict=True):
        means = {}
        for top in range(0, grid[0], block):
            for left in range(0, grid[1], block):
                inside = [(top + i) * grid[1] + left + j for i in range(block) for j in range(block)]
                means[tuple(inside)] = sum(row[p] for p in inside) / block**2
        expected = sorted(
            p for patches in sorted(means, key=lambda patches: -means[patches])[:number] for p in patches
        )
        assert kept == expected


def test_of_equal_blocks_the_first_are_kept():
    assert highest_blocks(torch.ones(1, 4), grid=(4, 4), block=2, number=2).tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7]
    ]


@pytest.mark.parametrize(
    ("keep", "kept"), [(0.5, 32), (0.25, 16), (0.26, 20), (0.01, 4), (1.0, 64), (0.3125, 20)]
)
def test_the_share_is_what_is_kept_rounded_up_to_whole_blocks(keep: float, kept: int):
    made = an_objective(keep=keep).prepare(a_batch(5), seen(scores_of(5)))
    assert set(made) == {"main@kept", "second@kept"}
    for selection in made.values():
        assert selection.keep.shape == (5, kept) and is_union_of_blocks(selection.keep, grid=(8, 8), block=2)
        assert all(len(set(row)) == kept for row in selection.keep.tolist())


@pytest.mark.parametrize("box", [[3, 5, 30, 22], [-4, 10, 40, 40], [0, 0, 60, 47], [50, 40, 30, 30]])
def test_scores_are_carried_as_two_chained_resizes_would(box: list[int]):
    around, grid, around_grid = [0, 0, 60, 47], (4, 6), (5, 3)
    scores = scores_of(2, 15)
    large = F.interpolate(
        scores.view(2, 1, *around_grid), size=around[2:], mode="bilinear", align_corners=False
    )
    top, left, height, width = (value + 100 * (place < 2) for place, value in enumerate(box))
    cut = F.pad(large, (100, 100, 100, 100))[:, :, top : top + height, left : left + width]
    expected = F.interpolate(cut, size=grid, mode="bilinear", align_corners=False).flatten(1)
    found = crop_scores(
        scores, torch.tensor([around] * 2), torch.tensor([box] * 2), grid=grid, around_grid=around_grid
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_own_box_leaves_the_scores_as_they_are_up_to_interpolation():
    box, smooth = torch.tensor([[7.0, 9, 400, 300]]), torch.arange(64, dtype=torch.float64)[None] / 64
    torch.testing.assert_close(
        crop_scores(smooth, box, box, grid=(8, 8), around_grid=(8, 8)), smooth, rtol=0, atol=0.01
    )
    even = torch.ones(1, 64, dtype=torch.float64)
    inside = torch.tensor([[100.0, 100, 50, 60]])
    torch.testing.assert_close(
        crop_scores(even, box, inside, grid=(4, 4), around_grid=(8, 8)), even[:, :16], rtol=0, atol=1e-12
    )


def test_one_attended_patch_lands_in_the_tokens_that_cover_it():
    around, view = (
        torch.tensor([[10.0, 20, 160, 160]]),
        torch.tensor([[50.0, 100, 80, 60]]),
    )  # patches of 20 x 20, tokens of 10 x 7.5 pixels
    for row in range(8):
        for column in range(8):
            found = crop_scores(one_hot(row, column), around, view, grid=(8, 8), around_grid=(8, 8)).view(
                8, 8
            )
            centre_y, centre_x = 10 + 20 * row + 10, 20 + 20 * column + 10
            token_y, token_x = 50 + 10 * torch.arange(8) + 5, 100 + 7.5 * torch.arange(8) + 3.75
            near = ((token_y - centre_y).abs() < 20.5)[:, None] & ((token_x - centre_x).abs() < 20.5)
            assert (found[~near] == 0).all()
            if 50 <= centre_y < 130 and 100 <= centre_x < 160:
                best = divmod(int(found.argmax()), 8)
                assert abs(token_y[best[0]] - centre_y) <= 10 and abs(token_x[best[1]] - centre_x) <= 10
                assert found.max() > 0.5


def test_pixels_that_the_teacher_did_not_see_have_no_score():
    even, around = torch.ones(1, 16, dtype=torch.float64), torch.tensor([[0.0, 0, 40, 40]])
    half_out = crop_scores(
        even, around, torch.tensor([[0.0, 20, 40, 40]]), grid=(4, 4), around_grid=(4, 4)
    ).view(4, 4)
    assert (half_out[:, :2] == 1).all() and (half_out[:, 2:] == 0).all()


def test_views_keep_what_the_teacher_attends_to_within_their_crop():
    objective = an_objective(keep=1 / 16, block=2, views=["main"])
    kept = objective.prepare(a_batch(1, main=[40, 0, 40, 40]), seen(one_hot(7, 1)))[
        "main@kept"
    ].keep  # the lower left quarter
    assert kept.tolist() == [[6 * 8 + 2, 6 * 8 + 3, 7 * 8 + 2, 7 * 8 + 3]]


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("around", [False, True])
def test_mirrored_views_keep_the_same_part_of_the_image(view: bool, around: bool):
    objective = an_objective(keep=0.25, views=["main"])
    plain = objective.prepare(a_batch(3, main=[0, 10, 60, 50]), seen(scores_of(3)))["main@kept"].keep
    scores = mirrored_scores(scores_of(3), torch.tensor([around] * 3), grid=(8, 8))
    batch = a_batch(3, main=[0, 10, 60, 50])
    batch.mirrored.update(main=torch.tensor([view] * 3), around=torch.tensor([around] * 3))
    found = objective.prepare(batch, seen(scores))["main@kept"].keep
    on_image = ((found // 8) * 8 + (7 - found % 8)).sort(dim=1).values if view else found
    assert on_image.equal(plain)


def test_mirroring_is_by_row():
    scores = torch.arange(12.0).view(2, 6)
    found = mirrored_scores(scores, torch.tensor([False, True]), grid=(2, 3))
    assert found.tolist() == [[0, 1, 2, 3, 4, 5], [8, 7, 6, 11, 10, 9]]
    assert mirrored_scores(scores, None, grid=(2, 3)).equal(scores)


@pytest.mark.parametrize("choose", ["random", "block"])
def test_what_is_drawn_follows_from_view_row_and_turn_alone(choose: str):
    objective = an_objective(choose=choose)
    made = objective.prepare(a_batch(50), {})
    assert not made["main@kept"].keep.equal(made["second@kept"].keep)
    part = objective.prepare(a_batch(10, first=20), {})
    assert part["main@kept"].keep.equal(made["main@kept"].keep[20:30])
    assert not objective.prepare(a_batch(50, turn=1), {})["main@kept"].keep.equal(made["main@kept"].keep)
    assert is_union_of_blocks(made["main@kept"].keep, grid=(8, 8), block=2) and made[
        "main@kept"
    ].keep.shape == (50, 32)


def test_at_random_every_patch_is_kept_equally_often():
    keep = an_objective(choose="random", keep=0.25).prepare(a_batch(4000), {})["main@kept"].keep
    shares = torch.bincount(keep.flatten(), minlength=64) / 4000
    assert (shares - 0.25).abs().max() < 0.04


def test_a_block_leaves_out_one_connected_part_at_a_random_place():
    keep = an_objective(choose="block", block=1, keep=0.6).prepare(a_batch(300), {})["main@kept"].keep
    missing = torch.zeros(64)
    for row in keep.tolist():
        dropped = set(range(64)) - set(row)
        missing[list(dropped)] += 1
        reached, ahead = set(), [min(dropped)]
        while ahead:
            patch = ahead.pop()
            reached.add(patch)
            steps = [
                patch - 8,
                patch + 8,
                *([patch - 1] if patch % 8 else []),
                *([patch + 1] if patch % 8 < 7 else []),
            ]
            ahead += [step for step in steps if step in dropped and step not in reached]
        assert reached == dropped and len(dropped) == 25
    assert missing.min() > 0


def test_its_loss_is_zero_and_it_logs_how_uneven_attention_is():
    objective, scale = an_objective(keep=0.25), torch.tensor(5.0, requires_grad=True)
    even = Features({}, {}, scale, targets=seen(torch.full((3, 64), 0.01)))
    outcome = objective(even)
    assert (
        outcome.loss.item() == 0
        and outcome.logs["kept"].item() == 0.25
        and outcome.logs["attention_on_top"].item() == pytest.approx(0.25)
    )
    sharp = Features({}, {}, scale, targets=seen(one_hot(2, 2)))
    assert objective(sharp).logs["attention_on_top"].item() == 1
    assert "attention_on_top" not in an_objective(choose="random")(Features({}, {}, scale)).logs


def test_needs_a_teachers_attention_only_where_it_looks_at_it():
    assert an_objective().needs() == Needs(
        teachers=frozenset({"ema:around"}), attention=frozenset({"ema:around"})
    )
    assert an_objective(choose="random").needs() == an_objective(choose="block").needs() == Needs()


def test_mistakes_say_what_to_set():
    with pytest.raises(
        RecipeError,
        match=r"attentive_mask\.block 2 does not divide the 7 x 7 patches of a view; set block: 1",
    ):
        an_objective(grid=(7, 7))
    with pytest.raises(RecipeError, match="name the views as the recipe makes them, without @"):
        an_objective(views=["main@kept"])
