import dataclasses
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frugalclip.core.errors import DataError
from frugalclip.core.types import Batch
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.data.tokens import train_tokenizer
from frugalclip.loading.loader import BatchSpec, Loader, LoaderConfig, LoaderData
from frugalclip.loading.sampling import epoch_order
from frugalclip.loading.texts import TextViewConfig, texts_of
from frugalclip.loading.views import PRESETS, ViewConfig

WORDS = ["red", "green", "blue", "cat", "dog", "fish", "hat"]
TOKENIZER = train_tokenizer([*WORDS, "a", "photo"] * 3, vocabulary=600, context=12)
SMALL = ViewConfig(crop_scale=(0.3, 1), flip=0.5, jitter=(0.4, 0.4, 0.4, 0.1))


def image(number: int, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for i in range(23):
        (root / f"{i}.png").write_bytes(image(i, (20 + i % 3 * 10, 20)))
    return root


def manifest_of(
    folder: Path, count: int = 23, *, broken: tuple[int, ...] = (), without_text: tuple[int, ...] = ()
) -> Manifest:
    for i in broken:
        (folder / f"{i}.broken.png").write_bytes(image(i, (20, 20))[:40])
    names = [f"{i}.broken.png" if i in broken else f"{i}.png" for i in range(count)]
    captions = [[] if i in without_text else [f"a {WORDS[i % 7]}", f"photo {i}"] for i in range(count)]
    return make_manifest(
        ids=[str(i) for i in range(count)],
        images=image_places(names),
        captions=captions,
        fields={
            "label": [WORDS[i % 7] for i in range(count)],
            "keywords": [["key", str(i)] if i % 2 else None for i in range(count)],
        },
        root=folder,
        name="pack",
    )


def loader_of(manifest: Manifest, **options) -> Loader:
    settings = {
        "views": {"main": SMALL, "second": PRESETS["clip"]},
        "texts": {"caption": TextViewConfig()},
        "fields": ["caption", "label", "id"],
        "batch": 4,
        "size": 16,
        "seed": 5,
    }
    settings |= options
    data, spec, config = (
        {field.name: settings.pop(field.name) for field in dataclasses.fields(kind) if field.name in settings}
        for kind in (LoaderData, BatchSpec, LoaderConfig)
    )
    assert not settings
    return Loader(
        LoaderData(**{"manifest": manifest, "tokenizer": TOKENIZER} | data),
        BatchSpec(**spec),
        LoaderConfig(**config),
    )


def take(batches: Iterator[Batch], count: int) -> list[Batch]:
    return list(itertools.islice(batches, count))


def flat(batch: Batch) -> dict[str, torch.Tensor]:
    tensors = {"rows": batch.rows}
    for group in ("images", "boxes", "fields"):
        tensors |= {f"{group}/{name}": value for name, value in getattr(batch, group).items()}
    for name, tokens in batch.texts.items():
        tensors |= {f"ids/{name}": tokens.ids, f"lengths/{name}": tokens.lengths}
    return tensors


def assert_same(first: Batch, second: Batch) -> None:
    a, b = flat(first), flat(second)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_a_batch_holds_what_is_wanted(folder):
    manifest = manifest_of(folder)
    loader = loader_of(manifest)
    batch = next(loader.batches())
    assert loader.steps_per_epoch == 5
    assert loader.is_cached
    assert batch.images["main"].shape == (4, 3, 16, 16)
    assert batch.boxes["second"].shape == (4, 4)
    sizes = torch.tensor([[20, 20 + i % 3 * 10] for i in batch.rows.tolist()])
    assert (batch.boxes["main"][:, 2:] <= sizes).all()  # boxes are in pixels of the originals
    for row, ids, caption, label in zip(
        batch.rows.tolist(),
        batch.texts["caption"].ids,
        batch.fields["caption"],
        batch.fields["label"],
        strict=True,
    ):
        assert TOKENIZER.decode(ids).replace(" ", "") in [
            text.replace(" ", "") for text in manifest.captions()[row]
        ]
        assert label == manifest.codes("label")[row]
        assert caption != label
    assert len(set(batch.fields["id"].tolist())) == 4


def test_an_epoch_sees_each_row_once_and_the_next_in_another_order(folder):
    loader = loader_of(manifest_of(folder))
    batches = take(loader.batches(), 15)
    epochs = [torch.cat([b.rows for b in batches[i : i + 5]]).tolist() for i in (0, 5, 10)]
    assert all(len(set(rows)) == 20 for rows in epochs)
    assert epochs[0] != epochs[1]
    assert set(range(23)) == set(itertools.chain(*epochs))  # the remainder is another one each epoch


def test_going_on_at_a_step_equals_not_having_stopped(folder):
    manifest = manifest_of(folder)
    straight = take(loader_of(manifest).batches(), 9)
    resumed = take(loader_of(manifest).batches(6), 3)
    for first, second in zip(straight[6:], resumed, strict=True):
        assert_same(first, second)


@pytest.mark.parametrize("cache", [2**31, 0])
def test_two_processes_slices_are_the_batch_of_one(folder, cache):
    manifest = manifest_of(folder)
    whole = loader_of(manifest, batch=6, cache=cache)
    parts = [loader_of(manifest, batch=3, rank=rank, world=2, cache=cache) for rank in (0, 1)]
    assert {part.steps_per_epoch for part in parts} == {whole.steps_per_epoch}
    for one, first, second in zip(*(take(x.batches(2), 3) for x in (whole, *parts)), strict=True):
        assert torch.equal(one.rows, torch.cat([first.rows, second.rows]))
        for name in one.images:
            torch.testing.assert_close(
                one.images[name], torch.cat([first.images[name], second.images[name]]), rtol=0, atol=1e-6
            )
            assert torch.equal(one.boxes[name], torch.cat([first.boxes[name], second.boxes[name]]))
        for name in one.fields:
            assert torch.equal(one.fields[name], torch.cat([first.fields[name], second.fields[name]]))
        texts = [TOKENIZER.decode(ids) for batch in (first, second) for ids in batch.texts["caption"].ids]
        assert [TOKENIZER.decode(ids) for ids in one.texts["caption"].ids] == texts


def test_decoding_as_they_come_equals_the_cache_and_workers_change_nothing(folder):
    manifest = manifest_of(folder)
    cached = take(loader_of(manifest).batches(3), 4)
    plain = loader_of(manifest, cache=0)
    assert not plain.is_cached
    inline = take(plain.batches(3), 4)
    stream = loader_of(manifest, cache=0, workers=2).batches(3)
    worked = take(stream, 4)
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]
    for first, second, third in zip(cached, inline, worked, strict=True):
        assert_same(first, second)
        assert_same(first, third)


def seen(batches: list[Batch], *, steps_per_epoch: int) -> dict[tuple[int, int], tuple[list[float], int]]:
    """(epoch, row) -> its crop and the code of its caption."""
    return {
        (step // steps_per_epoch, row): (box, caption)
        for step, batch in enumerate(batches)
        for row, box, caption in zip(
            batch.rows.tolist(), batch.boxes["main"].tolist(), batch.fields["caption"].tolist(), strict=True
        )
    }


def test_a_row_looks_the_same_in_an_epoch_whatever_the_batch(folder):
    manifest = manifest_of(folder)
    four = seen(take(loader_of(manifest).batches(), 10), steps_per_epoch=5)
    six = seen(take(loader_of(manifest, batch=6).batches(), 6), steps_per_epoch=3)
    both = four.keys() & six.keys()
    assert len(both) > 25
    assert all(four[key] == six[key] for key in both)
    twice = [row for epoch, row in four if epoch == 0 and (1, row) in four]
    assert all(four[0, row][0] != four[1, row][0] for row in twice)  # another epoch, another crop


def test_broken_images_are_found_when_cached_and_take_no_part(folder):
    manifest = manifest_of(folder, broken=(3, 11), without_text=(5,))
    loader = loader_of(manifest)
    assert [row for row, _ in loader.faults] == [3, 5, 11]
    assert dict(loader.faults)[5] == "no-text"
    assert dict(loader.faults)[3] == "broken-image"
    rows = {row for batch in take(loader.batches(), 25) for row in batch.rows.tolist()}
    assert rows == set(range(23)) - {3, 5, 11}


def test_broken_images_met_on_the_way_are_replaced_alike_everywhere(folder):
    manifest = manifest_of(folder, broken=(3, 11), without_text=(5,))
    whole = loader_of(manifest, cache=0, batch=10)
    assert [row for row, _ in whole.faults] == [5]
    batches = take(whole.batches(), 4)
    assert sorted(row for row, _ in whole.faults) == [3, 5, 11]
    for batch in batches:
        assert not {3, 5, 11} & set(batch.rows.tolist())
        assert len(set(batch.rows.tolist())) == 10
    parts = [take(loader_of(manifest, cache=0, batch=5, rank=rank, world=2).batches(), 4) for rank in (0, 1)]
    for batch, first, second in zip(batches, *parts, strict=True):
        assert torch.equal(batch.rows, torch.cat([first.rows, second.rows]))
    order = epoch_order(whole.rows, seed=5, epoch=0).tolist()
    for position, row in enumerate(batches[0].rows.tolist()):
        assert row == order[position] if order[position] not in (3, 11) else row == order[position + 10]


def test_all_images_broken_is_reported(folder):
    manifest = manifest_of(folder, count=6, broken=tuple(range(6)))
    with pytest.raises(
        DataError,
        match=r"0 usable samples \(6 of 6 cannot be used: broken-image\); run: frugalclip data check pack",
    ):
        loader_of(manifest)
    with pytest.raises(DataError, match="none of the 6 images decodes"):
        next(loader_of(manifest, cache=0).batches())


def test_too_few_samples_say_which_batch_would_do(folder):
    manifest = manifest_of(folder)
    with pytest.raises(DataError, match=r"23 usable samples, and one step takes 64; set batch=16 or less"):
        loader_of(manifest, batch=32, world=2)
    assert loader_of(manifest, batch=8, world=2).steps_per_epoch == 1


def test_leaving_a_row_out_keeps_the_order_of_the_others():
    rows = np.arange(50)
    order = epoch_order(rows, seed=1, epoch=2)
    assert sorted(order) == rows.tolist()
    assert [r for r in order if r != 7] == epoch_order(rows[rows != 7], seed=1, epoch=2).tolist()
    assert order.tolist() != epoch_order(rows, seed=2, epoch=2).tolist()
    assert order.tolist() != rows.tolist()


@pytest.mark.parametrize("cache", [2**31, 0])
def test_weights_decide_how_often_a_row_is_drawn(folder, cache):
    manifest = manifest_of(folder, broken=(3,))
    weights = np.array([0.0, 6.0, *[0.5] * 21])
    whole = loader_of(manifest, batch=6, cache=cache, weights=weights)
    assert 0 not in whole.rows
    stream = take(whole.batches(), 9)
    drawn = np.bincount(np.concatenate([batch.rows.numpy() for batch in stream]), minlength=23)
    assert drawn[0] == drawn[3] == 0
    assert drawn[1] == drawn.max() > 15  # of 54: more than a third of the weight is its
    crops = {
        tuple(box)
        for batch in stream
        for row, box in zip(batch.rows.tolist(), batch.boxes["main"].tolist(), strict=True)
        if row == 1
    }
    assert len(crops) > 10  # of three epochs: the same picture twice in an epoch is cropped twice
    for one, other in zip(
        stream[4:], loader_of(manifest, batch=6, cache=cache, weights=weights).batches(4), strict=False
    ):
        assert_same(one, other)  # going on equals not having stopped
    parts = [
        take(loader_of(manifest, batch=3, rank=rank, world=2, cache=cache, weights=weights).batches(), 4)
        for rank in (0, 1)
    ]
    for one, first, second in zip(stream, *parts, strict=False):
        assert torch.equal(one.rows, torch.cat([first.rows, second.rows]))


def test_equal_weights_change_nothing(folder):
    manifest = manifest_of(folder)
    for plain, weighted in zip(
        take(loader_of(manifest).batches(), 8),
        loader_of(manifest, weights=np.full(23, 0.3)).batches(),
        strict=False,
    ):
        assert_same(plain, weighted)


def test_text_views_choose_by_their_own_rule(folder):
    manifest = manifest_of(folder)
    texts = {
        "caption": TextViewConfig(pick="first"),
        "any": TextViewConfig(),
        "words": TextViewConfig(fields=["keywords", "label"], field_probability=1),
        "mixed": TextViewConfig(fields=["keywords"], field_probability=0.5),
        "single": TextViewConfig(fields=["keywords"], field_probability=1, lists="each"),
    }
    loader = loader_of(manifest, texts=texts, views={"main": PRESETS["none"]})
    read: dict[str, set[str]] = {name: set() for name in texts}
    for batch in take(loader.batches(), 30):
        for name, tokens in batch.texts.items():
            for row, ids in zip(batch.rows.tolist(), tokens.ids, strict=True):
                text = TOKENIZER.decode(ids)
                read[name].add(text)
                if name == "words":
                    assert text in (WORDS[row % 7], f"key , {' '.join(str(row))}")
                elif name == "caption":
                    assert text == f"a {WORDS[row % 7]}"
    assert len(read["caption"]) == 7
    assert {"photo 3", "a cat"} <= read["any"]
    assert "key , 3" in read["mixed"]
    assert "a cat" in read["mixed"]
    assert {"key", "3"} <= read["single"]
    assert not any("," in text for text in read["single"])


def test_texts_may_be_tokenised_ahead_or_when_drawn(folder, monkeypatch):
    manifest = manifest_of(folder)
    ahead = take(loader_of(manifest).batches(), 3)
    monkeypatch.setattr("frugalclip.loading.texts._KEPT_TEXTS", 0)
    for first, second in zip(ahead, take(loader_of(manifest).batches(), 3), strict=True):
        assert_same(first, second)


def test_a_vocabulary_is_trained_on_every_text_a_view_may_read(folder):
    texts = list(
        texts_of(manifest_of(folder, count=4, without_text=(2,)), [TextViewConfig(fields=["keywords"])])
    )
    assert sorted(texts) == ["a cat", "a green", "a red", "key, 1", "key, 3", "photo 0", "photo 1", "photo 3"]


def test_equal_texts_have_equal_codes(folder):
    manifest = manifest_of(folder)
    loader = loader_of(manifest, texts={"first": TextViewConfig(pick="first"), "other": TextViewConfig()})
    for batch in take(loader.batches(), 5):
        words = [WORDS[row % 7] for row in batch.rows.tolist()]
        codes = batch.fields["caption"].tolist()  # of the first text view, since none is called caption
        assert [[a == b for b in words] for a in words] == [[a == b for b in codes] for a in codes]


def test_unknown_fields_and_missing_text_views_are_reported(folder):
    manifest = manifest_of(folder)
    with pytest.raises(DataError, match="'lable'; did you mean 'label'"):
        loader_of(manifest, fields=["lable"])
    with pytest.raises(DataError, match="'keyword'; did you mean 'keywords'"):
        loader_of(manifest, texts={"caption": TextViewConfig(fields=["keyword"])})
    chances = [
        loader_of(manifest, texts={"caption": TextViewConfig(fields=fields)}).texts.chances("caption")
        for fields in (["keyword?", "keywords?"], ["keywords"], ["keyword?"], [])
    ]  # one that is not there, one that is
    assert all(map(np.array_equal, chances[0], chances[1])) and all(
        map(np.array_equal, chances[2], chances[3])
    )
    assert len(chances[0][0]) > len(chances[2][0])
    with pytest.raises(DataError, match="no text view"):
        loader_of(manifest, texts={}, fields=["caption"])


def test_a_loader_without_image_views_opens_no_image(folder):
    manifest = manifest_of(folder, broken=(3,))
    loader = loader_of(manifest, views={}, fields=[])
    batch = next(loader.batches())
    assert batch.images == {}
    assert len(batch.texts["caption"]) == 4
    assert loader.faults == []


def test_images_are_kept_no_larger_than_they_are(folder):
    manifest = manifest_of(folder)
    assert loader_of(manifest).source_side == 24  # 1.5 x 16
    assert loader_of(manifest, size=30).source_side == 40  # the longest original side, instead of 45


def test_options_of_one_view_leave_the_other_alone(folder):
    manifest = manifest_of(folder)
    views = {"main": SMALL, "second": PRESETS["clip"]}
    before = next(loader_of(manifest, views=views).batches())
    after = next(
        loader_of(
            manifest, views=views | {"second": PRESETS["openclip"].model_copy(update={"size": 8})}
        ).batches()
    )
    assert torch.equal(before.images["main"], after.images["main"])
    assert after.images["second"].shape == (4, 3, 8, 8)
