"""Augmentations that are made again: same pixels each time, same bytes after a kill, damage is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frugalclip.core.errors import DataError
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.random import uniform
from frugalclip.data.image_reader import ImageReader
from frugalclip.features.embed import embed_manifest
from frugalclip.features.format import read_head
from frugalclip.features.store import Store
from frugalclip.loading.replay import (
    AUGMENTATIONS,
    Augmentations,
    AugmentedViews,
    StoredTexts,
    at_size,
    refuse_other_images,
    stored_augmentations,
    with_field_texts,
)

from ..features.encoders import Means, pairs
from ..features.test_damage import everything, flip
from ..features.test_store import contents

PLAN = Augmentations.model_validate(
    {"number": 3, "view": {"crop_scale": [0.3, 1], "flip": 0.5, "jitter": [0.4, 0.4, 0.4, 0.1]}, "size": 12}
)


def written(folder: Path, out: Path, *, encoder: Any = None, plan: Augmentations = PLAN) -> Store:
    encoder = encoder or Means()
    return embed_manifest(
        encoder,
        with_field_texts(pairs(folder), ["keywords"]),
        out,
        batch=4,
        chunk_rows=5,
        views=AugmentedViews(plan, encoder.preprocess),
        settings={AUGMENTATIONS: plan.model_dump(mode="json")},
    ).store


def test_an_augmentation_depends_on_image_id_and_number_alone(tmp_path: Path):
    data = ImageReader(pairs(tmp_path / "data")).bytes(3)
    views = AugmentedViews(PLAN, Preprocess(size=12))
    made = views(data, "a")
    assert made.shape == (3, 3, 12, 12) and torch.equal(made, views(data, "a"))
    more = AugmentedViews(PLAN.model_copy(update={"number": 5}), Preprocess(size=12))
    assert torch.equal(more(data, "a")[:3], made), "more augmentations keep the first ones"
    others = [views(data, "b"), made[[1, 2, 0]]]
    assert all(not torch.equal(made[i], one[i]) for one in others for i in range(3))


def test_a_teacher_of_another_resolution_takes_the_students_view(tmp_path: Path):
    data, preprocess = ImageReader(pairs(tmp_path / "data")).bytes(3), Preprocess(size=8)
    small = AugmentedViews(PLAN, preprocess)(data, "a")
    same = AugmentedViews(PLAN, preprocess.model_copy(update={"size": 12}))(data, "a")
    assert small.shape[-1] == 8 and torch.equal(small, at_size(same, 8))


def test_the_draw_of_a_row_is_its_own_and_every_number_comes_equally_often():
    rows = np.arange(2000)
    first = PLAN.drawn(rows, turns=np.zeros_like(rows), seed=1, stream="main")
    assert np.bincount(first).min() > 600 and set(first) == {0, 1, 2}
    some = np.array([1999, 4, 4])
    assert PLAN.drawn(some, turns=np.zeros_like(some), seed=1, stream="main").tolist() == first[some].tolist()
    for change in ({"seed": 2}, {"stream": "second"}, {"turns": np.ones_like(rows)}):
        given = {"turns": np.zeros_like(rows), "seed": 1, "stream": "main"} | change
        assert abs(float((PLAN.drawn(rows, **given) == first).mean()) - 1 / 3) < 0.05
    draws = uniform(1, "augmentation/main", np.stack([rows, np.zeros_like(rows)], axis=1), 1)[:, 0]
    assert (first == np.floor(3 * draws)).all()


def test_the_store_holds_every_augmentation_and_every_text_of_a_row(tmp_path: Path):
    store, encoder = written(tmp_path / "data", tmp_path / "s"), Means()
    manifest = pairs(tmp_path / "data")
    assert stored_augmentations(store) == PLAN
    assert (store.counts("image") == 3).all()
    texts = with_field_texts(manifest, ["keywords"]).captions()
    assert texts[0] == ["picture 0", "one of many"] and texts[1] == ["key1", "shared"]
    assert texts[4] == ["picture 4", "one of many", "key4", "shared"]
    assert store.counts("text").tolist() == [len(own) for own in texts]
    found = store.ragged("image", [7])[0]
    views = AugmentedViews(PLAN, encoder.preprocess)(ImageReader(manifest).bytes(7), "id-7")
    expected = torch.nn.functional.normalize(encoder.encode_image(views), dim=1)
    cosines = torch.nn.functional.cosine_similarity(found, expected)
    assert float(cosines.min()) > 1 - 1e-5


class Stopping(Means):
    """Stops when it is to encode so many images."""

    def encode_image(self, images: torch.Tensor, *, normalize: bool = True) -> torch.Tensor:
        if self.images > 20:
            raise KeyboardInterrupt
        return super().encode_image(images, normalize=normalize)


def test_stopped_and_started_again_gives_the_same_bytes(tmp_path: Path):
    written(tmp_path / "data", tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "data", tmp_path / "s", encoder=Stopping())
    assert not read_head(tmp_path / "s").complete and list((tmp_path / "s" / "chunks").iterdir())
    again = Means()
    written(tmp_path / "data", tmp_path / "s", encoder=again)
    assert again.images == 3 * 7, "the first five rows are kept"
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_no_flipped_byte_is_read_as_a_vector(tmp_path: Path):
    written(tmp_path / "data", tmp_path / "s")
    for file in sorted(one for one in (tmp_path / "s").rglob("*") if one.is_file()):
        whole = file.read_bytes()
        for place in np.linspace(0, len(whole) - 1, 5).astype(int).tolist():
            flip(file, place)
            with pytest.raises(DataError):
                everything(tmp_path / "s")
            file.write_bytes(whole)


@pytest.mark.parametrize(
    "change", [{"number": 4}, {"size": 16}, {"view": PLAN.view.model_copy(update={"flip": 0.25})}]
)
def test_a_folder_of_other_augmentations_is_refused(tmp_path: Path, change: dict[str, Any]):
    written(tmp_path / "data", tmp_path / "s")
    with pytest.raises(DataError, match=f"augmentations.{next(iter(change))}.*give another folder"):
        written(tmp_path / "data", tmp_path / "s", plan=PLAN.model_copy(update=change))


def test_another_version_and_damaged_settings_are_a_sentence(tmp_path: Path):
    store = written(tmp_path / "data", tmp_path / "s")
    for content, sentence in (
        ({**PLAN.model_dump(mode="json"), "version": 2}, "augmentations of version 2, this program makes 1"),
        ({"version": 1, "number": 0}, "augmentations"),
        ([], "augmentations"),
    ):
        encoder = store.head.encoder.model_copy(update={"settings": {AUGMENTATIONS: content}})
        store.head = store.head.model_copy(update={"encoder": encoder})
        with pytest.raises(DataError, match=sentence):
            stored_augmentations(store)


@pytest.mark.parametrize("view", [{"contains": ["main"]}, {"size": 9}])
def test_views_that_cannot_stand_alone_are_refused(view: dict[str, Any]):
    with pytest.raises(ValueError, match="leave"):
        Augmentations.model_validate({"number": 1, "view": view, "size": 12})


def test_texts_are_found_by_row_and_number_and_absent_ones_are_told():
    texts = StoredTexts([["a", "b", "a"], [], ["c", "b"]], {"a": 0, "b": 1, "c": 2, "d": 3})
    rows, drawn = np.array([0, 0, 2, 2, 1, 0, 2]), np.array([0, 1, 1, 2, 0, 2, 3])
    assert texts.places(rows, drawn).tolist() == [0, 1, 1, 0, -1, -1, -1]
    assert StoredTexts([], {}).places(rows, drawn).tolist() == [-1] * 7


def test_other_images_are_refused_by_name_and_unreadable_ones_left_to_the_loader(tmp_path: Path):
    manifest = pairs(tmp_path / "data")
    store, rows = written(tmp_path / "data", tmp_path / "s"), np.arange(12)
    refuse_other_images(store, rows, manifest)
    (tmp_path / "data" / "4.png").unlink()
    refuse_other_images(store, rows, manifest)
    (tmp_path / "data" / "5.png").write_bytes((tmp_path / "data" / "6.png").read_bytes())
    with pytest.raises(DataError, match=r"another image of 'id-5'.*with another --out"):
        refuse_other_images(store, rows, manifest)
