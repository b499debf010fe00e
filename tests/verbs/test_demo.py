"""What the demo evaluates and searches; the run itself is in `make demo`."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from frugalclip.sources.open import open_data
from frugalclip.verbs import demo as verb


class Drawn:
    """Encodes nothing: vectors by the row are enough to search and to show."""

    def image_features(self, manifest, **_):
        return SimpleNamespace(features=torch.eye(len(manifest), 8) + 0.1, rows=np.arange(len(manifest)))

    def encode_text(self, texts, **_):
        return torch.ones(len(texts), 8)


def test_queries_search_drawings_of_the_unseen_style_and_photos(capsys: pytest.CaptureFixture[str]):
    everything = open_data("sample")
    answers = verb.answer_demo(SimpleNamespace(model=Drawn()), everything)
    assert [(answer.query, answer.among) for answer in answers] == [
        (query, among) for query in verb.QUERIES for among in verb.SEARCHED
    ]
    photos = {text for texts in everything.where("pack=photos").captions() for text in texts}
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
