"""Text views: which text of a row is drawn, how often, and features in place of token ids."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.data.tokens import train_tokenizer
from frugalclip.features.rows import FeatureRows
from frugalclip.loading.texts import TextViewConfig, TextViews

from ..features.encoders import ROWS, pairs, text_store


def views(manifest: Manifest, configs: dict[str, TextViewConfig], **options: Any) -> TextViews:
    return TextViews(
        manifest, configs, tokenizer=train_tokenizer(["a b"], vocabulary=600, context=8), seed=3, **options
    )


def test_a_text_view_gives_another_choice_of_facets_each_epoch(tmp_path: Path):
    manifest = pairs(tmp_path / "data").take(np.array([0, 3, 4]))

    def stored(texts: Sequence[str]) -> FeatureRows:
        return FeatureRows(text_store(list(texts), tmp_path / "t", dtype="float32"), "text", texts)

    own = views(manifest, {"caption": TextViewConfig(facets=1), "all": TextViewConfig()}, stored=stored)
    rows = np.arange(3)
    drawn = own.draw(rows, epoch=0)["caption"]
    every = own.stored_features(drawn)
    assert every.shape == (3, 2, 4) and own.is_stored
    picks = torch.cat(
        [own.view_tokens("caption", drawn, rows, epoch=epoch).values for epoch in range(40)], dim=1
    )  # (3, epochs, 4)
    is_first = (picks == every[:, :1]).all(-1)
    assert bool((is_first | (picks == every[:, 1:]).all(-1)).all()) and 0.2 < is_first.float().mean() < 0.8
    assert torch.equal(own.view_tokens("all", drawn, rows, epoch=0).values, every)


def test_changed_words_of_stored_texts_are_refused(tmp_path: Path):
    configs = {
        "caption": TextViewConfig(),
        "changed": TextViewConfig.model_validate({"of": "caption", "augment": {"share": 0.2}}),
    }
    with pytest.raises(
        DataError,
        match=r"texts\.changed\.augment changes words, and the texts' vectors come from a store; "
        "leave one of the two out",
    ):
        views(pairs(tmp_path / "data"), configs, stored=lambda texts: None)


@pytest.mark.parametrize("pick", ["first", "random"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"fields": ["keywords"], "lists": "each", "field_probability": 0.3},
        {"fields": ["keywords"]},
        {
            "fields": ["keywords", "id", "absent?"],
            "lists": "each",
            "field_probability": {"keywords": 0.5, "id": 0.2, "absent": 0.1},
        },
        {"fields": ["keywords"], "field_probability": 0},
    ],
)
def test_chances_sum_to_one_and_are_the_frequencies_of_the_draws(
    tmp_path: Path, pick: str, settings: dict[str, Any]
):
    own = views(
        pairs(tmp_path / "data"), {"caption": TextViewConfig.model_validate({"pick": pick, **settings})}
    )
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


def test_each_field_is_read_with_its_own_probability_where_a_row_has_it(tmp_path: Path):
    manifest = make_manifest(
        ids=["all", "one", "bare", "only"],
        images=image_places(["all", "one", "bare", "only"]),
        captions=[["c"], ["c"], ["c"], []],
        fields={"caption_a": ["a", "a", None, "a"], "caption_b": ["b", None, None, "b"]},
        root=tmp_path,
        name="rows",
    )
    settings = {
        "fields": ["caption_a", "caption_b?"],
        "field_probability": {"caption_a": 0.3, "caption_b": 0.1},
    }
    own = views(manifest, {"caption": TextViewConfig.model_validate(settings)})
    rows, texts, chances = own.chances("caption")
    found = {
        (manifest.ids[row], own.texts([text])[0]): chance
        for row, text, chance in zip(rows.tolist(), texts.tolist(), chances.tolist(), strict=True)
    }
    expected = {("all", "c"): 0.6, ("all", "a"): 0.3, ("all", "b"): 0.1, ("one", "c"): 0.7, ("one", "a"): 0.3}
    assert found == pytest.approx(expected | {("bare", "c"): 1, ("only", "a"): 0.75, ("only", "b"): 0.25})
    drawn = [own.texts(own.draw(np.arange(4), epoch=epoch)["caption"]) for epoch in range(4000)]
    for (id, text), chance in found.items():
        share = np.mean([row[manifest.ids.index(id)] == text for row in drawn])
        assert share == pytest.approx(chance, abs=0.04)


@pytest.mark.parametrize(
    ("probabilities", "said"),
    [({"a": 0.7, "b": 0.4}, "adds up to 1.1"), ({"a": 0.5}, "names a, and fields a, b"), ({}, "no field")],
)
def test_probabilities_of_fields_fit_the_fields(probabilities: dict[str, float], said: str):
    settings = {"fields": ["a", "b?"], "field_probability": probabilities}
    with pytest.raises(RecipeError, match=said):
        validated(TextViewConfig, settings, where="texts.caption")
