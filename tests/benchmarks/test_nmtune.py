"""The study of noise: what is swapped, what is trained, and how records become rows."""

from typing import Any

import numpy as np
import pytest

from frugalclip.adaptation.compare_heads import compare_heads
from frugalclip.adaptation.tune import TuneSettings
from frugalclip.sources.open import open_data


@pytest.fixture(scope="module")
def nmtune(imported: Any) -> Any:
    return imported("nmtune")


def test_captions_are_swapped_and_nothing_else(nmtune: Any):
    rows = open_data("sample", where="style=noto,split=test,is_flag=false")
    noisy = nmtune.noisy_captions(rows, ratio=0.3, seed=0)
    assert noisy.ids == rows.ids
    changed = [a != b for a, b in zip(noisy.captions(), rows.captions(), strict=True)]
    assert 0.2 < np.mean(changed) <= 0.31
    assert sorted(map(tuple, noisy.captions())) == sorted(map(tuple, rows.captions()))
    assert nmtune.noisy_captions(rows, ratio=0.0, seed=0).captions() == rows.captions()


@pytest.mark.slow
def test_digits_become_rows_of_the_summary(nmtune: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nmtune, "RATIOS", (0.0, 0.3))
    results = []
    for encoder, ratio, seed in nmtune.cells(1, ["digits"]):
        found = compare_heads(nmtune.digit_features(ratio, seed), seeds=3, settings=TuneSettings(epochs=1))
        results.append({"encoder": encoder, "ratio": ratio, "seed": seed, **found})
    rows = nmtune.summary(results)
    assert [(row["encoder"], row["ratio"]) for row in rows] == [("digits", 0.0), ("digits", 0.3)]
    clean, noisy = rows
    assert noisy["in_spectrum"]["none"]["sve"] > clean["in_spectrum"]["none"]["sve"]
    assert clean["in"]["linear"] > 60 > clean["out"]["linear"]
    assert clean["out_gain"]["linear"]["interval"] is not None
