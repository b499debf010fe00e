from ..conftest import MakeRows, decided


def bytes_of(*letters: str) -> list[bytes]:
    return [letter.encode() * 16 for letter in letters]


def test_equal_bytes_and_equal_pixels_are_told_apart(make_rows: MakeRows):
    rows = make_rows(["a"] * 4, digest=bytes_of("x", "x", "y", "z"), pixels=bytes_of("p", "p", "p", "q"))
    assert decided(rows, "exact_images") == [None, "same-bytes", "same-pixels", None]


def test_the_largest_stays(make_rows: MakeRows):
    sizes = {"width": [10, 30, 20], "height": [10, 30, 20]}
    rows = make_rows(["a"] * 3, digest=bytes_of("x", "y", "z"), pixels=bytes_of("p", "p", "p"), **sizes)
    assert decided(rows, "exact_images", keep="largest") == ["same-pixels", None, "same-pixels"]


def test_equal_captions_drop_nothing(make_rows: MakeRows):
    rows = make_rows(["same"] * 2, digest=bytes_of("x", "y"), pixels=bytes_of("p", "q"))
    assert decided(rows, "exact_images") == [None, None]
