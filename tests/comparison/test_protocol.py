"""Protocols: faults are sentences, defaults are filled in, and recipes serve where there is no protocol."""

from pathlib import Path

import pytest

from frugalclip.comparison.arms import read_arms
from frugalclip.comparison.protocol import (
    ProtocolConfig,
    choose_protocol,
    fill_environment,
    read_protocol,
)
from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, RecipeError

PROTOCOLS = Path(__file__).resolve().parents[2] / "benchmarks" / "protocols"


def protocol(**settings):
    return validated(ProtocolConfig, settings, where="")


def test_metrics_take_what_the_protocol_has_in_common():
    resolved = protocol(label_field="name", group="family").resolved()
    assert resolved.primary == "naming"
    assert (resolved.metrics["finding"].label_field, resolved.metrics["finding"].group) == ("name", "family")
    chosen = protocol(
        split="val", splits={"val": "split=val"}, metrics={"x": {"where": "{split},is_flag=false"}}
    ).resolved()
    assert (chosen.metrics["x"].where, chosen.metrics["x"].primary) == ("split=val,is_flag=false", True)


def test_the_data_section_of_the_recipes_serves_where_there_is_no_protocol():
    arms = read_arms(["clip", "siglip", "data.path=pairs.csv", "data.validation=split=dev"])
    config = choose_protocol(arms, None, {"hold_out": "style", "split": None})
    assert (config.data, config.validation, config.hold_out) == ("pairs.csv", "split=dev", "style")
    with pytest.raises(RecipeError, match="no data is given; add --data PATH"):
        choose_protocol(read_arms(["clip", "siglip"]), None, {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hold_ot": "style"}, "hold_ot is not a setting; did you mean 'hold_out'"),
        ({"curve": "zeroshot/top2"}, "did you mean 'zeroshot/top"),
        (
            {"split": "tset", "splits": {"test": "split=test"}},
            "split: tset is not one of splits; did you mean 'test'",
        ),
        ({"metrics": {"x": {"where": "{split}"}}}, "metric x uses {split}, which is not set"),
        ({"metrics": {"x": {"primary": True}, "y": {"primary": True}}}, "several metrics are primary"),
        ({"metrics": {"x": {"pol": "all"}}}, "metrics.x.pol is not a setting; did you mean 'pool'"),
    ],
)
def test_a_wrong_setting_says_what_to_set(settings, message):
    with pytest.raises(RecipeError, match=message):
        protocol(**settings)


def test_the_emoji_protocol_names_its_packs_by_the_environment(monkeypatch):
    path = read_protocol(PROTOCOLS / "emoji.yaml").data
    monkeypatch.setenv("FRUGALCLIP_PACKS", "/packs")
    assert fill_environment(path) == "/packs/emoji-{noto,twemoji,openmoji}.tar"
    monkeypatch.delenv("FRUGALCLIP_PACKS")
    with pytest.raises(DataError, match="export FRUGALCLIP_PACKS=FOLDER"):
        fill_environment(path)
    with pytest.raises(RecipeError, match=r"did you mean 'emoji.yaml'"):
        read_protocol(PROTOCOLS / "emojy.yaml")
