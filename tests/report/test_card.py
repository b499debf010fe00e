"""The model card: what a run records, and what is missing."""

from frugalclip.report.card import LIMITS, card, run_sections
from frugalclip.report.record import RunRecord

EVALUATION = {
    "task": "zeroshot",
    "data": "sample",
    "where": "split=test|val",
    "metrics": {"top1": 14.67, "median_rank": 3.0},
    "interval": {"top1": [9.7, 20.0]},
    "chance": {"top1": 0.54},
    "baselines": {"pixel_nn_1": {"top1": 5.2}, "other": {}},
}


def record(**changes: object) -> RunRecord:
    fields = {
        "name": "x",
        "path": "runs/x",
        "recipe": {
            "name": "clip", "description": "CLIP.", "source": "arXiv",
            "data": {"path": "my/", "where": "split=train"},
        },
        "recipe_text": "",
        "rows": [],
        "evaluations": [EVALUATION],
        "training": {
            "steps": 750, "samples_seen": 48000, "seconds": 90.0, "parameters": 400225, "training_rows": 3038,
            "left_out": {"truncated": 2}, "notes": ["one row repeats"],
        },
        "environment": {"device": "AMD EPYC"},
    }  # fmt: skip
    return RunRecord(**(fields | changes))


def test_a_card_says_what_the_run_recorded():
    page = card(run_sections(record()), use='model = frugalclip.load("runs/x")')
    for part in (
        "Recipe `clip`. CLIP. arXiv.",
        "- training: `my/`, rows `split=train`, 3,038 rows",
        "rows (truncated)",
        "750 steps, 48,000 samples seen",
        "AMD EPYC",
        "| zeroshot | split=test\\|val | ",
        "| pixel_nn_1 5.2",
        "- one row repeats",
        'model = frugalclip.load("runs/x")',
        *LIMITS,
    ):
        assert part in page, part
    assert "14.7" in page and "0.54" in page and "median" not in page


def test_the_data_is_named_by_its_hash_its_licences_its_ledger_and_its_leaks():
    data = {
        "hash": "abc123",
        "licences": {"rows": {"CC0-1.0": 4}, "files": ["LICENSE"]},
        "curation": {
            "plan": "dedup", "data": "raw/", "rows": 12, "kept": 9,
            "stages": [
                {"name": "near_images", "rows_in": 12, "rows_out": 9, "dropped": {"near-duplicate": 3}},
            ],
        },
    }  # fmt: skip
    leakage = {"checked": True, "images": 2, "of": 20, "kinds": {"same bytes": 2}, "examples": []}
    training = {"data": data, "leakage": leakage, "joules": 7.2e6}
    page = card(run_sections(record(training=training)), use="x")
    for part in (
        "- hash of ids, captions and image places: `abc123`",
        "- licences: CC0-1.0 (4 rows); beside the data lies `LICENSE`",
        "- curated by the plan `dedup` from `raw/`: 9 of 12 rows kept",
        "  - near_images: 12 to 9 rows (3 near-duplicate)",
        "- leakage: 2 of 20 validation images also among the training images (2 same bytes)",
        "- energy: 2 kWh of the processor packages",
    ):
        assert part in page, part


def test_what_was_not_checked_says_why():
    unchecked = {"leakage": {"checked": False, "reason": "more than 20,000 rows"}, "joules": None}
    page = card(run_sections(record(training=unchecked)), use="x")
    for part in (
        "leakage: not checked; more than 20,000 rows",
        "energy: not readable on this machine",
        "licences: none found",
    ):
        assert part in page


def test_a_run_that_left_nothing_out_says_so():
    page = card(run_sections(record(training={"left_out": {}})), use="x")
    assert "- left out: nothing" in page


def test_what_is_missing_is_named():
    page = card(run_sections(record(recipe={}, training={}, environment={}, evaluations=[])), use="x")
    assert "No evaluation was recorded" in page and "Recipe `unknown`.\n" in page
    assert "an unknown device" in page and "left out: not recorded" in page
