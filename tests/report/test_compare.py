"""The page and the tables of a comparison: the answer comes first, and arms that lose keep their row."""

import copy
import re
from io import StringIO

import pytest
from rich.console import Console

from frugalclip.report.compare import comparison_page, write_comparison_report
from frugalclip.report.compare_tables import (
    baseline_table,
    curve_table,
    data_efficiency_table,
    print_comparison,
    reach_words,
    verdict_table,
)
from frugalclip.report.formats import NBSP

ESTIMATE = {
    "standard_error": 1.0,
    "df": 9.0,
    "pigeonhole": [1.0, 7.0],
    "runs": 6,
    "families": 155,
    "folds": 2,
    "variance": {"families": 0.5},
}


def curve(scale):
    return {
        "x": [0, 500, 1000],
        "mean": [0, 10 * scale, 20 * scale],
        "lowest": [0, 9 * scale, 18 * scale],
        "highest": [0, 11 * scale, 22 * scale],
    }


def read(value, difference=None):
    return {"value": value, "interval": [value - 1, value + 1], "difference": difference}


@pytest.fixture
def result():
    """Two arms that were compared and one that never finished."""
    gap = {"value": 4.1, "interval": [2.0, 6.2]}
    nothing = {"value": None, "interval": None}
    metric = {
        "description": "unseen things",
        "task": "zeroshot",
        "metric": "top1",
        "pool": "restricted",
        "where": "split=test",
        "chance": 0.5,
        "baselines": {"pixel_nn_1": 4.2, "pixel_nn_10": 6.5},
        "samples": {"ink": 184, "oil": 184},
        "arms": {
            "base": {**read(30.0), "runs": 6, "by_fold": {"ink": 29.0, "oil": 31.0}},
            "good": {**read(34.1, gap), "runs": 6, "by_fold": {"ink": 33.0, "oil": 35.2}},
            "lost": {**nothing, "runs": 0, "by_fold": {}, "difference": nothing},
        },
    }
    reach = {
        "runs": 6,
        "times_sooner": 3.1,
        "interval": [2.2, None],
        "seconds": 3.0,
        "reference_seconds": 9.3,
        "reference_whole_seconds": 10.0,
    }
    entry = {"samples": curve(1), "seconds": curve(1), "reach": None}
    entry |= {
        f"{name}_{axis}": read(20.0) for name in ("at_equal", "area") for axis in ("samples", "seconds")
    }
    entry |= {"points_above_samples": None, "points_above_seconds": None}
    better = copy.deepcopy(entry) | {"reach": reach, "points_above_samples": 100, "points_above_seconds": 90}
    better["at_equal_seconds"] = read(24.0, gap)
    absent = {
        f"{name}_{axis}": nothing | {"difference": nothing}
        for name in ("at_equal", "area")
        for axis in ("samples", "seconds")
    }
    absent |= {
        "points_above_samples": None,
        "points_above_seconds": None,
        "reach": reach | {"runs": 0, "times_sooner": None, "interval": None},
    }
    fractions = [
        {"fraction": 0.25, "pairs": 760, "value": 20.0, "interval": None},
        {"fraction": 1.0, "pairs": 3038, "value": 30.0, "interval": None},
    ]
    cost = {
        "trials": 6,
        "parameters": 1.4e6,
        "samples_seen": 52000,
        "steps": 800,
        "seconds": 100.0,
        "cpu_seconds": 180.0,
        "samples_per_second": 520.0,
    }
    cost |= {"peak_memory_bytes": 2**30, "training_rows": 3038, "evaluations": 20}
    trial = {
        "arm": "good",
        "fold": "ink",
        "fraction": 1.0,
        "seed": 0,
        "folder": "trials/good/ink/1/seed-0",
    }
    return {
        "frugalclip_compare": 2,
        "answer": "Against base on unseen: good is better; undecided for lost: no finished pair of runs.",
        "reference": "base",
        "primary": "unseen",
        "folds": ["ink", "oil"],
        "seeds": 3,
        "fractions": [0.25, 1.0],
        "samples": 52000,
        "seconds": None,
        "independent_seeds": False,
        "jobs": 1,
        "clock": "cpu",
        "arms": [
            {"name": name, "kind": "recipe", "description": "", "batch": 64}
            for name in ("good", "base", "lost")
        ],
        "tests": [
            {
                "arm": "good",
                "reference": "base",
                "metric": "unseen",
                **ESTIMATE,
                **gap,
                "p": 0.0004,
                "p_holm": 0.0004,
                "verdict": "better",
            },
            {
                "arm": "lost",
                "reference": "base",
                "metric": "unseen",
                **ESTIMATE,
                **nothing,
                "runs": 0,
                "p": None,
                "p_holm": None,
            }
            | {"verdict": "no finished pair of runs"},
        ],
        "baseline_tests": [],
        "metrics": {"unseen": metric},
        "curves": {
            "metric": "zeroshot/top1",
            "clock": "cpu",
            "equal_samples": 52000,
            "equal_seconds": 60.0,
            "arms": {"base": entry, "good": better, "lost": absent},
        },
        "costs": {
            "base": cost,
            "good": cost,
            "lost": {"trials": 0, **{key: None for key in cost if key != "trials"}},
        },
        "data_efficiency": {
            "metric": "unseen",
            "reference": "base",
            "arms": {
                "base": {"factor": {"value": 1.0, "bound": ""}, "interval": None, "fractions": fractions},
                "good": {
                    "factor": {"value": 4.0, "bound": ">"},
                    "interval": [{"value": 2.1, "bound": ""}, {"value": 4.0, "bound": ">"}],
                    "fractions": fractions,
                },
                "lost": None,
            },
        },
        "trials": [
            trial | {"status": "finished", "values": {"unseen": 34.0}, "training": {"seconds": 9.5}},
            trial
            | {
                "arm": "lost",
                "folder": "trials/lost/ink/1/seed-0",
                "status": "failed",
                "message": "DataError: <b>no</b> pictures",
            },
        ],
        "notes": ["3 seeds screen at best."],
        "protocol": {"data": "sample"},
        "data": {"path": "sample", "rows": 8888, "hash": "0123456789abcdef"},
        "environment": {"command": "frugalclip compare base good lost --out runs/c", "device": "cpu"},
    }


def test_the_page_says_the_answer_first_and_keeps_the_losers(result, tmp_path):
    page = (
        write_comparison_report(tmp_path / "report.html", result)
        .read_text(encoding="utf-8")
        .replace(NBSP, " ")
    )
    assert re.search(r"<h1[^>]*>([^<]+)</h1>", page)[1] == result["answer"]
    for text in (
        "34.1 %",
        "+2.0 to +6.2",
        "p &lt; 0.001",
        "no finished trial",
        "3.10 × sooner",
        "2.20 × sooner to never reached",
        "&gt; 4.00 ×",
        "1 of 2 trials failed",
    ):
        assert text in page, text
    assert "&lt;b&gt;no&lt;/b&gt; pictures" in page
    assert "<b>no</b>" not in page
    assert page.count("<svg") >= 6  # bars, two charts of curves and one of pairs, at two widths


def test_the_terminal_shows_the_same_values(result):
    out = StringIO()
    print_comparison(result, Console(file=out, width=150))
    shown = out.getvalue().replace(NBSP, " ")
    assert shown.startswith(result["answer"])
    for text in (
        "34.1 %",
        "+2.0 to +6.2",
        "p < 0.001",
        "better",
        "never reached",
        "> 4.00 ×",
        "failed: trials/lost",
        "pixel nearest neighbour",
        "1/4 of the pairs",
    ):
        assert text in shown, text


def test_the_reference_comes_first_and_baselines_last(result):
    table = verdict_table(result)
    assert [row[0] for row in table.rows] == [
        "base",
        "good",
        "lost",
        "10 pixel nearest neighbours",
        "pixel nearest neighbour",
        "chance",
    ]
    assert table.rows[0][2] == "reference"
    assert "6 paired runs in 2 folds, 155 families" in table.foot


def test_arms_are_compared_with_baselines_where_those_were_tested(result):
    assert baseline_table(result) is None
    known = {"value": 4.1, "interval": [2.0, 6.2], "verdict": "better"}
    result["baseline_tests"] = [
        {
            "arm": arm,
            "baseline": baseline,
            **(known if arm == "good" else {"value": None, "interval": None, "verdict": "no finished trial"}),
        }
        for baseline in ("pixel_nn_1", "pixel_nn_10")
        for arm in ("base", "good", "lost")
    ]
    table = baseline_table(result)
    assert table is not None and table.columns == [
        "Arm",
        "pixel nearest neighbour",
        "10 pixel nearest neighbours",
    ]
    assert table.rows[1] == ["good", "+4.1\n+2.0 to +6.2 better", "+4.1\n+2.0 to +6.2 better"]
    assert table.rows[2][1].endswith("no finished trial")
    assert "points above each baseline" in comparison_page(result)


def test_what_was_not_measured_has_no_section(result):
    del result["data_efficiency"]
    result["curves"] = {"metric": "zeroshot/top1", "clock": "cpu", "arms": {}}
    assert data_efficiency_table(result) is None
    assert curve_table(result) is None
    page = comparison_page(result)
    assert "Data efficiency" not in page
    assert "During training" not in page


@pytest.mark.parametrize(
    ("factor", "interval", "text"),
    [
        (2.0, [1.5, 3.0], "2.00 × sooner\n1.50 × sooner to 3.00 × sooner"),
        (0.5, [None, 1.2], "2.00 × later\nnever reached to 1.20 × sooner"),
        (None, [None, None], "never reached"),
        (2.0, None, "2.00 × sooner"),
    ],
)
def test_how_much_sooner_in_words(factor, interval, text):
    assert reach_words({"runs": 3, "times_sooner": factor, "interval": interval}) == text
