"""Curation: entries of a vocabulary, MetaCLIP's balance, DataComp's basic filter and score threshold.

Source of the arrays: facebookresearch/MetaCLIP (November 2025) and mlfoundations/datacomp (April 2025) on a
CPU. Everything is exact but probabilities from the formula (1e-12). Drawing rows takes the authors' numbers,
from the legacy generator, so the kept pairs are exact; our own draws are tested against the expectation.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from frugalclip.core.random import uniform
from frugalclip.curation.base import StageRows
from frugalclip.curation.clusters import nearest_by_product
from frugalclip.curation.measures import SCHEMA, ImageMeasures
from frugalclip.curation.stages.rules import Config, Rules
from frugalclip.curation.thresholds import datacomp_threshold, highest_rows
from frugalclip.curation.vocabulary import (
    PhraseMatcher,
    drawn_rows,
    entry_counts,
    entry_probabilities,
    keep_probabilities,
    limit_of_share,
    tail_share,
)
from frugalclip.data.manifest import image_places, make_manifest


def check_curation_substr(path: Path) -> None:
    """The entries of each caption, in ascending order."""
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = PhraseMatcher(content["metadata"])
    assert [vocabulary.matches(text) for text in content["captions"]] == content["matched"]


def check_curation_metaclip(path: Path) -> None:
    """Counts, probabilities, the rows drawn with the authors' numbers, expectation, and both conversions."""
    a = np.load(path, allow_pickle=False)
    index, limit = a["inverted_index"], float(a["t"])
    counts = entry_counts(index, len(a["entry_count"]))
    np.testing.assert_array_equal(counts, a["entry_count"])
    probabilities = entry_probabilities(counts, limit)
    np.testing.assert_allclose(probabilities, a["entry_prob"], rtol=1e-12)
    legacy = np.random.RandomState(int(a["seed"])).random_sample(len(index))
    np.testing.assert_array_equal(drawn_rows(index, probabilities, legacy), np.unique(a["kept_pairs"]))
    expected = keep_probabilities(index, probabilities, len(a["expected_keep_prob"]))
    np.testing.assert_allclose(expected, a["expected_keep_prob"], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(expected.sum(), a["expected_kept"], rtol=1e-12)
    assert limit_of_share(counts, 0.1) == a["p_to_t_10pct"]
    np.testing.assert_allclose(tail_share(counts, limit), a["t_to_p"], rtol=1e-12)
    _check_draws(index, probabilities, expected)


def _check_draws(index: np.ndarray, probabilities: np.ndarray, expected: np.ndarray) -> None:
    """Over 2,000 seeds our hashes keep as many rows as expected, within four standard errors."""
    runs = 2000
    kept = np.zeros(len(expected))
    for seed in range(runs):
        draws = uniform(seed, "curate/balance", index[:, ::-1], 1)[:, 0]
        kept[drawn_rows(index, probabilities, draws)] += 1
    error = np.sqrt(expected * (1 - expected) / runs)
    distance = np.abs(kept / runs - expected) / np.maximum(error, 1e-3)
    assert distance.max() < 5  # of several hundred rows
    assert abs(kept.sum() / runs - expected.sum()) < 4 * np.sqrt((error**2).sum())


def check_curation_datacomp(path: Path) -> None:
    """The basic filter, the score threshold with its ties, ours without them, centroids by dot product."""
    a = np.load(path, allow_pickle=False)
    kept = (a["lang"] == "en") & _basic_filter(a["text"].tolist(), a["width"], a["height"])
    np.testing.assert_array_equal(np.flatnonzero(kept), a["basic_keep"])
    scores, fraction = a["clip_score"], float(a["fraction"])
    threshold = datacomp_threshold(scores, fraction)
    assert threshold == float(a["threshold"])
    assert int((scores >= np.float32(threshold)).sum()) == a["n_kept_at_threshold"]
    draws = uniform(0, "ties", np.arange(len(scores)), 1)[:, 0]
    mask, _ = highest_rows(scores, int(a["n_fraction"]) / len(scores), draws=draws)
    assert mask.sum() == a["n_fraction"]
    assert scores[mask].min() >= scores[~mask].max()
    np.testing.assert_array_equal(nearest_by_product(a["features"], a["centroids"]), a["assigned"])


def _basic_filter(texts: list[str], widths: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """(rows,) bool, by the stage with DataComp's settings, without the language."""
    ids = [f"{row:06d}" for row in range(len(texts))]
    manifest = make_manifest(
        ids=ids, images=image_places(ids), captions=[[text] for text in texts], root=Path(), name="arrays"
    )
    columns = {"width": pa.array(widths, pa.int32()), "height": pa.array(heights, pa.int32())}
    nothing = {f.name: pa.nulls(len(ids), f.type) for f in SCHEMA if f.name not in columns}
    measures = ImageMeasures(pa.table({**columns, **nothing}))
    config = Config(stage="rules", min_words=3, min_characters=6, min_side=200, max_aspect=3)
    rows = StageRows(manifest, measures, {}, 0, services=None)
    return Rules(config, Path()).decide(rows).is_kept
