import numpy as np
import pytest
import scipy.sparse
import torch

from frugalclip.core.errors import DataError
from frugalclip.language_model import Lexicon
from frugalclip.models import load
from frugalclip.serving.index import open_index
from frugalclip.serving.lexical import STORED, WordLists, packed, top_words, unpacked

VOCABULARY = 300
LEXICON = Lexicon([f"word{i}" for i in range(VOCABULARY)], range(VOCABULARY))


def documents(rows: int, *, top: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Words with Zipf's frequencies and random weights, some of them zero."""
    random = np.random.default_rng(seed)
    chances = 1 / np.arange(1, VOCABULARY + 1)
    words = np.stack(
        [random.choice(VOCABULARY, top, replace=False, p=chances / chances.sum()) for _ in range(rows)]
    )
    weights = random.random((rows, top)).astype(np.float32) * (random.random((rows, top)) < 0.9)
    return words, weights.astype(np.float32)


def matrix(words: np.ndarray, weights: np.ndarray) -> scipy.sparse.csr_matrix:
    rows = np.repeat(np.arange(len(words)), words.shape[1])
    return scipy.sparse.csr_matrix(
        (weights.ravel(), (rows, words.ravel())), shape=(len(words), VOCABULARY), dtype=np.float64
    )


def test_the_best_ten_are_scipys():
    lists = WordLists(*documents(800), LEXICON)
    right = matrix(*documents(800))
    for words, weights in zip(*documents(30, seed=1), strict=True):
        query = {int(w): float(v) for w, v in zip(words, weights, strict=True) if v > 0}
        vector = np.zeros(VOCABULARY)
        vector[list(query)] = list(query.values())
        scores = right @ vector
        order = np.lexsort((np.arange(800), -scores))[:10]
        found = lists.search(query, k=10)
        assert found.rows.tolist() == order.tolist()
        assert found.scores == pytest.approx(scores[order], rel=1e-6)
        among = np.arange(0, 800, 7)
        order = among[np.lexsort((among, -scores[among]))[:10]]
        assert lists.search(query, k=10, among=among).rows.tolist() == order.tolist()


def test_reasons_sum_to_the_score():
    lists = WordLists(*documents(100), LEXICON)
    query = lists.of_row(5)
    found = lists.search(query, k=3)
    assert found.rows[0] == 5
    for row, score in zip(found.rows, found.scores, strict=True):
        reasons = lists.reasons(query, row)
        assert sum(reason.weight for reason in reasons) == pytest.approx(score)
        assert [r.weight for r in reasons] == sorted((r.weight for r in reasons), reverse=True)


def test_words_and_weights_survive_a_store_exactly():
    embeddings = torch.randn(3, 100)
    words, weights = top_words(embeddings)
    assert words.shape == (3, STORED)
    assert weights.min() == 0
    back = unpacked(packed(words, weights).numpy())
    assert np.array_equal(back[0], words.numpy())
    assert np.array_equal(back[1], weights.numpy())


@pytest.fixture(scope="module")
def index(made):
    return open_index(made / "lexical")


def test_an_index_of_words_gives_what_the_model_gives(index, made):
    model = load(made / "worded")
    answer = index.query("a red thing", k=5)
    assert answer["index"]["kind"] == "lexical"
    words, weights = top_words(model.encode_text(["a red thing"]))
    text = torch.zeros(1, model.dim).scatter_(1, words, weights)
    images = model.encode_image([hit["path"] for hit in answer["hits"]])
    own = torch.zeros(len(images), model.dim).scatter_(1, *top_words(images))
    assert [hit["score"] for hit in answer["hits"]] == pytest.approx((own @ text.T)[:, 0].tolist(), rel=1e-4)
    for hit in answer["hits"]:
        assert sum(reason["weight"] for reason in hit["reasons"]) == pytest.approx(hit["score"])


def test_excluded_words_leave_no_hit_that_has_them(index):
    first = index.query("a red thing", k=1)["hits"][0]["reasons"][0]["word"]
    for hit in index.query("a red thing", without=first, k=99)["hits"]:
        row = index.rows.row_of(hit["id"])
        assert first not in {index.engine.lists.lexicon.words[w] for w in index.engine.lists.of_row(row)}
    with pytest.raises(DataError, match="'zebra' is not among the 96 words"):
        index.query("a red thing", without="zebra")


def test_a_boosted_word_counts_by_its_factor(index):
    plain = index.query("a red thing", k=1)["hits"][0]
    word = plain["reasons"][-1]["word"]
    weight = {r["word"]: r["weight"] for r in plain["reasons"]}[word]
    boosted = next(
        hit for hit in index.query("a red thing", boost={word: 3}, k=99)["hits"] if hit["id"] == plain["id"]
    )
    assert {r["word"]: r["weight"] for r in boosted["reasons"]}[word] == pytest.approx(3 * weight)


def test_like_and_image_agree(index, made):
    file = made / "data" / "red" / "80.png"
    own = index.query(image=file, k=4)["hits"]
    assert own[0]["path"] == str(file)
    like = index.query(like=own[0]["id"], k=3)["hits"]
    assert [hit["id"] for hit in like] == [hit["id"] for hit in own[1:]]
