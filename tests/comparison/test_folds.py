"""Folds: nothing that is evaluated is trained on, and a held-out value is held out everywhere."""

from pathlib import Path

import pytest

from frugalclip.comparison.folds import make_folds
from frugalclip.comparison.protocol import ProtocolConfig, read_protocol
from frugalclip.core.config import validated
from frugalclip.core.errors import DataError
from frugalclip.data.manifest import image_places, make_manifest
from frugalclip.sources.open import open_data

PROTOCOLS = Path(__file__).resolve().parents[2] / "benchmarks" / "protocols"


@pytest.fixture
def rows(tmp_path):
    content = [
        (c, s, ("train", "train", "val", "test")[c % 4]) for c in range(24) for s in ("ink", "oil, dry")
    ]
    return make_manifest(
        ids=[f"{c}-{s}" for c, s, _ in content],
        images=image_places([f"{i}.png" for i in range(len(content))]),
        captions=[[f"thing {c}"] for c, _, _ in content],
        fields={
            "style": [s for _, s, _ in content],
            "split": [p for _, _, p in content],
            "name": [f"n{c}" for c, _, _ in content],
        },
        root=tmp_path,
        name="rows",
    )


def protocol(**settings):
    return validated(ProtocolConfig, settings, where="")


def test_every_value_is_held_out_in_turn(rows):
    found = make_folds(
        rows,
        protocol(
            hold_out="style",
            train="split=train",
            validation="split=val",
            split="test",
            splits={"validation": "split=val", "test": "split=test"},
            metrics={"unseen": {"where": "{split}"}, "seen": {"where": "split=train"}},
        ),
    )
    assert [d.value for d in found] == ["ink", "oil, dry"]  # a comma in a value is no second clause
    for one in found:
        assert set(one.train.field("style")) == {"ink", "oil, dry"} - {one.value}
        assert set(one.train.field("split")) == {"train"}
        assert set(one.validation.field("style")) == {one.value}
        assert set(one.evaluated["unseen"].field("split")) == {"test"}
        assert set(one.evaluated["seen"].field("style")) == {one.value}
    only = make_folds(
        rows,
        protocol(
            hold_out="style", folds=["ink"], train="split=train", metrics={"u": {"where": "split=test"}}
        ),
    )
    assert [d.value for d in only] == ["ink"]


def test_without_metrics_the_validation_set_is_evaluated(rows):
    (one,) = make_folds(rows, protocol())
    assert one.value is None
    assert set(one.train.field("split")) == {"train"}
    assert {name: rows.ids for name, rows in one.evaluated.items()} == dict.fromkeys(
        ("naming", "finding"), one.validation.ids
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": {"x": {"where": "split=train"}}}, "metric x evaluates 24 training rows"),
        (
            {"hold_out": "split", "train": "split=train", "validation": "split=val"},
            "hold_out: split has 1 value in the training rows",
        ),
        (
            {"hold_out": "style", "folds": ["inc"], "train": "split=train"},
            "'inc' is not a value of style.*did you mean 'ink'",
        ),
        ({"validation": "none", "train": "split=train"}, "there is none; set its where, or validation"),
    ],
)
def test_a_division_that_cannot_be(settings, message, rows):
    with pytest.raises(DataError, match=message):
        make_folds(rows, protocol(**settings))


def test_the_sample_protocol_divides_the_sample(monkeypatch):
    found = make_folds(open_data("sample"), read_protocol(PROTOCOLS / "sample.yaml"))
    assert {d.value: len(d.train) for d in found} == dict.fromkeys(("noto", "openmoji", "twemoji"), 2 * 1519)
    for one in found:
        assert len(one.evaluated["unseen"]) == 184
        assert not set(one.evaluated["unseen"].field("family")) & set(one.train.field("family"))
    tuning = make_folds(
        open_data("sample"), read_protocol(PROTOCOLS / "sample.yaml", {"split": "validation"})
    )
    assert set(tuning[0].evaluated["unseen"].field("split")) == {"val"}
