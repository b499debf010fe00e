"""Stored features by row: which view is drawn, and that memory changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from frugalclip.core.errors import DataError
from frugalclip.data.tokens import train_tokenizer
from frugalclip.features import rows as rows_module
from frugalclip.features.rows import FeatureRows, some_facets
from frugalclip.features.store import Store
from frugalclip.loading.loader import BatchSpec, Loader, LoaderConfig, LoaderData
from frugalclip.loading.texts import TextViewConfig
from frugalclip.loading.views import ViewConfig

from .encoders import EVERY, ROWS, pairs, store_of, text_store, three_views


def test_each_view_is_drawn_about_as_often_and_another_one_each_epoch(tmp_path: Path):
    manifest = pairs(tmp_path / "data")
    images = FeatureRows(store_of(manifest, tmp_path / "s", views=three_views), "image", manifest.ids)
    drawn = torch.stack(
        [images.draw(EVERY, seed=1, epoch=epoch, name="main") for epoch in range(300)]
    )  # (epochs, rows, 4)
    views = images.views(EVERY).view(ROWS, 3, 4)
    picked = (drawn[:, :, None] == views).all(-1).float()  # (epochs, rows, views)
    assert bool((picked.sum(-1) == 1).all())
    torch.testing.assert_close(picked.mean((0, 1)), torch.full((3,), 1 / 3), atol=0.03, rtol=0)
    torch.testing.assert_close(images.mean(EVERY), views.mean(1))
    again = images.draw(EVERY[::-1].copy(), seed=1, epoch=7, name="main").flip(0)
    assert torch.equal(again, drawn[7])  # row and epoch decide, not the batch
    assert not torch.equal(images.draw(EVERY, seed=1, epoch=7, name="other"), drawn[7])


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_vectors_are_those_of_the_store_whether_they_fit_into_memory_or_not(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
):
    manifest = pairs(tmp_path / "data")
    store, texts = (
        store_of(manifest, tmp_path / "s", views=three_views, dtype=dtype),
        text_store(["a tree", "sea"], tmp_path / "t", dtype=dtype),
    )

    def both() -> tuple[FeatureRows, FeatureRows]:
        return FeatureRows(store, "image", manifest.ids), FeatureRows(texts, "text", ["sea", "a tree"])

    held = both()
    monkeypatch.setattr(rows_module, "_HELD_BYTES", 0)
    read = both()
    assert read[0]._held is None is read[1]._held
    assert held[0]._held is not None is not held[1]._held
    for rows in (EVERY, np.array([7, 7, 2])):
        assert torch.equal(
            held[0].draw(rows, seed=1, epoch=3, name="main"), read[0].draw(rows, seed=1, epoch=3, name="main")
        )
    assert torch.equal(held[1].vectors(np.array([1, 0, 1])), read[1].vectors(np.array([1, 0, 1])))
    assert torch.equal(held[1].vectors(np.array([0])), texts.vectors("text", [1]).values)


def test_a_broken_picture_takes_no_part_and_is_listed_once_with_its_cause(tmp_path: Path):
    manifest = pairs(tmp_path / "data", broken=(1, 4))
    images = FeatureRows(store_of(manifest, tmp_path / "s", views=three_views), "image", manifest.ids)
    assert images.faults() == [(1, "not-an-image"), (4, "not-an-image")]
    tokenizer = train_tokenizer(["picture one of many"], vocabulary=600, context=8)
    loader = Loader(
        LoaderData(manifest, tokenizer, image_features=images),
        BatchSpec({"main": ViewConfig()}, {"caption": TextViewConfig()}, batch=5, size=8),
        LoaderConfig(seed=0),
    )
    assert loader.faults == [(1, "no-text"), (4, "not-an-image")]
    batches = loader.batches()
    seen = torch.cat([next(batches).rows for _ in range(2 * loader.steps_per_epoch)]).tolist()
    assert set(seen) == set(range(ROWS)) - {1, 4}


def test_a_larger_store_serves_a_part_of_its_data_and_a_smaller_one_does_not(tmp_path: Path):
    whole = pairs(tmp_path / "data")
    part = whole.take(np.array([8, 3]))
    found = FeatureRows(store_of(whole, tmp_path / "s", views=three_views), "image", part.ids).views(
        np.arange(2)
    )
    torch.testing.assert_close(
        found.view(2, 3, 4),
        FeatureRows(Store.open(tmp_path / "s"), "image", whole.ids).views(np.array([8, 3])).view(2, 3, 4),
    )
    with pytest.raises(DataError, match="has no vectors of 'id-0'"):
        FeatureRows(store_of(part, tmp_path / "small"), "image", whole.ids)


def test_facets_are_drawn_without_replacement_and_each_as_often():
    vectors = torch.arange(7.0).view(1, 7, 1).expand(4000, 7, 2)
    draws = np.random.default_rng(0).random((4000, 7))
    some = some_facets(vectors, draws, number=3)[:, :, 0]
    assert some.shape == (4000, 3)
    assert all(len(set(row)) == 3 for row in some[:500].tolist())
    torch.testing.assert_close(
        torch.bincount(some.flatten().long(), minlength=7) / 4000, torch.full((7,), 3 / 7), atol=0.03, rtol=0
    )
    assert sorted(some_facets(vectors[:1], draws[:1], number=9)[0, :, 0].tolist()) == list(range(7))
