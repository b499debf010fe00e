"""Lines about long work: two a minute at most, with the time that is left."""

from frugalclip.core.progress import Ticker, in_minutes


def test_a_line_comes_every_half_minute_with_the_time_left():
    now, said = 0.0, []
    ticker = Ticker("images", said.append, clock=lambda: now)
    for second in range(101):
        now = float(second)
        ticker(second, 100)
    assert said == [
        "images: 30 of 100, about 1.2 min left",
        "images: 60 of 100, about 40 s left",
        "images: 90 of 100, about 10 s left",
    ]


def test_without_a_total_it_counts():
    now, said = 0.0, []
    ticker = Ticker("images", said.append, clock=lambda: now)
    now = 31.0
    ticker(7, None)
    assert said == ["images: 7 so far"]


def test_durations_are_as_people_say_them():
    assert [in_minutes(value) for value in (0.2, 42, 60, 185, 2400, 7200, 400_000)] == [
        "1 s",
        "42 s",
        "1.0 min",
        "3.1 min",
        "40 min",
        "2.0 hours",
        "4.6 days",
    ]
