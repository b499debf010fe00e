"""What the demo evaluates and searches; the run itself is in `make demo`."""

from types import SimpleNamespace

import pytest

from frugalclip.core.records import RunDirectory
from frugalclip.data.conditions import matching
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import open_data
from frugalclip.verbs import demo as verb

from ..serving.conftest import small_model


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Some photos, and some drawings of the unseen style, in the place of the sample."""
    everything = open_data("sample")
    rows = [
        row
        for where in verb.SEARCHED.values()
        for row in matching(everything.table, where, name="sample")[:8].tolist()
    ]
    manifest = everything.take(rows)
    assert len(everything.where(verb.INDEXED)) == sum(
        len(everything.where(where)) for where in verb.SEARCHED.values()
    )
    monkeypatch.setattr(verb, "open_data", lambda path, where: manifest)
    return manifest


def test_queries_search_drawings_of_the_unseen_style_and_photos(few, tmp_path, capsys):
    index = verb.search_index(SimpleNamespace(model=small_model()), RunDirectory(tmp_path))
    assert index.path == tmp_path / "index"
    answers = verb.answer_demo(index)
    assert [(answer.query, answer.among) for answer in answers] == [
        (query, among) for query in verb.QUERIES for among in verb.SEARCHED
    ]
    photos = {text for texts in few.where("pack=photos").captions() for text in texts}
    for answer in answers:
        assert len(answer.found) == 5 and all(hit.thumbnail is not None for hit in answer.found)
        assert ("photos" in answer.among) == all(hit.text in photos for hit in answer.found)
    verb.show(verb.DemoResult("runs/demo", [], 1.0, answers))
    assert "red fruit, in photos, of which it was shown none: " in capsys.readouterr().out


def test_photos_take_no_part_in_what_the_demo_prints():
    """Training, both evaluations and the pool of names are the rows from before the photos."""
    everything = open_data("sample")
    counts = {where: len(everything.where(where)) for where in (verb.UNSEEN, verb.SEEN)}
    assert counts == {verb.UNSEEN: 184, verb.SEEN: 1296}
    for where in (verb.UNSEEN, verb.SEEN, "split=train,style=noto|openmoji", "pack=emoji"):
        assert "photo" not in everything.where(where).field("style")
