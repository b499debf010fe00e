"""The benchmark of data efficiency: its arms are trained, and its factors have the right sides."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugalclip.comparison.efficiency import Censored


@pytest.fixture(scope="module")
def benchmark(imported: Callable[[str], Any]) -> Any:
    return imported("need_for_data")


@pytest.mark.parametrize("arm", ["full", "tuned", "lora", "frozen", "pruned", "inherited", "distilled"])
def test_every_arm_trains_and_is_recorded(
    benchmark: Any,
    modules: Any,
    teacher: Any,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arm: str,
):
    own = dataclasses.replace(teacher, source=teacher.folder)
    monkeypatch.setenv("FRUGALCLIP_CACHE", str(tmp_path / "cache"))
    run = modules._runs.Run(
        arm=arm,
        seed=0,
        recipe=benchmark.arm_recipe(arm, own, samples=64, rate=1e-3),
        data=str(data),
        train="split=train",
        folder=tmp_path / "run",
        record=tmp_path / "record.json",
        metrics={"mrr": benchmark.TEST},
    )
    found = modules._runs.finish(run)
    assert found["steps"] == 8 and found["pairs"] == 32
    assert 0 < found["metrics"]["mrr"]["mean"] <= 100


def test_factors_are_read_against_both_references(benchmark: Any, imported: Callable[[str], Any]):
    level = {"full": (0.1, 0.2, 0.4), "tuned": (0.3, 0.5, 0.6)} | dict.fromkeys(
        ("lora", "frozen", "pruned", "inherited"), (0.1, 0.15, 0.2)
    )
    level["distilled"] = (0.1, 0.4, 0.5)
    rng = np.random.default_rng(0)
    records = [
        {
            "arm": f"{arm}-{share}",
            "seed": seed,
            "pairs": pairs,
            "metrics": {"mrr": {"values": list(mean + rng.normal(0, 0.01, 200))}},
        }
        for arm, means in level.items()
        for share, pairs, mean in zip(("1-16", "1-4", "1"), (1000, 4000, 16000), means, strict=True)
        for seed in range(3)
    ]
    found = benchmark.summary(records)
    against = {arm: one["efficiency"]["full"] for arm, one in found["arms"].items()}
    assert found["pairs"] == {"1/16": 1000, "1/4": 4000, "1": 16000}
    assert against["tuned"]["value"] == pytest.approx(8, rel=0.05)
    assert against["tuned"]["verdict"] == "needs fewer pairs"
    assert against["frozen"]["words"] == "< 1.00 ×" and against["frozen"]["verdict"] == "needs more pairs"
    assert found["arms"]["distilled"]["efficiency"]["tuned"]["verdict"] == "needs more pairs"
    page = imported("compress_page").need_for_data(found | {"seeds": 3, "samples": 64})
    assert len([row for row in page if row.startswith("| ")]) == 1 + len(benchmark.ARMS)
    tuned = next(row for row in page if row.startswith("| all weights of the teacher |"))
    assert "needs fewer pairs" in tuned and tuned.count(" × (") == 2


def test_a_factor_of_one_is_not_distinguishable(benchmark: Any):
    around = (Censored(0.9, "<"), Censored(1.3))
    assert benchmark.lowers(around) == "not distinguishable"
    assert benchmark.lowers((Censored(4.0), Censored(16.0, ">"))) == "needs fewer pairs"
    assert benchmark.lowers(None) == "one seed: cannot say"
