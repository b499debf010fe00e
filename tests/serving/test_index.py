import json
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import frugalclip
from frugalclip.cli import main
from frugalclip.core.errors import DataError, ModelError
from frugalclip.models import load
from frugalclip.serving.index import open_index
from frugalclip.serving.layout import HEAD, read_index_head
from frugalclip.sources.open import open_data

from .conftest import COLOURS, SHADES, build, draw, small_model


@pytest.fixture(scope="module")
def index(made):
    return open_index(made / "index")


@pytest.fixture(scope="module")
def scan(made):
    """Ids and unit embeddings of every picture, by the model alone."""
    manifest = open_data(made / "data")
    paths = [manifest.root / place["path"] for place in manifest.table["image"].to_pylist()]
    return manifest, load(made / "model").encode_image(paths)


def ids(answer):
    return [hit["id"] for hit in answer["hits"]]


def test_hits_are_those_of_a_scan(index, scan, made):
    manifest, images = scan
    scores = images @ load(made / "model").encode_text(["a red thing"])[0]
    answer = index.query("a red thing", k=5)
    best = scores.topk(5)
    assert ids(answer) == [manifest.ids[i] for i in best.indices.tolist()]
    assert [hit["score"] for hit in answer["hits"]] == pytest.approx(best.values.tolist(), abs=1e-3)
    first = answer["hits"][0]
    assert set(first) == {"id", "score", "path", "captions", "reasons"}
    with Image.open(first["path"]) as image:
        assert image.size == (20, 30)
    assert answer["index"] == {
        "rows": len(COLOURS) * len(SHADES),
        "kind": "exact",
        "model": load(made / "model").fingerprint,
    }


def test_the_verb_prints_what_python_gives(made, capsys):
    arguments = ["search", "query", str(made / "index"), "a red thing", "-k", "3"]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == frugalclip.search(made / "index").query("a red thing", k=3)
    assert main(arguments) == 0
    assert "random pairs" in capsys.readouterr().out


def test_an_image_finds_itself_and_a_row_finds_others(index, made):
    file = made / "data" / "red" / "80.png"
    best = index.query(image=file, k=1)["hits"][0]
    assert best["path"] == str(file)
    assert best["score"] == pytest.approx(1, abs=2e-3)
    with Image.open(file) as image:
        same = index.query(image=image, k=4)
    assert ids(index.query(like=best["id"], k=3)) == ids(same)[1:4]


def test_text_and_image_are_mixed_by_weight(index, made):
    file = made / "data" / "blue" / "40.png"
    for weight, alone in ((1.0, {"text": "a red thing"}), (0.0, {"image": file})):
        assert ids(index.query("a red thing", image=file, weight=weight)) == ids(index.query(**alone))
    assert ids(index.query("a red thing", image=file)) != ids(index.query(image=file))


def test_what_is_not_wanted_turns_the_query_away(index, made):
    model = load(made / "model")
    text, away = model.encode_text(["a red thing", "gold"])
    vector = torch.nn.functional.normalize(text - 0.5 * away, dim=0)
    answer = index.query("a red thing", without="gold", k=3)
    found = model.encode_image([hit["path"] for hit in answer["hits"]]) @ vector
    assert [hit["score"] for hit in answer["hits"]] == pytest.approx(found.tolist(), abs=1e-3)


def test_a_condition_selects_before_anything_is_scored(index, scan):
    manifest, _ = scan
    field = manifest.field_names[0]
    rows = [row for row, value in enumerate(manifest.field(field)) if value == "gold"]
    answer = index.query("a red thing", where=f"{field}=gold", k=32)
    assert set(ids(answer)) == {manifest.ids[row] for row in rows}
    with pytest.raises(DataError, match="leaves none"):
        index.query("a red thing", where=f"{field}=golt")
    with pytest.raises(DataError, match="no field 'colour'"):
        index.query("a red thing", where="colour=gold")


def test_false_hits_are_the_share_of_random_pairs(index, scan):
    manifest, images = scan
    pairs = (images @ images.T)[~torch.eye(len(images), dtype=bool)].double()
    answer = index.query(like=manifest.ids[0], k=31, max_false_hits=1)
    for hit in answer["hits"][3:28]:
        share = float((pairs >= hit["score"] - 1e-3).double().mean())
        assert hit["false_hits"] == pytest.approx(share, rel=0.35, abs=0.02)
    shares = [hit["false_hits"] for hit in answer["hits"]]
    cut = index.query(like=manifest.ids[0], k=31, max_false_hits=shares[10])["hits"]
    assert len(cut) == sum(share <= shares[10] for share in shares) >= 11
    with pytest.raises(DataError, match="measured pairs tell shares down to"):
        index.query("a red thing", max_false_hits=1e-9)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({}, "the query is empty"),
        ({"text": "  "}, "the query is empty"),
        ({"text": "a", "k": 0}, "k is 0"),
        ({"text": "a", "image": "a.png", "like": "b"}, "--image and --like are both given"),
        ({"text": "a", "weight": 1.5}, "weight is 1.5"),
        ({"text": "a", "max_false_hits": 2.0}, "max-false-hits is 2"),
        ({"text": "a", "boost": {"red": 2}}, "no words to boost"),
        ({"like": "red/81.png"}, "has no row 'red/81.png'"),
        ({"image": "nowhere.png"}, "nowhere.png is not there"),
    ],
)
def test_a_wrong_request_is_refused_in_a_sentence(index, request_, sentence):
    with pytest.raises(DataError, match=sentence):
        index.query(**request_)


def test_another_model_is_refused(made, place):
    with pytest.raises(ModelError, match=r"built with the model \w+ \(small\), this one is"):
        frugalclip.search(made / "index", model=small_model(seed=4))
    head = read_index_head(place / "index")
    small_model(seed=4).save(place / "index" / head.model_folder)
    with pytest.raises(ModelError, match="search build"):
        open_index(place / "index")


def test_a_folder_that_is_no_index_and_a_damaged_head_are_refused(made, place, tmp_path):
    with pytest.raises(DataError, match="is not a search index"):
        open_index(made / "data")
    file = place / "index" / HEAD
    file.write_text(file.read_text().replace('"rows": 32', '"rows": 31'))
    with pytest.raises(DataError, match="its checksum differs"):
        open_index(place / "index")
    with pytest.raises(DataError, match="is there and is not a search index"):
        build(made / "data", small_model(), made / "data")


def test_a_picture_that_cannot_be_decoded_is_counted_and_never_found(tmp_path, capsys):
    draw(tmp_path / "data", shades=(40,))
    (tmp_path / "data" / "red" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    small_model().save(tmp_path / "model")
    arguments = [str(tmp_path / "model"), str(tmp_path / "data"), "--out", str(tmp_path / "index")]
    assert main(["search", "build", *arguments]) == 0
    assert "pictures that cannot be found: 1" in capsys.readouterr().out
    index = open_index(tmp_path / "index")
    answer = index.query("a red thing", k=99)
    assert len(answer["hits"]) == answer["index"]["rows"] == len(COLOURS)
    bad = next(id for id in index.rows.manifest.ids if "bad" in id)
    with pytest.raises(DataError, match="cannot be decoded"):
        index.query(like=bad)


def test_threads_get_the_answers_of_one(index):
    texts = [f"a {colour} thing" for colour in COLOURS]
    alone = [ids(index.query(text)) for text in texts]
    together: list = [None] * len(texts)

    def run(number: int) -> None:
        together[number] = ids(index.query(texts[number]))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_a_condition_is_remembered(index):
    field = index.rows.manifest.field_names[0]
    first = index.rows.where(f"{field}=gold|red")
    assert index.rows.where(f"{field}=gold|red") is first
    assert np.array_equal(first, np.sort(first))


def test_an_index_of_one_picture_answers_though_it_has_no_random_pairs(made, tmp_path, capsys):
    (tmp_path / "one").mkdir()
    shutil.copy(made / "data" / "red" / "40.png", tmp_path / "one" / "only.png")
    build(tmp_path / "index", small_model(), tmp_path / "one")
    assert main(["search", "query", str(tmp_path / "index"), "--like", "only"]) == 0
    assert main(["search", "query", str(tmp_path / "index"), "a red thing"]) == 0
    assert "only" in capsys.readouterr().out
    hit = open_index(tmp_path / "index").query(image=tmp_path / "one" / "only.png", max_false_hits=1)
    assert ids(hit) == ["only"]


def test_rows_of_several_ids_are_those_of_each(index):
    known = index.rows.manifest.ids
    wanted = [known[7], "nothing", known[2]]
    assert index.rows.rows_of(wanted) == {known[7]: 7, known[2]: 2}
    assert list(index.rows.rows_of(wanted)) == [known[7], known[2]]
    assert index.rows.rows_of([]) == {}
