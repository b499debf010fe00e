import math

import numpy as np
import pytest
import torch

from frugalclip.functional.descriptors import (
    DESCRIPTORS,
    SIDE,
    colour_histograms,
    colour_layout,
    describe,
    gradient_histograms,
)


def edge(angle: float, side: int = 64) -> torch.Tensor:
    """An image that is dark on one side of a straight edge through its middle.

    The gradient points to `angle`.
    """
    y, x = np.mgrid[0:side, 0:side] - (side - 1) / 2
    bright = 127.5 * (1 + np.tanh((x * math.cos(angle) + y * math.sin(angle)) / 4))
    return torch.from_numpy(bright.astype(np.uint8))[None, None].expand(1, 3, -1, -1)


@pytest.mark.parametrize("bin_number", range(9))
def test_an_edge_votes_for_its_own_orientation_from_both_sides(bin_number):
    angle = (bin_number + 0.5) * math.pi / 9
    for turned in (angle, angle + math.pi):  # dark to bright or bright to dark
        votes = (
            gradient_histograms(edge(turned)).reshape(-1, 9, 4).sum((0, 2))
        )  # unfold puts orientations before the cells of a block
        assert int(votes.argmax()) == bin_number


def test_gradients_of_a_flat_image_are_nothing_and_blocks_are_clipped():
    assert gradient_histograms(torch.full((2, 3, 64, 64), 99, dtype=torch.uint8)).abs().max() == 0
    found = gradient_histograms(edge(0.3))
    assert found.shape == (1, 7 * 7 * 36)
    blocks = found.reshape(49, 36)
    assert float(blocks.norm(dim=1).max()) <= 1.0
    assert float(found.min()) >= 0


def test_colours_are_counted():
    pixels = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    pixels[0, 0, :, :2] = 255  # a quarter red, the rest black
    found = colour_histograms(pixels)
    assert found[0, 0] == pytest.approx(math.sqrt(0.75))
    assert found[0, 3 * 16] == pytest.approx(math.sqrt(0.25))
    assert float(found.norm()) == pytest.approx(1)


def test_shape_and_colour_weigh_the_same():
    first, second = edge(0.2), edge(1.4)
    cosine = float(describe(first)[0] @ describe(second)[0])
    unit = torch.nn.functional.normalize
    shapes = float(unit(gradient_histograms(first))[0] @ unit(gradient_histograms(second))[0])
    colours = float(colour_histograms(first)[0] @ colour_histograms(second)[0])
    assert cosine == pytest.approx((shapes + colours) / 2, abs=1e-5)


def test_coarse_shapes_forgive_a_shift():
    """A bar that moves by half a cell of 8 pixels moves by a quarter of a cell of 16."""
    bars = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
    bars[0, :, 20:44, 24:30] = 255
    bars[1, :, 20:44, 28:34] = 255
    fine, coarse = (DESCRIPTORS[name].of(bars) for name in ("shapes", "coarse shapes"))
    assert coarse[0] @ coarse[1] > fine[0] @ fine[1] + 0.05


def test_a_layout_tells_where_colours_are():
    pixels = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    pixels[0, 1, :8, 56:] = 255  # green in the upper right corner
    found = colour_layout(pixels).view(3, 8, 8)
    assert found[1, 0, 7] == 1 and found.sum() == 1


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_the_width_is_known_beforehand(name: str):
    flat = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
    assert DESCRIPTORS[name].of(flat).shape == (2, DESCRIPTORS[name].width)
