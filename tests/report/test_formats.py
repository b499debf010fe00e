import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugalclip.report.formats import (
    difference,
    duration,
    escape,
    fit,
    number,
    percent,
    plain,
    short_count,
    shorten,
    text_width,
    times,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.03123, "0.0312"),
        (12.44, "12.4"),
        (1519, "1,519"),
        (3.0, "3"),
        (-0.5, "−0.500"),
        (3e-8, "3×10⁻⁸"),
        (float("nan"), "not a number"),
        (None, "—"),
    ],
)
def test_a_number_keeps_three_digits_and_its_sign(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(34.16, "34.2 %"), (0.543, "0.54 %"), (0, "0.0 %"), (100, "100.0 %"), (None, "—")]
)
def test_percentages_bear_their_unit(value, text):
    assert percent(value).replace("\xa0", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(950, "950"), (36_000, "36k"), (168_960, "169k"), (999_900, "1000k"), (1_520_000, "1.52M"), (0, "0")],
)
def test_counts_are_short(value, text):
    assert short_count(value) == text


def test_seconds_are_written_as_people_say_them():
    assert [duration(s).replace("\xa0", " ") for s in (8.44, 151, 11_100, None)] == [
        "8.4 s",
        "2 min 31 s",
        "3 h 05 min",
        "—",
    ]
    assert times(6.12).replace("\xa0", " ") == "6.1 ×"
    assert times(99.99).replace("\xa0", " ") == "100 ×"


@given(st.text())
def test_escaped_text_holds_no_markup_and_can_be_written(text):
    escaped = escape(text)
    assert not set("<>\"'") & set(escaped)
    escaped.encode("utf-8")


def test_an_override_of_direction_cannot_turn_the_rest_of_the_page():
    assert "\u202e" not in escape("gnp.\u202eexe")


@given(st.text(min_size=1), st.integers(2, 30))
def test_shortened_text_is_one_line_of_at_most_its_limit(text, limit):
    line = shorten(text, limit)
    assert len(line) <= limit
    assert "\n" not in line


def test_shortening_does_not_part_a_letter_from_its_mark():
    assert shorten("cafe\u0301 noir", 5) == "caf…"


@given(st.text(min_size=1, max_size=60), st.floats(20, 300))
def test_fitted_text_has_room(text, width):
    fitted = fit(text, 12.0, width)
    assert text_width(fitted, 12.0) <= width or len(fitted) <= 2


def test_a_difference_has_a_sign():
    assert [difference(x) for x in (4.1, -4.1, 0.0)] == ["+4.1", "−4.1", "0.0"]
    assert difference(1.25, in_percent=False) == "+1.25"


def test_lists_and_mappings_become_one_line():
    assert plain({"a_b": [1, 2, 3, 4, 5]}) == "a b: 1 · 2 · 3 and 2 more"
