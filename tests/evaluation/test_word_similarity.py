import math

import pytest

from frugalclip.evaluation.word_similarity import WordSimilarity


def cosine_by_loops(a: str, b: str, corpus: list[str]) -> float:
    """TF-IDF cosine of two texts, slow and obvious."""
    texts = {" ".join(text.lower().split()) for text in corpus}
    words = sorted({w for text in (a, b) for w in text.lower().split()})
    rarity = {
        w: math.log((1 + len(texts)) / (1 + sum(w in text.split() for text in texts))) + 1 for w in words
    }
    x, y = ([text.lower().split().count(w) * rarity[w] for w in words] for text in (a, b))
    return sum(p * q for p, q in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)


def test_word_similarity_equals_its_formula_written_as_loops():
    corpus = ["a red flag", "a blue flag", "A  red flag", "red red balloon"]
    first, second = (
        ["a red balloon", "green flag", "red red flag"],
        ["red flag", "balloon", "an unknown word"],
    )
    ours = WordSimilarity(corpus)([[text] for text in first], [[text] for text in second])
    expected = [[cosine_by_loops(a, b, corpus) for b in second] for a in first]
    assert ours.tolist() == [pytest.approx(row, abs=1e-6) for row in expected]


def test_words_keep_the_order_of_the_texts():
    words = [f"word{i}" for i in range(40, 0, -1)]
    found = WordSimilarity([" ".join(words[:20]), " ".join(words[20:])]).found_in
    assert list(found) == words and found.most_common(3) == [(word, 1) for word in words[:3]]


def test_equal_names_score_one_the_same_words_less_and_the_best_alternative_counts():
    alike = WordSimilarity(["cat dog", "bird"])
    assert alike([["Cat  dog"]], [["cat dog"], ["dog cat"], ["bird"], ["!?"]]).tolist() == [
        pytest.approx([1, 0.999, 0, 0])
    ]
    assert alike([["!?"]], [["!?"], ["cat"]]).tolist() == [[1, 0]]
    assert alike([["cat", "bird"], []], [["dog", "bird"]]).tolist() == [[1], [0]]
