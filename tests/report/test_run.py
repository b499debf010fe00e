import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from importlib import resources

import pytest
from PIL import Image

from frugalclip.core.errors import ModelError
from frugalclip.core.records import RunDirectory
from frugalclip.report.gallery import ClassResult, Example, Gallery, Hit, thumbnail
from frugalclip.report.run import write_run_report

from .page import report


def gallery_of(texts: list[str]) -> Gallery:
    thumbnails = [
        thumbnail(Image.new("RGB", (40 + 10 * i, 60), (20 * i, 90, 200)), text)
        for i, text in enumerate(texts)
    ]
    found = tuple(
        Hit(0.5, i == 0, text, thumbnail)
        for i, (text, thumbnail) in enumerate(zip(texts, thumbnails, strict=True))
    )
    examples = tuple(
        Example(text, found, 1.5, 6, thumbnail) for text, thumbnail in zip(texts, thumbnails, strict=True)
    )
    classes = tuple(ClassResult(text, 50.0, 2, text, tuple(thumbnails)) for text in texts)
    return Gallery(
        examples,
        examples,
        classes,
        classes,
        {text: text for text in texts} | {"pairs": 6},
        tuple(thumbnails),
        texts[0],
    )


def test_the_primary_metric_stands_first_beside_interval_chance_and_baselines(make_run, rows, evaluation):
    text = report(make_run(rows=rows, evaluations=[evaluation])).text
    first = text[: text.index("samples seen")]
    for part in (
        "Zero-shot naming, top-1 accuracy",
        "50.0 %",
        "95 % interval 30.0 to 70.0 %",
        "3.0 × chance (16.7 %)",
        "25.0 points above the strongest baseline",
    ):
        assert part in first
    for name in ("this model", "10 pixel nearest neighbours", "pixel nearest neighbour", "chance"):
        assert name in first


def test_the_page_loads_nothing_and_runs_only_its_own_script(make_run, rows, evaluation, hostile):
    page = report(make_run(rows=rows, evaluations=[evaluation]), gallery_of(hostile))
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} listens to {name}"
            if name in ("src", "href", "action", "data", "poster", "srcset"):
                assert str(value).startswith(("#", "data:image/")), f"{tag} {name}={value}"
    assert len(page.all("script")) == 1
    raw = write_run_report(make_run(rows=rows, evaluations=[], name="second")).read_text()
    script = raw[raw.index("<script>") + 8 : raw.index("</script>")]
    policy = str(page.all("meta")[1]["content"])
    assert "default-src 'none'" in policy
    assert (
        f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    )


def test_hostile_text_is_shown_and_not_obeyed(make_run, rows, evaluation, hostile):
    evil = hostile[0]
    rows[3]["advice"] = [evil]
    rows[5][f"{evil}/accuracy"] = 0.5
    rows[19]["evaluation"][f"{evil}/top1"] = 1.0
    evaluation |= {
        "data": evil,
        "where": evil,
        "task": evil,
        "model": evil,
        "names": evil,
        "baselines": {evil: {"top1": 3.0}},
    }
    evaluation["per_class"] = [
        {"name": text, "samples": 1, "top1": 0.0, "mistaken_for": text} for text in hostile[:5]
    ]
    recipe = json.dumps(
        {"name": evil, "description": evil, "data": {"path": evil}, "objectives": {evil: {"weight": 1}}}
    )
    page = report(
        make_run(rows=rows, evaluations=[evaluation], name="a <b> & c", recipe=recipe), gallery_of(hostile)
    )
    assert len(page.all("script")) == 1
    assert not [a for a in page.all("img") if "onerror" in a]
    assert page.text.count(evil) > 8
    assert "قطة سوداء" in page.text
    assert "\u202e" not in page.text


def test_images_have_texts_tables_have_headers_and_links_have_targets(make_run, rows, evaluation, hostile):
    page = report(make_run(rows=rows, evaluations=[evaluation]), gallery_of(hostile))
    assert page.all("img")
    assert all(a.get("alt") and a.get("width") and a.get("height") for a in page.all("img"))
    assert all(a.get("aria-label") and a.get("role") == "img" for a in page.all("svg"))
    assert len(page.all("caption")) == len(page.all("table")) > 0
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for a in page.all("a")} <= set(ids)
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"


def test_long_captions_are_cut(make_run, rows, evaluation):
    long = "word " * 2000
    gallery = replace(gallery_of([long] * 6), note="", data={"most repeated caption": long})
    page = report(make_run(rows=rows, evaluations=[evaluation]), gallery)
    assert max(len(text) for text in page.texts) < 1000


def test_advice_is_given_once_with_its_step(make_run, rows, evaluation):
    for row in rows[9:]:
        row["advice"] = ["Lower optimizer.lr."]
    text = report(make_run(rows=rows, evaluations=[evaluation])).text
    assert text.count("Lower optimizer.lr.") == 1
    assert "first at step 10" in text


def test_a_run_cut_short_says_how_to_go_on(make_run, rows):
    run = make_run(rows=rows[:7], evaluations=None)
    with run.metrics.open("a") as file:
        file.write('{"step": 8, "samples_se')  # what a crash leaves
    text = report(run).text
    assert "cut short at step 7 of 40" in text
    assert f"frugalclip train {run.path}/recipe.yaml --out {run.path} --resume" in text


def test_a_finished_run_without_evaluations_says_how_to_get_one(make_run, rows):
    text = report(make_run(rows=rows, evaluations=[])).text
    assert "finished" in text
    assert "frugalclip evaluate" in text


@pytest.mark.parametrize("count", [0, 1])
def test_a_run_of_hardly_any_rows_renders(make_run, rows, count):
    text = report(make_run(rows=rows[:count], evaluations=None)).text
    assert "Repeat it" in text


def test_a_recipe_alone_is_enough_and_nothing_at_all_is_not(tmp_path, make_run):
    assert "The recipe names no data." in report(make_run(rows=None, evaluations=None, recipe="{}")).text
    with pytest.raises(ModelError, match=r"holds no recipe\.yaml; expected a run directory"):
        write_run_report(RunDirectory(tmp_path / "nothing"))


def test_files_that_cannot_be_read_are_named(make_run, rows):
    run = make_run(rows=rows, evaluations=[], recipe="a: [")
    run.summary.write_text("{")
    text = report(run).text
    assert "recipe.yaml line 1 is not YAML" in text
    assert "metrics.json cannot be read (it is not JSON at line 1" in text


def test_the_command_recipe_and_environment_are_there(make_run, rows, evaluation):
    run = make_run(rows=rows, evaluations=[evaluation], name="my run")
    text = report(run).text
    assert f"frugalclip train '{run.path}/recipe.yaml' --out '{run.path}-again'" in text
    assert "frugalclip train clip --out first" in text
    assert "steps: 40" in text
    assert "torch 2.6" in text


def test_equal_files_give_an_equal_page(make_run, rows, evaluation):
    run = make_run(rows=rows, evaluations=[evaluation])
    assert write_run_report(run).read_bytes() == write_run_report(run).read_bytes()


def test_a_long_run_stays_a_small_page(make_run, evaluation):
    many = [
        {"step": s, "samples_seen": 32 * s, "seconds": s, "loss": 3 + math.sin(s), "lr": 1e-3, "scale": 14.0}
        for s in range(1, 20_001)
    ]
    run = make_run(rows=many, evaluations=[evaluation])
    assert write_run_report(run).stat().st_size < 200_000


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_and_lines_have_contrast(mode):
    style = resources.files("frugalclip.report").joinpath("style.css").read_text()
    part = style.split("@media (prefers-color-scheme: dark)")[mode].split("}")[0]
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", part))
    for name in ("ink", "soft", "accent", "warn", "s0", "s1", "s2", "s3", "s4", "s5"):
        for ground in ("page", "panel"):
            bright, dark = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, f"{name} on {ground}"


def test_the_training_data_is_named(make_run, rows, evaluation):
    training = {"training_rows": 640, "notes": ["32 rows are <set> aside by caption"]}
    text = report(make_run(rows=rows, evaluations=[evaluation], training=training)).text
    for part in ("colours/", "pairs 640", "passes over the data 2.0", "32 rows are <set> aside by caption."):
        assert part in text
