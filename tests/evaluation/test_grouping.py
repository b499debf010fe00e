"""Grouping scores against scikit-learn, and the geometry of two modalities against loops."""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.core.preprocess import Preprocess
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.grouping import (
    evaluate_grouping,
    feature_spread,
    grouping,
    grouping_scores,
    jackknife,
    modality_gap,
    self_similarity,
)
from frugalclip.functional import unit
from frugalclip.models import ManifestFeatures
from frugalclip.sources.open import open_data


def rows(number: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def published(labels: list[int], clusters: list[int]) -> list[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of as many labels as samples
        return [adjusted_rand_score(labels, clusters), adjusted_mutual_info_score(labels, clusters)]


@given(st.lists(st.tuples(st.integers(-2, 4), st.integers(3, 7)), min_size=2, max_size=40))
def test_scores_are_those_of_scikit_learn(pairs: list[tuple[int, int]]):
    labels, clusters = (list(one) for one in zip(*pairs, strict=True))
    found = grouping_scores(torch.tensor(labels), torch.tensor(clusters))
    assert [found["ari"], found["ami"]] == pytest.approx(published(labels, clusters), abs=1e-9)


@pytest.mark.parametrize(
    "clusters", [[0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 0, 1]]
)
@pytest.mark.parametrize("labels", [[2, 2, 2, 2, 2, 2], [5, 4, 3, 2, 1, 0], [0, 0, 1, 1, 2, 2]])
def test_degenerate_partitions_have_finite_scores_like_scikit_learns(labels: list[int], clusters: list[int]):
    found = grouping_scores(torch.tensor(labels), torch.tensor(clusters))
    assert [found["ari"], found["ami"]] == pytest.approx(published(labels, clusters), abs=1e-9)


def test_many_samples_are_scored_as_well():
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 20, (5000,), generator=draw)
    clusters = torch.where(
        torch.rand(5000, generator=draw) < 0.5, labels, torch.randint(0, 30, (5000,), generator=draw)
    )
    found = grouping_scores(labels, clusters)
    assert [found["ari"], found["ami"]] == pytest.approx(
        published(labels.tolist(), clusters.tolist()), abs=1e-9
    )
    chance = grouping_scores(labels, clusters[torch.randperm(5000, generator=draw)])
    assert abs(chance["ari"]) < 0.005 and abs(chance["ami"]) < 0.01


def test_the_names_of_groups_do_not_matter_and_the_same_partition_is_one():
    labels = torch.tensor([3, 3, 9, 9, 9, -1])
    assert grouping_scores(labels, labels * 7 + 2) == {"ari": pytest.approx(1), "ami": pytest.approx(1)}
    clusters = torch.tensor([0, 0, 0, 1, 1, 2])
    assert grouping_scores(labels, clusters) == pytest.approx(grouping_scores(-labels, 5 - clusters))
    assert grouping_scores(labels, clusters) == pytest.approx(grouping_scores(clusters, labels)), (
        "neither side is the truth"
    )


def test_separate_blobs_are_found_and_noise_is_not():
    labels = torch.arange(90) % 3
    blobs = unit(10 * torch.eye(8, dtype=torch.float64)[labels] + 0.3 * rows(90, 8))
    assert grouping(blobs, labels)[0] == {"ari": pytest.approx(1), "ami": pytest.approx(1)}
    noise, _ = grouping(unit(rows(90, 8, seed=1)), labels)
    assert abs(noise["ari"]) < 0.1 and abs(noise["ami"]) < 0.1
    assert grouping(unit(rows(90, 8, seed=1)), labels)[0] == noise, "the same seed gives the same starts"


def test_one_label_is_nothing_to_group():
    with pytest.raises(
        DataError,
        match="all 4 samples have one label, expected several; choose another --label-field",
    ):
        grouping(rows(4, 3), torch.ones(4).long())


def test_the_gap_is_the_distance_of_the_means():
    images, texts = unit(rows(9, 4)), unit(rows(5, 4, seed=1))
    expected = math.sqrt(
        sum((images[:, d].sum().item() / 9 - texts[:, d].sum().item() / 5) ** 2 for d in range(4))
    )
    assert modality_gap(images, texts) == pytest.approx(expected, abs=1e-12)
    assert modality_gap(images, images.flip(0)) == pytest.approx(0, abs=1e-12)
    apart = torch.eye(4)[:1]
    assert modality_gap(apart.expand(3, 4), -apart.expand(7, 4)) == pytest.approx(2)


def test_self_similarity_leaves_each_row_itself_out():
    features = unit(rows(6, 4))
    cosines = [
        [sum(a * b for a, b in zip(x, y, strict=True)) for y in features.tolist()] for x in features.tolist()
    ]
    assert self_similarity(features) == pytest.approx(
        sum(cosines[i][j] for i in range(6) for j in range(6) if i != j) / 30, abs=1e-12
    )
    positive = [c for line in cosines for c in line if c > 0]
    assert self_similarity(features, published=True) == pytest.approx(
        sum(positive) / len(positive), abs=1e-12
    )
    assert self_similarity(torch.eye(4)) == 0 and self_similarity(
        torch.eye(4)[:1].expand(5, 4)
    ) == pytest.approx(1)
    assert self_similarity(torch.eye(4)[:1]) == 0


def test_the_spread_is_the_mean_deviation_of_coordinates():
    features = rows(6, 4)
    expected = (
        sum(
            math.sqrt(sum((x - features[:, d].mean().item()) ** 2 for x in features[:, d].tolist()) / 5)
            for d in range(4)
        )
        / 4
    )
    assert feature_spread(features) == pytest.approx(expected, abs=1e-12)
    assert feature_spread(torch.ones(5, 3)) == 0


class Sorted:
    """A model for which images of one class are one vector."""

    fingerprint, preprocess, reads = "f" * 16, Preprocess(size=8), "both"

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return torch.eye(4)[[len(text) % 4 for text in texts]]

    def image_features(self, manifest: Manifest, *, layer: str = "embedding") -> ManifestFeatures:
        return ManifestFeatures(
            torch.eye(4)[[ord(name[-1]) % 3 for name in manifest.field("kind")]], np.arange(len(manifest)), []
        )


def test_images_of_one_class_in_one_place_are_grouped_perfectly(tmp_path: Path):
    rows = [
        {"id": str(i), "image": f"{i}.png", "caption": "word", "kind": f"kind {'abc'[i % 3]}" if i else None}
        for i in range(13)
    ]
    for i in range(13):
        Image.new("RGB", (4, 4), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    result = evaluate_grouping(Sorted(), open_data(tmp_path / "pairs.jsonl"), label_field="kind")
    assert result["metrics"] == {"ami": 100.0, "ari": 100.0} and result["chance"] == {"ami": 0.0, "ari": 0.0}
    assert (
        result["samples"] == 12
        and result["left_out"]["without a class"] == 1
        and result["interval"]["ari"] == [100.0, 100.0]
    )
    assert result["geometry"]["text_similarity"] == 1 and result["geometry"]["modality_gap"] == pytest.approx(
        (2 / 3) ** 0.5, abs=1e-6
    )


def test_the_jackknife_covers_what_other_samples_would_have_given():
    def drawn(seed: int, number: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 4, (number,), generator=draw)
        return labels, torch.where(
            torch.rand(number, generator=draw) < 0.6, labels, torch.randint(0, 4, (number,), generator=draw)
        )

    truth = grouping_scores(*drawn(0, 20_000))
    inside = {"ari": 0, "ami": 0}
    for seed in range(1, 101):
        intervals = jackknife(*drawn(seed, 200), torch.arange(200))
        for name, (low, high) in intervals.items():
            inside[name] += low <= truth[name] <= high
    assert all(88 <= count <= 99 for count in inside.values()), inside
