from collections.abc import Callable

import numpy as np
import pytest

from frugalclip.curation import image_hashes
from frugalclip.curation.image_hashes import (
    EDGES,
    RADIUS,
    ImageHashes,
    cropping,
    pairs_among,
    pairs_between,
    pairs_of_equal,
)


def some_hashes(count: int, *, seed: int = 0) -> ImageHashes:
    """Random hashes; half of the images have a crop that differs in 0 to 9 bits from another one."""
    random = np.random.default_rng(seed)
    crops = random.integers(0, 2**63, (count, 5, 2), dtype=np.uint64)
    for row in range(0, count - 1, 2):
        bits = np.unpackbits(crops[row + 1, 0].copy().view(np.uint8))
        bits[random.permutation(128)[: row % 10]] ^= 1
        crops[row, 3] = np.packbits(bits).view(np.uint64)
    return ImageHashes(np.ascontiguousarray(crops[:, 0]), crops)


def alike_hashes(count: int, *, seed: int = 0) -> ImageHashes:
    """Hashes of three kinds of image: those of a kind differ in 0 to 19 bits, so they share many words."""
    random = np.random.default_rng(seed)
    kinds = np.random.default_rng(9).integers(0, 2, (3, 128), dtype=np.uint8)
    bits = kinds[random.integers(0, 3, (count, 5))]
    for place in np.ndindex(count, 5):
        bits[place][random.permutation(128)[: random.integers(0, 20)]] ^= 1
    crops = np.packbits(bits, axis=-1).view(np.uint64)
    return ImageHashes(np.ascontiguousarray(crops[:, 0]), crops)


def by_hand(one: ImageHashes, other: ImageHashes) -> set[tuple[int, int]]:
    def near(crops: np.ndarray, whole: np.ndarray) -> bool:
        return any(
            sum(int(a ^ b).bit_count() for a, b in zip(c, whole, strict=True)) <= RADIUS for c in crops
        )

    return {
        (i, j)
        for i in range(len(one))
        for j in range(len(other))
        if near(one.crops[i], other.whole[j]) or near(other.crops[j], one.whole[i])
    }


@pytest.mark.parametrize("limits", [{}, {"_PAIRS": 7, "_ROWS_OF_CROPS": 16}, {"_MANY": 1, "_TILE": 3}])
@pytest.mark.parametrize("made", [some_hashes, alike_hashes])
def test_every_pair_within_the_radius_is_found_and_no_other(
    made: Callable[..., ImageHashes], limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
):
    for name, value in limits.items():
        monkeypatch.setattr(image_hashes, name, value)
    one, other = made(40), made(30, seed=1)
    expected = by_hand(one, one)
    assert len(expected) > 40 + 2 * 12
    first, second = pairs_among(one)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == sorted(
        (i, j) for i, j in expected if i < j
    )
    first, second = pairs_between(one, other)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == sorted(by_hand(one, other))


def test_rows_that_are_added_change_no_other_pair():
    thumbnails = np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32), dtype=np.uint8)
    thumbnails[7] = thumbnails[3]
    few, all_of_them = (image_hashes.image_hashes(images) for images in (thumbnails[:10], thumbnails))
    assert np.array_equal(few.crops, all_of_them.crops[:10])
    assert [ends.tolist() for ends in pairs_among(few)] == [[3], [7]]
    assert [ends.tolist() for ends in pairs_of_equal(few, np.arange(10))] == [[3], [7]]


def test_images_of_one_colour_have_one_hash_each_and_nothing_has_none():
    flat = np.full((2, 3, 32, 32), 255, dtype=np.uint8)
    hashes = image_hashes.image_hashes(flat)
    assert (hashes.crops == hashes.crops[0, 0]).all()
    nothing = image_hashes.image_hashes(flat[:0])
    assert all(len(ends) == 0 for ends in (*pairs_among(nothing), *pairs_between(nothing, hashes)))


@pytest.mark.parametrize("edges", EDGES)
def test_cropping_an_axis_resamples_a_slope(edges: tuple[float, float]):
    low, high = edges
    slope = (np.arange(32) + 0.5) / 32
    expected = low + slope * (1 - low - high)
    assert cropping(edges) @ slope == pytest.approx(expected, abs=0.01)  # the last pixel has one neighbour
