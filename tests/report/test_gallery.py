import base64
import io

import pytest
import torch
from PIL import Image

from frugalclip.report.gallery import blank_last, build_gallery, extremes, summarize, thumbnail


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize(("size", "small"), [((640, 480), (320, 240)), ((50, 20), (50, 20))])
def test_a_thumbnail_is_small_keeps_its_shape_and_is_never_enlarged(size, small):
    made = thumbnail(Image.new("RGB", size, (200, 30, 30)), "a caption " * 100)
    image = opened(made.uri)
    assert image.size == small == (made.width, made.height)
    assert len(made.text) <= 400
    red, green, blue = image.convert("RGB").getpixel((5, 5))  # pyright: ignore[reportGeneralTypeIssues]
    assert red > 180
    assert green < 60
    assert blue < 60


def test_a_model_that_knows_finds_everything_at_the_first_place(colours, oracle, evaluation):
    gallery = build_gallery(oracle(), colours, evaluation=evaluation, training=colours, rows=4)
    assert len(gallery.text_to_images) == len(gallery.image_to_names) == 4
    for example in (*gallery.text_to_images, *gallery.image_to_names):
        assert example.rank == 1
        assert example.candidates == 6
        assert [f.is_right for f in example.found] == [True, False, False, False, False]
        assert example.found[0].text == example.text
        assert example.found[0].score == pytest.approx(1.0)
    assert len(gallery.pairs) == 6
    assert "random (seed 0)" in gallery.note


def test_the_image_shown_is_the_one_that_was_found(colours, oracle, evaluation):
    gallery = build_gallery(oracle(), colours, evaluation=evaluation, rows=6)
    for example in gallery.text_to_images:
        thumbnail = example.found[0].thumbnail
        assert thumbnail is not None
        pixel = opened(thumbnail.uri).convert("RGB").getpixel((40, 40))
        red, green, blue = pixel  # pyright: ignore[reportGeneralTypeIssues]
        brightest = {"red": red, "green": green, "blue": blue}
        if example.text in brightest:
            assert max(brightest, key=brightest.__getitem__) == example.text


def test_a_collapsed_model_is_not_flattered_by_ties(colours, oracle, evaluation):
    gallery = build_gallery(oracle(blur=float("inf")), colours, evaluation=evaluation, rows=6)
    for example in (*gallery.text_to_images, *gallery.image_to_names):
        assert example.rank == pytest.approx(3.5)  # the middle of six
    firsts = [example.found[0].text for example in gallery.text_to_images]
    assert len(set(firsts)) == 1  # one order for all, drawn by chance


def test_the_choice_depends_on_the_seed_alone(colours, oracle, evaluation):
    def texts(seed: int) -> list[str]:
        return [
            e.text
            for e in build_gallery(oracle(), colours, evaluation=evaluation, rows=3, seed=seed).image_to_names
        ]

    assert texts(1) == texts(1)
    assert len({tuple(texts(seed)) for seed in range(5)}) > 1


def test_an_unreadable_image_is_left_out(colours, oracle, evaluation):
    (colours.root / "red.png").write_bytes(b"not an image")
    gallery = build_gallery(oracle(), colours, evaluation=evaluation, training=colours, rows=6)
    assert len(gallery.text_to_images) == 5
    assert all("red" not in [f.text for f in e.found] for e in gallery.text_to_images)
    assert len(gallery.pairs) == 5


def test_embeddings_that_are_not_finite_give_no_examples_and_say_why(colours, oracle, evaluation):
    model = oracle()
    broken = model.image_features(colours)
    broken.features = torch.full_like(broken.features, float("nan"))
    model.image_features = lambda manifest: broken
    gallery = build_gallery(model, colours, evaluation=evaluation)
    assert not gallery.text_to_images
    assert "not finite" in gallery.note


def test_a_large_set_is_thinned_and_says_so(colours, oracle, evaluation):
    gallery = build_gallery(oracle(), colours, evaluation=evaluation, rows=6, pool=4)
    assert {e.candidates for e in gallery.text_to_images} == {4}
    assert {e.candidates for e in gallery.image_to_names} == {
        6
    }  # names compete as they did in the evaluation
    assert "4 evaluated images out of 6" in gallery.note


def test_names_come_from_the_field_that_the_evaluation_used(colours, oracle, evaluation):
    import pyarrow as pa

    from frugalclip.data.manifest import Manifest

    swapped = [*colours.ids[1:], colours.ids[0]]
    manifest = Manifest(colours.table.append_column("called", pa.array(swapped)), colours.root, colours.name)
    gallery = build_gallery(oracle(), manifest, evaluation=evaluation | {"names": "field called"}, rows=6)
    assert all(e.rank > 1 for e in gallery.image_to_names)
    assert all(e.rank == 1 for e in gallery.text_to_images)


def test_the_best_and_the_worst_classes_have_their_images(colours, oracle, evaluation):
    gallery = build_gallery(oracle(), colours, evaluation=evaluation, rows=2)
    assert {c.name for c in gallery.best} <= {"red", "green", "blue"}
    assert {c.name for c in gallery.worst} <= {"black", "white", "grey"}
    assert all(
        len(c.thumbnails) == 1 and c.thumbnails[0].text == c.name for c in (*gallery.best, *gallery.worst)
    )


def test_classes_of_one_image_are_shown_only_where_there_are_no_others():
    per_class = [
        {"name": name, "samples": samples, "top1": top1}
        for name, samples, top1 in [("one", 1, 100.0), ("two", 4, 75.0), ("three", 2, 0.0), ("four", 1, 0.0)]
    ]
    best, worst = extremes({"per_class": per_class})
    assert [one.name for one in best] == ["two"] and [one.name for one in worst] == ["three"]
    single = [one | {"samples": 1} for one in per_class]
    assert {one.name for side in extremes({"per_class": single}) for one in side} >= {"one", "four"}


def test_blank_images_come_last_where_the_order_means_nothing(colours, oracle, evaluation):
    Image.new("RGB", (40, 40), "white").save(colours.root / "red.png")
    gallery = build_gallery(oracle(), colours, evaluation=evaluation, training=colours, rows=6)
    for shown in (gallery.pairs, [one.thumbnail for one in gallery.image_to_names]):
        assert [one.is_blank for one in shown if one] == sorted(one.is_blank for one in shown if one)
    assert blank_last([thumbnail(Image.new("RGB", (9, 9)), "a"), None])[0].is_blank


def test_extremes_never_share_a_class_and_ties_are_drawn(evaluation):
    best, worst = extremes(evaluation, count=10)
    assert len(best) == len(worst) == 3
    assert not {c.name for c in best} & {c.name for c in worst}
    assert min(c.top1 for c in best) >= max(c.top1 for c in worst)
    firsts = {tuple(c.name for c in extremes(evaluation, count=2, seed=seed)[1]) for seed in range(8)}
    assert len(firsts) > 1
    assert extremes({}) == ([], [])


def test_a_summary_counts_what_is_there(colours):
    summary, pairs = summarize(colours, pairs=3)
    assert summary["pairs"] == 6
    assert summary["captions"] == "6, of them 6 distinct"
    assert summary["image sizes"].startswith("all 160 × 120 px")
    assert summary["split hash"] == colours.fingerprint()
    assert len(pairs) == 3


def test_a_class_never_named_right_is_not_called_one_of_the_best(evaluation):
    for entry in evaluation["per_class"]:
        entry["top1"] = 0.0
    best, worst = extremes(evaluation, count=2)
    assert best == []
    assert len(worst) == 2
    for entry in evaluation["per_class"]:
        entry["top1"] = 100.0
    best, worst = extremes(evaluation, count=2)
    assert len(best) == 2
    assert worst == []
