"""Counts of words and pieces: products of vectors are products of counts, the same on every machine."""

import pytest
import torch

from frugalclip.core.errors import ModelError, RecipeError
from frugalclip.core.types import Strings

from .tiny_backbones import text_backbone, text_tokenizer


def vectors(source: str, *texts: str, width: int = 4096) -> torch.Tensor:
    return text_backbone(source, {"width": width})(text_tokenizer(source).encode(texts)).pooled


def test_products_of_vectors_are_products_of_counts():
    found = vectors("hashed:words", "Red heart, red!", "a RED square", "", width=65536)
    # red twice and heart; a, red and square
    assert (found @ found.T).tolist() == [[5, 2, 0], [2, 3, 0], [0, 0, 0]]


def test_pieces_are_runs_of_three_and_four_characters_with_marks_of_the_ends():
    found = vectors("hashed:pieces", "cats", "cat", "scat", width=65536)
    # <ca, cat, ats, ts>, <cat, cats, ats>; <ca, cat, at>, <cat, cat>; <sc, sca, cat, at>, <sca, scat, cat>
    assert (found @ found.T).tolist() == [[7, 3, 1], [3, 5, 3], [1, 3, 7]]


def test_a_vector_depends_on_the_text_alone():
    one = vectors("hashed:words", "green", width=1024)[0]
    assert int(one.nonzero()) == 806 and one[806] == -1  # by blake2b, on every machine
    default = text_backbone("hashed:words")
    assert default(Strings(("green",))).pooled.shape == (1, default.width) == (1, 1024)
    assert text_backbone("hashed:pieces").width == 2048
    prints = {text_backbone("hashed:words", {"width": width}).fingerprint for width in (1024, 2048)}
    assert len(prints) == 2 and default.fingerprint in prints


def test_what_cannot_be_counted_is_refused_with_what_can():
    with pytest.raises(ModelError, match="'hashed:word' counts nothing known; did you mean 'words'"):
        text_backbone("hashed:word")
    with pytest.raises(RecipeError, match=r"no weights that can be trained; leave model.text.tune"):
        text_backbone("hashed:words", tuned=True)
    with pytest.raises(ModelError, match="gives one vector a text and no tokens"):
        text_backbone("hashed:words")(Strings(("red",)), with_tokens=True)
