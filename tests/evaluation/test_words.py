"""Words of images, by a model whose every word is known: hits, chance, and what few words lose."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from frugalclip.core.errors import ModelError
from frugalclip.core.preprocess import Preprocess
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation import words
from frugalclip.evaluation.words import evaluate_words, word_task
from frugalclip.functional import unit
from frugalclip.language_model import Lexicon
from frugalclip.models import ManifestFeatures
from frugalclip.sources.open import open_data

VOCABULARY = ["animal", "boat", "cat", "dog", "houses", "lake", "the"]
PAIRS = {
    "a dog by the lake": ["dog", "animal", "the"],
    "two cats": ["cat", "animal"],
    "the house": ["houses", "dog"],
    "a boat": ["animal"],
}


class Worded:
    """An image has the words listed for its caption, a text its own; the first weighs most."""

    fingerprint, preprocess = "f" * 16, Preprocess(size=8)

    def __init__(self, lexicon: Lexicon | None) -> None:
        self.lexicon = lexicon

    def vectors(self, listed: list[list[str]]) -> Tensor:
        found = torch.zeros(len(listed), len(VOCABULARY))
        for row, own in zip(found, listed, strict=True):
            for place, word in enumerate(own):
                row[VOCABULARY.index(word)] = 3.0 - place
        return unit(found)

    def encode_text(self, texts: list[str], /) -> Tensor:
        return self.vectors([[word for word in VOCABULARY if word in text] for text in texts])

    def image_features(self, manifest: Manifest, /) -> ManifestFeatures:
        kept = [row for row, name in enumerate(manifest.ids) if name != "broken"]
        faults = [(row, "not-an-image") for row in range(len(manifest)) if row not in kept]
        return ManifestFeatures(
            self.vectors([PAIRS[manifest.captions()[row][0]] for row in kept]), np.array(kept), faults
        )

    def words(self, embeddings: Tensor, /, *, top: int = 10) -> list[list[tuple[str, float]]]:
        assert top == 10
        order = embeddings.argsort(dim=1, descending=True, stable=True).tolist()
        return [
            [(VOCABULARY[i], float(row[i])) for i in places if row[i] > 0]
            for row, places in zip(embeddings, order, strict=True)
        ]


@pytest.fixture
def model() -> Worded:
    return Worded(Lexicon(VOCABULARY, range(len(VOCABULARY))))


@pytest.fixture
def pairs(tmp_path: Path) -> Manifest:
    return written(tmp_path, list(PAIRS))


def written(folder: Path, captions: list[str], **fields: list[object]) -> Manifest:
    names = [f"image{i}" for i in range(len(captions))]
    for name in names:
        Image.new("RGB", (4, 4)).save(folder / f"{name}.png")
    more = [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)] or [
        {}
    ] * len(captions)
    lines = [
        {"id": n, "image": f"{n}.png", "caption": c, **m}
        for n, c, m in zip(names, captions, more, strict=True)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return open_data(folder / "pairs.jsonl")


def test_every_metric_is_what_counting_by_hand_gives(model, pairs):
    result = evaluate_words(model, pairs)
    # hits: dog of (dog, animal, the), as `the` is no content word; cat of (cat, animal);
    # house of (houses, dog); none of (animal)
    expected = {
        "words_hit": 75.0,
        "words_precision": 100 * (1 / 3 + 1 / 2 + 1 / 2 + 0) / 4,
        "most_used_word": 75.0,
        "non_zeros": 2.0,
    }
    found = result["metrics"]
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found.keys() == result["interval"].keys() > result["chance"].keys()
    assert all(low <= found[name] <= high for name, (low, high) in result["interval"].items())
    assert result["words"]["used"][:2] == [
        {"word": "animal", "images": 75.0},
        {"word": "dog", "images": 50.0},
    ]
    assert (result["task"], result["samples"], result["words"]["vocabulary"]) == ("words", 4, 7)
    assert (result["words"]["of"], result["words"]["compared"]) == ("captions", "by lemma (en, simplemma)")


def test_chance_is_the_mean_over_what_others_have(model, pairs):
    # four images have three exchanges in all; of the twelve words of another image, only the third's `dog`
    # is in a caption, the first's
    assert evaluate_words(model, pairs)["chance"]["words_hit"] == pytest.approx(100 * 1 / 12, abs=1e-5)
    assert evaluate_words(model, pairs)["chance"]["words_precision"] == pytest.approx(
        100 * 0.5 / 12, abs=1e-5
    )
    alone = evaluate_words(model, pairs.take([0]))
    assert "words_hit" not in alone["chance"] and alone["chance"]["i2t_r1"] == 100.0


def test_few_words_may_find_less_than_all_of_them(model, pairs, monkeypatch):
    dense = evaluate_words(model, pairs)
    assert dense["metrics"]["i2t_r1"] == dense["metrics"]["i2t_r1_64_words"], "64 are all of seven words"
    monkeypatch.setattr(words, "STORED", 1)
    few = evaluate_words(model, pairs)
    assert few["metrics"]["i2t_r1"] == dense["metrics"]["i2t_r1"]
    # heaviest words: dog, cat, houses, animal; of the captions dog, cat, the, boat.
    # Two are met, and each of the others guesses among four ties
    assert (
        few["metrics"]["i2t_r1_1_words"]
        == few["metrics"]["t2i_r1_1_words"]
        == pytest.approx(100 * (1 + 1 + 0.25 + 0.25) / 4)
    )
    assert few["chance"]["t2i_r1_1_words"] == 25.0


def test_words_of_a_field_belong_to_the_image_too(model, tmp_path):
    data = written(
        tmp_path, ["a boat", "two cats"], label=["an animal", None], tags=[["lake"], ["Animals", "pets"]]
    )
    assert evaluate_words(model, data)["metrics"]["words_hit"] == 100.0, "a label counts by default"
    assert word_task(data, label_field="tags").own == [{"boat", "lake"}, {"two", "cat", "animal", "pet"}]
    assert evaluate_words(model, data, label_field="tags")["words"]["of"] == "captions, and field tags"


def test_the_images_shown_are_drawn_by_seed_with_their_hits(model, pairs):
    shown = evaluate_words(model, pairs)["examples"]["words"]
    assert sorted(one["row"] for one in shown) == [0, 1, 2, 3]
    first = next(one for one in shown if one["id"] == "image0")
    assert [(one["word"], one["is_hit"]) for one in first["words"]] == [
        ("dog", True),
        ("animal", False),
        ("the", False),
    ]
    assert first["words"][0]["weight"] == pytest.approx(3 / 14**0.5, abs=1e-6)
    assert [one["row"] for one in evaluate_words(model, pairs)["examples"]["words"]] == [
        one["row"] for one in shown
    ]


def test_an_unreadable_image_takes_no_part(model, tmp_path):
    data = written(tmp_path, ["a boat", "two cats", "the house"])
    table = data.table.set_column(0, "id", [["broken", "image1", "image2"]])
    result = evaluate_words(model, Manifest(table, data.root, data.name))
    assert (
        result["samples"] == 2
        and result["left_out"]["not-an-image"] == 1
        and result["metrics"]["words_hit"] == 100.0
    )


def test_a_model_without_words_is_refused_in_a_sentence_that_names_recipes(pairs):
    with pytest.raises(
        ModelError, match=r"no lexical head, .* 'frugalclip train words' .* or 'frugalclip train lexvla'"
    ):
        evaluate_words(Worded(None), pairs)


def test_words_are_compared_as_written_where_lemmas_are_unknown(model, pairs, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "simplemma", None)
    result = evaluate_words(model, pairs)
    assert result["metrics"]["words_hit"] == 25.0, "the dog; neither cats nor houses"
    assert (
        "as written: " in result["words"]["compared"]
        and "pip install 'frugalclip[curate]'" in result["words"]["compared"]
    )
