"""Queries in words are answered by the images that a model ranks first."""

from dataclasses import replace

from frugalclip.report.queries import answer_queries, queries_section


def test_the_best_images_come_first_with_their_captions(colours, oracle):
    (answer,) = answer_queries(oracle(), colours, ["red"], k=3)
    scores = [found.score for found in answer.found]
    assert answer.query == "red" and len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert "red" in answer.found[0].text
    assert all(found.thumbnail is not None for found in answer.found)


def test_the_section_escapes_queries_and_is_left_out_without_any(colours, oracle):
    assert queries_section([]) is None
    (answer,) = answer_queries(oracle(), colours, ["red"], k=1, among="in <b>photos")
    section = queries_section([replace(answer, query="<b>red</b>")])
    assert section is not None
    assert "in &lt;b&gt;photos" in section.body
    assert (
        "<b>red" not in section.body and "<b>photos" not in section.body and "data:image/webp" in section.body
    )
