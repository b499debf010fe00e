"""The scatter over counts and the page around it."""

import numpy as np

from frugalclip.auditing.frequency import FrequencyTable, frequency_report
from frugalclip.report.frequency import FrequencyView, frequency_page
from frugalclip.report.scatter import Dot, log_scatter


def drawn(dots: list[Dot], **more: float | None) -> str:
    options = {"slope": 9.0, "intercept": 10.0, **more}
    return log_scatter(dots, dots[:2], x_label="rows", y_label="top1", title="chart", **options)


def test_every_concept_is_a_point_and_zero_stands_left_of_one():
    page = drawn([Dot(0, 5.0, "<never>"), Dot(1, 10.0, "once"), Dot(900, 40.0, "often")])
    assert page.count('r="2.2"') == 3
    assert "&lt;never&gt;: 5 at 0" in page
    assert ">0<" in page and ">1k<" in page


def test_nothing_finite_draws_nothing_and_a_missing_line_is_left_out():
    assert "Nothing to draw" in drawn([Dot(1, float("nan"))])
    assert 'class="reference"' not in drawn([Dot(1, 1.0)], slope=None)


def test_the_page_shows_the_fit_beside_the_concepts():
    random = np.random.default_rng(0)
    counts = random.integers(0, 1000, 40)
    accuracies = 10 + 9 * np.log10(np.maximum(counts, 1))
    table = FrequencyTable([f"<c{i}>" for i in range(40)], counts, accuracies, np.zeros(40, int))
    numbers = frequency_report(table, draws=20)
    view = FrequencyView("text", "top1", table.names, counts.tolist(), accuracies.tolist(), numbers)
    page = frequency_page([view], subject="my & data")
    assert "r of bin means, as published" in page
    assert "my &amp; data" in page
    assert "<c1>" not in page
