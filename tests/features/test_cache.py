"""Vectors that backbones gave before: which view is drawn, what is found again by its bytes, and how often each text is shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.data.tokens import train_tokenizer
from frugalclip.features import cache as stored_module
from frugalclip.features.cache import (
    ImageFeatureCache,
    StoredImageFeatures,
    StoredTextFeatures,
    TextFeatureCache,
    some_facets,
)
from frugalclip.features.embedding import TextRows, embed_manifest
from frugalclip.features.store import Store
from frugalclip.loading.loader import BatchSpec, Loader, LoaderConfig, LoaderData
from frugalclip.loading.texts import TextConfig, TextViews
from frugalclip.loading.views import Preprocess, ViewConfig

ROWS = 12


class Means:
    """A model whose picture vectors are channel means, and whose texts have two facets of four numbers."""

    fingerprint = "means"
    scale = None
    preprocess = Preprocess(size=8)
    description: dict[str, Any] = {}  # noqa: RUF012

    class tokenizer:  # noqa: N801
        fingerprint = staticmethod(lambda: "letters")
        truncated = staticmethod(lambda texts: 0)

    def encode_image(self, images: Tensor, *, normalize: bool = True) -> Tensor:
        return (
            torch.cat([images.mean((2, 3)), images.amax((1, 2, 3))[:, None]], dim=1) * 1.001
        )  # no round numbers

    def encode_text(self, texts: list[str], *, normalize: bool = True) -> Tensor:
        numbers = torch.tensor([[sum(map(ord, t)) / 7, len(t) / 3, t.count("e"), 1] for t in texts])
        return torch.stack([numbers, -numbers], dim=1)


def pairs(
    folder: Path, *, prefix: str = "id", order: Sequence[int] = range(ROWS), broken: Sequence[int] = ()
) -> Manifest:
    """Pictures that differ; row 1 has no caption but a keyword, row 2 has two captions, one of them twice."""
    folder.mkdir(exist_ok=True)
    for row in range(ROWS):
        Image.fromarray(np.random.default_rng(row).integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(
            folder / f"{row}.png"
        )
    for row in broken:
        (folder / f"{row}.png").write_bytes(b"no picture")
    captions = [[f"picture {row}", "one of many"] for row in range(ROWS)]
    captions[1], captions[2] = [], ["twice", "twice", "once"]
    keywords = [[f"key{row}", "shared"] if row % 3 else [] for row in range(ROWS)]
    return make_manifest(
        ids=[f"{prefix}-{row}" for row in order],
        images=image_places([f"{row}.png" for row in order]),
        captions=[captions[row] for row in order],
        fields={"keywords": [keywords[row] for row in order]},
        root=folder,
        name="pairs",
    )


def three_views(image: Image.Image, id: str) -> Tensor:
    """The picture, and two that are brighter."""
    plain = Means.preprocess(image)
    return torch.cat([plain, plain + 1, plain + 2])


def store_of(manifest: Manifest, path: Path, **options: Any) -> Store:
    options = {"what": "images", "dtype": "float32", "normalize": False, "chunk_rows": 5} | options
    return embed_manifest(Means(), manifest, path, **options).store


def text_store(texts: Sequence[str], path: Path, **options: Any) -> Store:
    return embed_manifest(
        Means(), TextRows(texts, name="texts"), path, what="texts", normalize=False, **options
    ).store


EVERY = np.arange(ROWS)


def test_each_view_is_drawn_about_as_often_and_another_one_each_epoch(tmp_path: Path):
    manifest = pairs(tmp_path / "data")
    images = StoredImageFeatures(store_of(manifest, tmp_path / "s", views=three_views), manifest, seed=1)
    drawn = torch.stack(
        [images.draw(EVERY, epoch=epoch, name="main") for epoch in range(300)]
    )  # (epochs, rows, 4)
    views = images.views(EVERY).view(ROWS, 3, 4)
    picked = (drawn[:, :, None] == views).all(-1).float()  # (epochs, rows, views)
    assert bool((picked.sum(-1) == 1).all())
    torch.testing.assert_close(picked.mean((0, 1)), torch.full((3,), 1 / 3), atol=0.03, rtol=0)
    torch.testing.assert_close(images.mean(EVERY), views.mean(1))
    again = images.draw(EVERY[::-1].copy(), epoch=7, name="main").flip(0)
    assert torch.equal(again, drawn[7])  # row and epoch decide, not the batch
    assert not torch.equal(images.draw(EVERY, epoch=7, name="other"), drawn[7])


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_vectors_are_those_of_the_store_whether_they_fit_into_memory_or_not(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
):
    manifest = pairs(tmp_path / "data")
    store, texts = (
        store_of(manifest, tmp_path / "s", views=three_views, dtype=dtype),
        text_store(["a tree", "sea"], tmp_path / "t", dtype=dtype),
    )

    def both() -> tuple[StoredImageFeatures, StoredTextFeatures]:
        return StoredImageFeatures(store, manifest, seed=1), StoredTextFeatures(texts, ["sea", "a tree"])

    held = both()
    monkeypatch.setattr(stored_module, "_HELD_BYTES", 0)
    read = both()
    assert read[0]._held is None is read[1]._held
    assert held[0]._held is not None is not held[1]._held
    for rows in (EVERY, np.array([7, 7, 2])):
        assert torch.equal(held[0].draw(rows, epoch=3, name="main"), read[0].draw(rows, epoch=3, name="main"))
    assert torch.equal(held[1].vectors(np.array([1, 0, 1])), read[1].vectors(np.array([1, 0, 1])))
    assert torch.equal(held[1].vectors(np.array([0])), torch.from_numpy(texts.vectors("text", [1]).values))


def test_a_broken_picture_takes_no_part_and_is_listed_once_with_its_cause(tmp_path: Path):
    manifest = pairs(tmp_path / "data", broken=(1, 4))
    images = StoredImageFeatures(store_of(manifest, tmp_path / "s", views=three_views), manifest, seed=0)
    assert images.faults(manifest) == [(1, "not-an-image"), (4, "not-an-image")]
    tokenizer = train_tokenizer(["picture one of many"], vocabulary=600, context=8)
    loader = Loader(
        LoaderData(manifest, tokenizer, image_features=images),
        BatchSpec({"main": ViewConfig()}, {"caption": TextConfig()}, batch=5, size=8),
        LoaderConfig(seed=0),
    )
    assert loader.faults == [(1, "no-text"), (4, "not-an-image")]
    batches = loader.batches()
    seen = torch.cat([next(batches).rows for _ in range(2 * loader.steps_per_epoch)]).tolist()
    assert set(seen) == set(range(ROWS)) - {1, 4}


def test_a_larger_store_serves_a_part_of_its_data_and_a_smaller_one_does_not(tmp_path: Path):
    whole = pairs(tmp_path / "data")
    part = whole.take(np.array([8, 3]))
    found = StoredImageFeatures(store_of(whole, tmp_path / "s", views=three_views), part, seed=0).views(
        np.arange(2)
    )
    torch.testing.assert_close(
        found.view(2, 3, 4),
        StoredImageFeatures(Store.open(tmp_path / "s"), whole, seed=0).views(np.array([8, 3])).view(2, 3, 4),
    )
    with pytest.raises(DataError, match="has no vectors of 'id-0'"):
        StoredImageFeatures(store_of(part, tmp_path / "small"), whole, seed=0)


def test_pictures_of_another_data_set_are_found_by_their_bytes(tmp_path: Path):
    first = store_of(pairs(tmp_path / "a", broken=(4,)), tmp_path / "s", views=three_views)
    second = store_of(pairs(tmp_path / "b", prefix="more", order=[4, 5]), tmp_path / "s2", views=three_views)
    memory = ImageFeatureCache([first, second])
    other = pairs(tmp_path / "c", prefix="other", order=[9, 0, 4])
    places = [memory.find((tmp_path / "c" / f"{row}.png").read_bytes()) for row in (9, 0, 4, 9)]
    assert places == [(0, 9), (0, 0), (1, 0), (0, 9)] and memory.find(b"something else") is None
    expected = store_of(other, tmp_path / "s3").vectors("image", [0, 1, 2, 0])
    assert np.array_equal(memory.vectors(places).numpy(), expected)


def test_further_views_are_known_again_only_under_the_same_id(tmp_path: Path):
    store = store_of(pairs(tmp_path / "a"), tmp_path / "s", views=three_views)
    memory, data = ImageFeatureCache([store]), store.table["image_digest"].to_pylist()[3]
    assert memory.views(data, "id-3", number=3).shape == (3, 4)
    assert memory.views(data, "id-9", number=3) is None
    assert memory.views(data, "id-9", number=1) is not None  # one view is the picture's alone
    assert memory.views(b"another", "id-3", number=1) is None


def test_texts_are_remembered_from_the_store_and_from_what_was_said_since(tmp_path: Path):
    stores = [
        text_store(texts, tmp_path / texts[0], dtype="float32")
        for texts in (["sea", "lake"], ["lake", "tree"])
    ]
    memory = TextFeatureCache(stores)
    assert memory.unknown(["tree", "a hill", "sea", "a hill"]) == ["a hill"]
    memory.learn(["a hill"], Means().encode_text(["a hill"]))
    assert memory.unknown(["tree", "a hill"]) == []
    torch.testing.assert_close(
        memory.vectors(["tree", "a hill", "lake", "tree"]),
        Means().encode_text(["tree", "a hill", "lake", "tree"]),
    )


def test_forgetting_never_loses_a_text_of_the_same_call(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stored_module, "_HELD_TEXTS", 4)
    memory = TextFeatureCache()
    for texts in (["a", "b", "c"], ["c", "d", "e"], ["a", "b", "c", "d", "e", "f"], ["f", "a"]):
        for text in memory.unknown(texts):  # in parts, as a backbone reads them
            memory.learn([text], Means().encode_text([text]))
        assert torch.equal(memory.vectors(texts), Means().encode_text(texts))


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


def views(manifest: Manifest, configs: dict[str, TextConfig], **options: Any) -> TextViews:
    return TextViews(
        manifest, configs, tokenizer=train_tokenizer(["a b"], vocabulary=600, context=8), seed=3, **options
    )


def test_a_text_view_gives_another_choice_of_facets_each_epoch(tmp_path: Path):
    manifest = pairs(tmp_path / "data").take(np.array([0, 3, 4]))

    def stored(texts: Sequence[str]) -> StoredTextFeatures:
        return StoredTextFeatures(text_store(list(texts), tmp_path / "t", dtype="float32"), texts)

    own = views(manifest, {"caption": TextConfig(facets=1), "all": TextConfig()}, stored=stored)
    rows = np.arange(3)
    drawn = own.draw(rows, epoch=0)["caption"]
    every = own.output(drawn)
    assert every.shape == (3, 2, 4) and own.is_stored
    picks = torch.cat(
        [own.view_tokens("caption", drawn, rows, epoch=epoch).values for epoch in range(40)], dim=1
    )  # (3, epochs, 4)
    is_first = (picks == every[:, :1]).all(-1)
    assert bool((is_first | (picks == every[:, 1:]).all(-1)).all()) and 0.2 < is_first.float().mean() < 0.8
    assert torch.equal(own.view_tokens("all", drawn, rows, epoch=0).values, every)


def test_changed_words_of_stored_texts_are_refused(tmp_path: Path):
    configs = {
        "caption": TextConfig(),
        "changed": TextConfig.model_validate({"of": "caption", "augment": {"share": 0.2}}),
    }
    with pytest.raises(
        DataError,
        match=r"texts\.changed\.augment changes words, and the texts' vectors come from a store; leave one of the two out",
    ):
        views(pairs(tmp_path / "data"), configs, stored=lambda texts: None)


@pytest.mark.parametrize("pick", ["first", "random"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"fields": ["keywords"], "lists": "each", "field_probability": 0.3}, {"fields": ["keywords"]}],
)
def test_chances_sum_to_one_and_are_the_frequencies_of_the_draws(
    tmp_path: Path, pick: str, settings: dict[str, Any]
):
    own = views(pairs(tmp_path / "data"), {"caption": TextConfig.model_validate({"pick": pick, **settings})})
    rows, texts, chances = own.chances("caption")
    usable = np.flatnonzero(own.has_text)
    assert sorted(set(rows.tolist())) == usable.tolist()
    np.testing.assert_allclose(np.bincount(rows, chances, minlength=ROWS)[usable], 1, atol=1e-12)
    epochs, size = 3000, texts.max() + 1
    expected = np.zeros((ROWS, size))
    np.add.at(expected, (rows, texts), chances)
    found = np.zeros_like(expected)
    for epoch in range(epochs):
        np.add.at(found, (usable, own.draw(usable, epoch=epoch)["caption"]), 1 / epochs)
    np.testing.assert_allclose(found, expected, atol=0.04)
    assert not found[expected == 0].any()
