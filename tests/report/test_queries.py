"""Queries in words are answered by the images that an index finds first."""

from dataclasses import replace
from types import SimpleNamespace

from PIL import Image

from frugalclip.report.queries import answer_queries, queries_section
from frugalclip.serving.index import SearchHit

COLOURS = {"a red square": "red", "a rose": "pink", "": "blue"}


class Ranked:
    """An index that finds every colour, in order, whatever it is queried for."""

    def __init__(self) -> None:
        self.requests = []
        self.rows = SimpleNamespace(known_row=int)
        images = [Image.new("RGB", (200, 100), colour) for colour in COLOURS.values()]
        self.images = SimpleNamespace(image=lambda row, at_least: images[row])

    def hits(self, request):
        self.requests.append(request)
        found = [
            SearchHit(str(row), 1 - row / 10, "x.png", [text] if text else [], [])
            for row, text in enumerate(COLOURS)
        ]
        return found[: request.k]


def test_hits_come_in_order_with_captions_or_ids_and_thumbnails():
    index = Ranked()
    (answer,) = answer_queries(index, ["red"], k=3, where="pack=photos")
    assert [(found.text, found.score) for found in answer.found] == [
        ("a red square", 1.0),
        ("a rose", 0.9),
        ("2", 0.8),
    ]
    assert all(found.thumbnail.width == 200 for found in answer.found)
    (request,) = index.requests
    assert (request.text, request.k, request.where) == ("red", 3, "pack=photos")


def test_the_section_escapes_queries_and_is_left_out_without_any():
    assert queries_section([]) is None
    (answer,) = answer_queries(Ranked(), ["red"], k=1, among="in <b>photos")
    section = queries_section([replace(answer, query="<b>red</b>")])
    assert section is not None
    assert "in &lt;b&gt;photos" in section.body
    assert (
        "<b>red" not in section.body and "<b>photos" not in section.body and "data:image/webp" in section.body
    )
