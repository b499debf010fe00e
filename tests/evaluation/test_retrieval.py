import numpy as np
import pyarrow as pa
import pytest
import torch

from frugalclip.core.errors import DataError
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.baselines import Baselines
from frugalclip.evaluation.retrieval import RetrievalTask, evaluate_retrieval, retrieval_task
from frugalclip.functional import unit


def with_captions(manifest: Manifest, captions: list[list[str]]) -> Manifest:
    place = manifest.table.column_names.index("captions")
    return Manifest(
        manifest.table.set_column(place, "captions", pa.array(captions, pa.list_(pa.string()))),
        manifest.root,
        manifest.name,
    )


def test_recall_equals_its_formula_written_as_loops():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(15, 5, generator=generator), torch.randn(22, 5, generator=generator)
    pairs = torch.tensor([[i, i] for i in range(15)] + [[i, 15 + i] for i in range(7)] + [[3, 0], [3, 20]])
    cosines = (unit(images) @ unit(texts).T).tolist()
    expected = {}
    for way, queries, candidates in (("i2t", 15, 22), ("t2i", 22, 15)):
        ranks = []
        for q in range(queries):
            right = {(t if way == "i2t" else i) for i, t in pairs.tolist() if (i if way == "i2t" else t) == q}
            score = [cosines[q][c] if way == "i2t" else cosines[c][q] for c in range(candidates)]
            order = sorted(range(candidates), key=lambda c: -score[c])
            ranks.append(min(order.index(c) for c in right) + 1)
        expected |= {f"{way}_r{k}": 100 * sum(r <= k for r in ranks) / queries for k in (1, 5, 10)}
        expected[f"{way}_median_rank"] = sorted(ranks)[(queries - 1) // 2]
    alone = np.arange(15), np.zeros(22, np.int64)
    task = RetrievalTask([""] * 22, alone[0], [""] * 15, pairs, *alone, {})
    assert task.metrics(images, texts) == pytest.approx(expected, abs=1e-9)


def test_equal_captions_are_one_query_and_all_their_images_are_right(squares, model):
    chosen = squares.where("split=test")
    task = retrieval_task(chosen)
    assert task.texts == ["red", "green", "blue", "dark blue"]
    images, texts = task.positives()
    assert images[:, 0].tolist() == [0, 0, 0, 1, 1, 2, 3]
    assert texts.tolist() == [[0, 1, 2], [3, 4, -1], [5, -1, -1], [6, -1, -1]]
    result = task.result(model.image_features(chosen).features, model.encode_text(task.texts))
    assert result["metrics"]["t2i_r1"] == result["metrics"]["i2t_r1"] == 100
    assert result["interval"]["t2i_r1"] == [100, 100]
    assert result["chance"]["t2i_r1"] == pytest.approx(100 * (3 + 2 + 1 + 1) / 7 / 4)
    assert result["chance"]["i2t_r1"] == 25
    assert {entry["text"] for entry in result["examples"]["t2i"]} == set(task.texts)
    red = next(entry for entry in result["examples"]["t2i"] if entry["text"] == "red")
    assert [found["is_right"] for found in red["found"]] == [True, True, True, False, False]


def test_an_image_may_have_several_captions_and_case_does_not_matter(squares):
    task = retrieval_task(with_captions(squares, [["Red", "a rose"], ["a  ROSE", ""], *[["x"]] * 9, []]))
    assert task.texts == ["Red", "a rose", "x"]
    assert task.pairs[:3].tolist() == [[0, 0], [0, 1], [1, 1]]
    assert task.about["left_out"] == {"without a caption": 1}


def test_a_language_leaves_rows_without_it_out_and_counts_them(squares):
    task = retrieval_task(squares.where("split=test"), language="de")
    assert task.texts == ["rot", "grün", "blau"]
    assert task.about["left_out"] == {"without a caption in de": 1}
    with pytest.raises(DataError, match="no captions in 'dee'; did you mean 'de'"):
        retrieval_task(squares, language="dee")


def test_lost_images_take_their_only_captions_along(squares):
    task = retrieval_task(squares.where("split=test"), group="pair").only(torch.tensor([2, 3, 6]).numpy())
    assert task.texts == ["red", "green", "dark blue"]
    assert task.pairs.tolist() == [[0, 0], [1, 1], [2, 2]]
    first, second, third = task.image_groups.tolist()
    assert first == second != third  # rows 2 and 3 are one pair
    assert task.text_groups.tolist() == [first, first, third]  # although the first red image is gone


def test_no_captions_at_all_is_an_error(squares):
    with pytest.raises(
        DataError, match="none of the 12 rows of squares has a caption; see: frugalclip data stats"
    ):
        retrieval_task(with_captions(squares, [[]] * 12))


def test_a_lost_image_and_baselines(squares, model):
    result = evaluate_retrieval(
        model,
        squares.where("split=test|broken"),
        baselines=Baselines(squares.where("split=train")),
        group="pair",
    )
    assert (result["samples"], result["texts"], result["pairs"]) == (7, 4, 7)
    assert result["metrics"]["i2t_r1"] == 100
    assert result["baselines"]["pixel_nn_1"]["i2t_r1"] == pytest.approx(100 * 6 / 7, abs=1e-5)
    assert result["baselines"]["pixel_nn_1"].keys() == result["metrics"].keys()
    assert result["interval_over"] == "pair"
