import json

import numpy as np
import pytest

from frugalclip.cli import main
from frugalclip.core.errors import DataError
from frugalclip.serving.calibration import standing
from frugalclip.serving.hybrid import HybridIndex
from frugalclip.serving.index import open_index
from frugalclip.serving.layout import Calibration


@pytest.fixture(scope="module")
def indexes(made):
    return open_index(made / "index"), open_index(made / "lexical")


def scores(index, **request):
    return {hit["id"]: hit["score"] for hit in index.query("a red thing", k=99, **request)["hits"]}


def test_a_score_stands_at_one_where_one_in_a_hundred_random_pairs_reach_it():
    calibration = Calibration(
        pairs={"text": 10_000}, shares=[1.0, 0.5, 0.1, 0.01], scores={"text": [-1.0, 0.2, 0.3, 0.6]}
    )
    assert standing(calibration, "text", np.array([0.2, 0.6, 0.4])).tolist() == pytest.approx([0, 1, 0.5])
    assert standing(None, "text", np.array([0.2])).tolist() == [0.2]


def test_the_score_is_the_weighted_mean_of_both_standings(indexes):
    dense, words = indexes
    own = [scores(dense), scores(words)]
    for share in (0.3, 0.5):
        for id, score in scores(HybridIndex(dense, words, share=share)).items():
            parts = [
                standing(index.head.calibration, "text", np.array([found.get(id, 0.0)]))[0]
                for index, found in zip(indexes, own, strict=True)
            ]
            assert score == pytest.approx((1 - share) * parts[0] + share * parts[1], abs=2e-2)


@pytest.mark.parametrize("share", [0, 1])
def test_with_all_weight_on_one_the_order_is_its_own(indexes, share):
    hybrid = HybridIndex(*indexes, share=share)
    found = [hit["id"] for hit in hybrid.query("a red thing", k=5)["hits"]]
    assert found == [hit["id"] for hit in indexes[share].query("a red thing", k=5)["hits"]]


def test_reasons_conditions_and_examples_hold_for_both(indexes):
    hybrid = HybridIndex(*indexes)
    hits = hybrid.query("a red thing", where="label=gold", k=9)["hits"]
    assert {hit["captions"][0] for hit in hits} == {"gold"}
    assert any(hit["reasons"] for hit in hits)
    like = hybrid.query(like=hits[0]["id"], k=99)["hits"]
    assert hits[0]["id"] not in [hit["id"] for hit in like]
    with pytest.raises(DataError, match="leave --max-false-hits out"):
        hybrid.query("a", max_false_hits=0.1)


def test_the_verb_searches_both(made, capsys):
    arguments = [str(made / "index"), "a red thing", "-k", "2", "--beside", str(made / "lexical")]
    assert main(["search", "query", *arguments, "--json"]) == 0
    hybrid = HybridIndex(open_index(made / "index"), open_index(made / "lexical"))
    assert json.loads(capsys.readouterr().out) == hybrid.query("a red thing", k=2)
    assert main(["search", "query", *arguments]) == 0


def test_a_boost_counts_where_one_index_has_words_and_is_refused_where_none_has(indexes):
    dense, words = indexes
    word = words.query("a red thing", k=1)["hits"][0]["reasons"][0]["word"]
    plain, boosted = scores(HybridIndex(dense, words)), scores(HybridIndex(dense, words), boost={word: 3})
    assert plain != boosted
    with pytest.raises(DataError, match="no words to boost"):
        HybridIndex(dense, dense).query("a red thing", boost={word: 3})
