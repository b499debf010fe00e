"""A protocol divides the data: nothing that is judged is trained on, and what is left out is left out everywhere."""

from pathlib import Path

import pytest

from frugalclip.comparison.protocol import ProtocolConfig, divisions, fill_environment, read_protocol
from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, RecipeError
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


def test_every_value_is_left_out_in_turn(rows):
    found = divisions(
        rows,
        protocol(
            rotate="style",
            train="split=train",
            validation="split=val",
            on="test",
            parts={"validation": "split=val", "test": "split=test"},
            metrics={"unseen": {"where": "{on}"}, "seen": {"where": "split=train"}},
        ),
    )
    assert [d.rotation for d in found] == ["ink", "oil, dry"]  # a comma in a value is no second clause
    for one in found:
        assert set(one.train.field("style")) == {"ink", "oil, dry"} - {one.rotation}
        assert set(one.train.field("split")) == {"train"}
        assert set(one.validation.field("style")) == {one.rotation}
        assert set(one.judged["unseen"].field("split")) == {"test"}
        assert set(one.judged["seen"].field("style")) == {one.rotation}
    only = divisions(
        rows,
        protocol(
            rotate="style", rotations=["ink"], train="split=train", metrics={"u": {"where": "split=test"}}
        ),
    )
    assert [d.rotation for d in only] == ["ink"]


def test_without_figures_the_rows_that_watch_are_judged(rows):
    (one,) = divisions(rows, protocol())
    assert one.rotation is None
    assert set(one.train.field("split")) == {"train"}
    assert {name: rows.ids for name, rows in one.judged.items()} == dict.fromkeys(
        ("naming", "finding"), one.validation.ids
    )
    resolved = protocol(label_field="name").resolved()
    assert resolved.primary == "naming"
    assert resolved.metrics["finding"].label_field == "name"


@pytest.mark.parametrize(
    ("settings", "output"),
    [
        ({"metrics": {"x": {"where": "split=train"}}}, "figure x judges 24 rows that are trained on"),
        (
            {"rotate": "split", "train": "split=train", "validation": "split=val"},
            "rotate: split has 1 value in the training rows",
        ),
        (
            {"rotate": "style", "rotations": ["inc"], "train": "split=train"},
            "'inc' is not a value of style.*did you mean 'ink'",
        ),
        ({"validation": "none", "train": "split=train"}, "there are none; set its where, or validation"),
    ],
)
def test_a_division_that_cannot_be(settings, output, rows):
    with pytest.raises(DataError, match=output):
        divisions(rows, protocol(**settings))


@pytest.mark.parametrize(
    ("settings", "output"),
    [
        ({"rotat": "style"}, "rotat is not a setting; did you mean 'rotate'"),
        ({"curve": "zeroshot/top2"}, "did you mean 'zeroshot/top"),
        (
            {"on": "tset", "parts": {"test": "split=test"}},
            "on: tset is not one of parts; did you mean 'test'",
        ),
        ({"metrics": {"x": {"where": "{on}"}}}, "figure x says {on} but nothing says what that is"),
        ({"metrics": {"x": {"primary": True}, "y": {"primary": True}}}, "several figures are primary"),
        ({"metrics": {"x": {"pol": "all"}}}, "metrics.x.pol is not a setting; did you mean 'pool'"),
    ],
)
def test_a_wrong_setting_says_what_to_set(settings, output):
    with pytest.raises(RecipeError, match=output):
        protocol(**settings)


def test_the_sample_protocol_divides_the_sample(monkeypatch):
    found = divisions(open_data("sample"), read_protocol(PROTOCOLS / "sample.yaml"))
    assert {d.rotation: len(d.train) for d in found} == dict.fromkeys(
        ("noto", "openmoji", "twemoji"), 2 * 1519
    )
    for one in found:
        assert len(one.judged["unseen"]) == 184
        assert not set(one.judged["unseen"].field("family")) & set(one.train.field("family"))
    tuning = divisions(open_data("sample"), read_protocol(PROTOCOLS / "sample.yaml", {"on": "validation"}))
    assert set(tuning[0].judged["unseen"].field("split")) == {"val"}


def test_the_emoji_protocol_names_its_packs_by_the_environment(monkeypatch):
    path = read_protocol(PROTOCOLS / "emoji.yaml").data
    monkeypatch.setenv("FRUGALCLIP_PACKS", "/packs")
    assert fill_environment(path) == "/packs/emoji-{noto,twemoji,openmoji}.tar"
    monkeypatch.delenv("FRUGALCLIP_PACKS")
    with pytest.raises(DataError, match="export FRUGALCLIP_PACKS=FOLDER"):
        fill_environment(path)
    with pytest.raises(RecipeError, match=r"did you mean 'emoji.yaml'"):
        read_protocol(PROTOCOLS / "emojy.yaml")
