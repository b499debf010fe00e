"""`audit frequency`: from files, and from a model that is evaluated here."""

import json
from pathlib import Path

import numpy as np
import pytest

from frugalclip.cli import main
from frugalclip.core.errors import UsageError
from frugalclip.verbs.audit_frequency import audit_frequency

from .test_evaluate import folder, make_model  # noqa: F401  (a fixture)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    random = np.random.default_rng(0)
    counts = random.integers(0, 3000, 60)
    names = [f"c{i}" for i in range(60)]
    concepts = {n: {"text": int(c), "image": None, "both": None} for n, c in zip(names, counts, strict=True)}
    (tmp_path / "counts.json").write_text(json.dumps({"concepts": concepts}))
    rows = [
        {"name": n, "samples": 4, "top1": 10 + 9 * float(np.log10(max(c, 1)))}
        for n, c in zip(names, counts, strict=True)
    ]
    (tmp_path / "result.json").write_text(json.dumps({"per_class": rows}))
    return tmp_path / "counts.json", tmp_path / "result.json"


def test_files_give_numbers_and_a_page(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]):
    out, page = files[0].with_name("out.json"), files[0].with_name("page.html")
    assert main(["audit", "frequency", *map(str, files), "--json", str(out), "--report", str(page)]) == 0
    (one,) = json.loads(out.read_text())["relations"]
    assert (one["kind"], one["metric"], one["concepts"]) == ("text", "top1", 60)
    assert one["slope_per_decade"] == pytest.approx(9)
    assert "r of bin means, as published: 1.00" in capsys.readouterr().out
    assert "<svg" in page.read_text()


@pytest.mark.parametrize(("task", "metrics"), [("zeroshot", ["top1"]), ("retrieval", ["i2t_r1", "t2i_r1"])])
def test_a_model_is_evaluated_here(folder: Path, tmp_path: Path, task: str, metrics: list[str]):  # noqa: F811
    counts = {name: {"text": 2, "image": 1, "both": None} for name in ("red", "green", "blue")}
    (tmp_path / "c.json").write_text(json.dumps({"concepts": counts}))
    found = audit_frequency(
        tmp_path / "c.json", model=make_model(), data=folder, task=task, label_field="label", draws=5
    )
    kinds = [(one["kind"], one["metric"]) for one in found["relations"]]
    assert kinds == [(kind, metric) for kind in ("text", "image") for metric in metrics]


def test_either_results_or_a_model(files: tuple[Path, Path]):
    with pytest.raises(UsageError, match="name result files"):
        audit_frequency(files[0])
    with pytest.raises(UsageError, match="needs --data"):
        audit_frequency(files[0], model="m")


def test_the_same_data_counted_otherwise_stand_beside_it(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    counts, result = files
    halved = json.loads(counts.read_text())
    for one in halved["concepts"].values():
        one["text"] = one["text"] // 100 if one["text"] > 500 else 0
    other = counts.with_name("strict.json")
    other.write_text(json.dumps(halved))
    out = counts.with_name("out.json")
    words = ["audit", "frequency", str(counts), str(result), "--other-counts", str(other), "--json", str(out)]
    assert main(words) == 0
    found = json.loads(out.read_text())
    assert [one["counts"] for one in found["variants"]] == [str(counts), str(other)]
    alone = audit_frequency(other, [result])["relations"][0]
    for name in ("concepts", "r_found", "spearman", "slope_per_decade", "interval"):
        assert found["variants"][1][name] == alone[name]
    assert found["variants"][0]["slope_per_decade"] == found["relations"][0]["slope_per_decade"]
    assert "strict.json" in capsys.readouterr().out


def test_prompt_sets_stand_beside_each_other(folder: Path, tmp_path: Path):  # noqa: F811
    counts = {
        name: {"text": i, "image": None, "both": None} for i, name in enumerate(("red", "green", "blue"))
    }
    (tmp_path / "c.json").write_text(json.dumps({"concepts": counts}))
    (tmp_path / "mine.txt").write_text("something {}\n")
    given = ["plain", str(tmp_path / "mine.txt")]
    options = {"model": make_model(), "data": folder, "label_field": "label", "draws": 5}
    found = audit_frequency(tmp_path / "c.json", prompts=given, **options)
    assert [one["prompts"] for one in found["variants"]] == given
    for one in found["variants"]:
        alone = audit_frequency(tmp_path / "c.json", prompts=[one["prompts"]], **options)
        assert alone["relations"][0]["spearman"] == one["spearman"]
        assert alone["variants"] == []


def test_prompts_are_of_a_model_that_names_classes(files: tuple[Path, Path]):
    with pytest.raises(UsageError, match="--prompts needs"):
        audit_frequency(*files[:1], [files[1]], prompts=["plain"])
    with pytest.raises(UsageError, match="--prompts needs"):
        audit_frequency(files[0], model="m", data="d", task="retrieval", prompts=["plain"])
