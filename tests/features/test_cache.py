"""The cache in front of a frozen encoder: what it finds by content, what it encodes, and what it forgets."""

from pathlib import Path

import numpy as np
import pytest
import torch

from frugalclip.features import cache as cache_module
from frugalclip.features.cache import FeatureCache

from .encoders import Means, pairs, store_of, text_store, three_views


def test_images_of_another_data_set_are_found_by_their_bytes(tmp_path: Path):
    first = store_of(pairs(tmp_path / "a", broken=(4,)), tmp_path / "s", views=three_views)
    second = store_of(pairs(tmp_path / "b", prefix="more", order=[4, 5]), tmp_path / "s2", views=three_views)
    encoder, faults = Means(), []
    other = pairs(tmp_path / "c", prefix="other", order=[9, 0, 4, 11])
    found = list(FeatureCache(encoder, [first, second]).images(other, batch=3, faults=faults))
    assert [rows for rows, _ in found] == [[0, 1, 2], [3]] and encoder.images == 0 and faults == []
    expected = store_of(other, tmp_path / "s3").vectors("image", [0, 1, 2, 3])
    assert np.array_equal(torch.cat([features.values for _, features in found]).numpy(), expected)


@pytest.mark.parametrize("batch", [2, 5, 100])
def test_stored_and_new_images_come_in_the_order_of_the_rows(tmp_path: Path, batch: int):
    manifest = pairs(tmp_path / "a", broken=(6,))
    store, encoder = store_of(manifest.take(np.array([1, 6, 8])), tmp_path / "s"), Means()
    faults: list[tuple[int, str]] = []
    found = list(FeatureCache(encoder, [store]).images(manifest, batch=batch, faults=faults))
    assert [row for rows, _ in found for row in rows] == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert faults == [(6, "not-an-image")] and encoder.images == 9
    expected = store_of(manifest, tmp_path / "all").ragged("image").values
    values = torch.cat([features.values for _, features in found])
    torch.testing.assert_close(values, expected)


def test_further_views_serve_their_own_id_only(tmp_path: Path):
    manifest = pairs(tmp_path / "a")
    store = store_of(manifest, tmp_path / "s", views=three_views)
    key = store.table["image_digest"].to_pylist()[3]
    views = FeatureCache(Means(), [store]).views
    own, unknown = views([key, b"another"], ["id-3", "id-3"])
    assert own.shape == (3, 4) and unknown is None
    assert views([key], ["id-9"]) == [None]
    single = FeatureCache(Means(), [store_of(manifest, tmp_path / "one")])
    assert single.views([key], ["id-9"])[0].shape == (1, 4)  # one view is the image's alone


def test_texts_are_found_in_stores_and_encoded_once(tmp_path: Path):
    names = (["sea", "lake"], ["lake", "tree"])
    stores = [text_store(texts, tmp_path / texts[0], dtype="float32") for texts in names]
    encoder = Means("text")
    cache, texts = FeatureCache(encoder, stores), ["tree", "a hill", "lake", "a hill"]
    for _ in range(2):
        torch.testing.assert_close(cache.texts(texts).values, Means().encode_text(texts))
    assert encoder.encoded == ["a hill"]


def test_forgetting_never_loses_a_text_of_the_same_call(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache_module, "_KEPT_TEXTS", 4)
    monkeypatch.setattr(cache_module, "_TEXTS_AT_A_TIME", 1)
    cache = FeatureCache(Means("text"))
    for texts in (["a", "b", "c"], ["c", "d", "e"], ["a", "b", "c", "d", "e", "f"], ["f", "a"]):
        assert torch.equal(cache.texts(texts).values, Means().encode_text(texts))
