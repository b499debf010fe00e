from typing import Any

import pytest

from frugalclip.report.gallery import Gallery
from frugalclip.report.record import read_run
from frugalclip.report.run import run_page, write_run_report
from frugalclip.report.words import describe_images, words_section


@pytest.fixture
def worded(hostile) -> dict[str, Any]:
    """A result of `evaluate_words` on two of the coloured images and one that is gone."""
    metrics = {
        "words_hit": 60.0,
        "words_precision": 15.4,
        "most_used_word": 40.0,
        "non_zeros": 11547.4,
        "i2t_r1": 20.0,
        "i2t_r1_64_words": 10.0,
    }
    listed = [
        {"word": "crimson", "weight": 0.5, "is_hit": False},
        {"word": "red", "weight": 0.25, "is_hit": True},
    ]
    return {
        "task": "words",
        "metrics": metrics,
        "interval": {"words_precision": [10.0, 20.0], "non_zeros": [11000.0, 12000.0]},
        "chance": {"words_hit": 5.0, "words_precision": 1.25, "i2t_r1": 2.0},
        "baselines": {},
        "samples": 3,
        "words": {
            "of": "captions",
            "compared": "by lemma (en, simplemma)",
            "vocabulary": 31428,
            "used": [{"word": "colour", "images": 40.0}, {"word": hostile[0], "images": 20.0}],
        },
        "examples": {"words": [{"id": name, "row": 0, "words": listed} for name in ("red", "gone", "blue")]},
    }


def test_a_run_of_a_lexical_model_shows_images_beside_their_words(
    make_run, rows, evaluation, worded, colours
):
    described = describe_images(colours, [evaluation, worded])
    assert [one.text for one in described] == ["red", "blue"], "the image that is no longer there is left out"
    page = write_run_report(
        make_run(rows=rows, evaluations=[evaluation, worded]), gallery=Gallery(words=described)
    ).read_text(encoding="utf-8")
    start = page.index('<section id="words"')
    section = page[start : page.index("</section>", start)].replace("\N{NO-BREAK SPACE}", " ")
    assert (
        section.count("<img") == 2
        and section.count('aria-label="right"') == 2
        and 'aria-label="wrong"' not in section
    )
    for part in (
        "crimson",
        "0.500",
        "colour",
        "40.0 %",
        "15.4 % of all top words (chance 1.2 %)",
        "11,547 words above zero of the 31,428",
    ):
        assert part in section, part
    assert "<script>" not in section
    assert 'href="#words"' in page


def test_the_metrics_stand_among_the_evaluations_with_counts_as_counts(make_run, rows, evaluation, worded):
    page = run_page(read_run(make_run(rows=rows, evaluations=[evaluation, worded])), Gallery()).replace(
        "\N{NO-BREAK SPACE}", " "
    )
    for part in (
        "Words of images",
        "Top words that are hits",
        "10.0 to 20.0",
        "Image → text, recall at 1, 64 words of each",
        "<b>11,547</b>",
    ):
        assert part in page, part
    assert "11,547 %" not in page


def test_an_unreadable_image_keeps_its_words(colours, worded):
    (colours.root / "red.png").write_bytes(b"not an image")
    first, second = describe_images(colours, [worded])
    assert first.thumbnail is None and second.thumbnail is not None
    assert [word.text for word in first.words] == ["crimson", "red"]


def test_a_model_without_words_has_no_section(evaluation, colours):
    assert words_section([evaluation], ()) is None
    assert describe_images(colours, [evaluation]) == ()
