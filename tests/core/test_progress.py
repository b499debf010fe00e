"""Lines about long work: two a minute at most, with the time that is left."""

import pytest

from frugalclip.core.progress import Ticker, counter, in_minutes, progress_lines


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


def test_work_deep_inside_prints_only_where_lines_are_wanted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("frugalclip.core.progress.SILENCE", 0.0)
    said: list[str] = []
    counter("images", 4)(2)
    assert not said
    with progress_lines(said.append):
        count = counter("images", 4)
        for _ in range(4):
            count(1)
    counter("images", 4)(2)
    assert [line.partition(", about")[0] for line in said] == [f"images: {n} of 4" for n in (1, 2, 3)]
