"""Training a finished model further: what is kept, what is chosen, resuming, and messages."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import frugalclip
from frugalclip.cli import main
from frugalclip.core.errors import DataError, RecipeError, UsageError
from frugalclip.core.records import RunDirectory
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.models import load
from frugalclip.training.optim import finetuning_rate
from frugalclip.training.recipe import load_recipe
from frugalclip.verbs.compare import compare
from frugalclip.verbs.finetune import finetune
from frugalclip.verbs.train import train

SMALL: dict[str, Any] = {
    "extends": "clip",
    "tokenizer": {"kind": "captions", "vocabulary": 600, "context": 8},
    "model": {
        "image": {"width": 32, "depth": 2, "head_dim": 16, "patch": 8, "resolution": 16},
        "text": {"width": 32, "depth": 1, "head_dim": 16},
        "dim": 16,
    },
    "views": {"main": "none"},
    "batch": 16,
    "epochs": None,
    "steps": 30,
    "threads": 1,
    "precision": "fp32",
    "optimizer": {"lr": 3e-3},
    "evaluation": {"baselines": False, "points": 2},
}
SHORT = [
    "epochs=",
    "steps=4",
    "batch=8",
    "threads=1",
    "precision=fp32",
    "evaluation.baselines=false",
    "guard.points=3",
]
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220), "black": (5, 5, 5)}


def pictures(folder: Path, *, shapes: tuple[str, ...], size: int = 18) -> str:
    """Coloured halves, captioned by colours and by the shape of the border; a quarter of them validates."""
    folder.mkdir()
    for place, shape in enumerate(shapes):
        for i, (left, one) in enumerate(COLOURS.items()):
            for j, (right, two) in enumerate(COLOURS.items()):
                image = Image.new("RGB", (size, size), one)
                image.paste(two, (9, 0, size, size) if place % 2 else (0, 9, size, size))
                name = f"{place}{i}{j}"
                image.save(folder / f"{name}.png")
                (folder / f"{name}.txt").write_text(f"{left} {shape} {right}")
                split = "val" if (i + j) % 4 == 1 else "train"
                (folder / f"{name}.json").write_text(json.dumps({"split": split}))
    return str(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guard, a target that looks otherwise, and a model trained on the guard."""
    place = tmp_path_factory.mktemp("finetune")
    guard = pictures(place / "guard", shapes=("above", "beside"))
    pictures(place / "target", shapes=("under", "against"), size=20)
    (place / "small.yaml").write_text(dump_yaml(SMALL))
    train(str(place / "small.yaml"), [f"data={guard}", "data.validation=split=val"], out=place / "model")
    return place


@pytest.fixture(scope="module")
def tuned(place: Path) -> Path:
    """A model that was trained further."""
    where = ["data.where=split=train", "data.validation=split=val", "guard.stop_at=1"]
    finetune(
        place / "model",
        [f"data={place / 'target'}", *where, *SHORT, "steps=12", "optimizer.lr=3e-3"],
        guard=place / "guard",
        out=place / "tuned",
    )
    return place / "tuned"


def weights(run: Path) -> dict[str, Any]:
    return load_file(RunDirectory(run).final / "model.safetensors")


def test_the_run_is_a_model_between_start_and_end(place: Path, tuned: Path):
    summary = json.loads((tuned / "metrics.json").read_text())
    curve = summary["interpolation"]
    assert [point["alpha"] for point in curve["points"]] == [0, 0.5, 1]
    assert curve["guard"]["headline"] == curve["target"]["headline"] == "retrieval/mean_r1"
    model, end = frugalclip.load(tuned), frugalclip.load(RunDirectory(tuned).checkpoint(12))
    start = frugalclip.load(place / "model")
    states = [one.network.state_dict() for one in (start, model, end)]
    for name, first in states[0].items():
        expected = first + curve["alpha"] * (states[2][name] - first)
        assert np.allclose(states[1][name], expected, atol=1e-6), name
    assert any(not np.allclose(states[0][name], states[2][name]) for name in states[0])


def test_the_chosen_point_loses_no_more_of_the_guard_than_allowed(tuned: Path):
    curve = json.loads((tuned / "metrics.json").read_text())["interpolation"]
    values = {
        p["alpha"]: (p["guard"]["retrieval/mean_r1"], p["target"]["retrieval/mean_r1"])
        for p in curve["points"]
    }
    within = {alpha: target for alpha, (guard, target) in values.items() if guard >= values[0.0][0] - 1}
    assert within[curve["alpha"]] == max(within.values())


def test_guard_and_target_are_evaluated_with_chance(place: Path, tuned: Path):
    found = json.loads((tuned / "metrics.json").read_text())["evaluations"]
    assert [(one["task"], one["data"]) for one in found] == [
        (task, str(place / data)) for data in ("target", "guard") for task in ("zeroshot", "retrieval")
    ]
    assert all(set(one["chance"]) and one["interval"] for one in found)
    rows = [row for row in RunDirectory(tuned).rows() if "guard" in row]
    assert (
        len(rows) == 5
        and [row["step"] for row in rows][-1] == 12
        and set(rows[0]["guard"])
        == set(rows[0]["guard_chance"])
        | {
            "retrieval/i2t_median_rank",
            "retrieval/t2i_median_rank",
        }
    )
    assert "## Forgetting" in (tuned / "MODEL_CARD.md").read_text()
    page = (tuned / "report.html").read_text()
    assert "Between start and end" in page and "alpha: 0 is the start, 1 the end" in page


def test_a_killed_run_resumes_to_the_same_bytes(place: Path, tmp_path: Path):
    words = [
        f"data={place / 'target'}",
        *SHORT,
        "checkpoints.every=2",
        "checkpoints.keep=9",
        "guard.replay=0.3",
    ]
    runs = [tmp_path / "whole", tmp_path / "broken"]
    for run in runs:
        finetune(place / "model", words, guard=place / "guard", out=run)
    shutil.rmtree(RunDirectory(runs[1]).checkpoint(4))
    shutil.rmtree(RunDirectory(runs[1]).final)
    (runs[1] / "metrics.json").unlink()
    finetune(place / "model", words, guard=place / "guard", out=runs[1], resume=True)
    for name in ("model.safetensors", "model.json"):
        one, other = ((RunDirectory(run).final / name).read_bytes() for run in runs)
        assert one == other
    one, other = (json.loads((run / "metrics.json").read_text()) for run in runs)
    assert one["interpolation"] == other["interpolation"]


def test_a_killed_choice_is_made_again(place: Path, tuned: Path, tmp_path: Path):
    shutil.copytree(tuned, tmp_path / "tuned")
    shutil.rmtree(RunDirectory(tmp_path / "tuned").final)  # killed while the curve was measured
    recipe = str(tmp_path / "tuned" / "recipe.yaml")
    train(recipe, out=tmp_path / "tuned", resume=True)  # what the message of an interrupted run names
    own, again = weights(tuned), weights(tmp_path / "tuned")
    assert all(np.array_equal(own[name].numpy(), again[name].numpy()) for name in own)


def test_low_rank_additions_are_part_of_the_weights(place: Path, tmp_path: Path):
    words = [f"data={place / 'target'}", *SHORT, "change={kind: lora, rank: 2}", "optimizer.lr=1e-2"]
    result = finetune(place / "model", words, guard=place / "guard", out=tmp_path / "run")
    end = frugalclip.load(RunDirectory(tmp_path / "run").checkpoint(4))
    assert end.network.config.lora is not None
    model = frugalclip.load(tmp_path / "run")
    assert model.network.config.lora is None
    assert model.network.architecture() == frugalclip.load(place / "model").network.architecture()
    trained = {name for name, p in end.network.named_parameters() if p.requires_grad}
    assert all(name.endswith((".down", ".up")) or name == "log_scale" for name in trained)
    assert result.interpolation["points"][-1]["alpha"] == 1


def test_a_run_whose_guard_is_beyond_repair_ends_early(place: Path, tmp_path: Path):
    words = [f"data={place / 'target'}", *SHORT, "steps=40", "optimizer.lr=0.3", "evaluation.points=40"]
    words += ["optimizer.decay_towards=zero", "guard.stop_at=0.2", "optimizer.layer_decay=1"]
    result = finetune(place / "model", words, guard=place / "guard", out=tmp_path / "run")
    assert result.trained.is_finished and result.trained.steps < 40
    assert "the guard fell from" in result.interpolation["stopped"]
    values = [point["guard"]["retrieval/mean_r1"] for point in result.interpolation["points"]]
    chosen = [point["alpha"] for point in result.interpolation["points"]].index(result.interpolation["alpha"])
    assert values[chosen] >= values[0] - 1


def test_replayed_pairs_join_training_and_are_not_measured(place: Path, tmp_path: Path):
    words = [f"data={place / 'target'}", *SHORT, "guard.replay=0.25", "data.validation=none"]
    result = finetune(place / "model", words, guard=place / "guard", out=tmp_path / "run").trained
    assert any(note.startswith("replays 11 pairs of the guard, 26%") for note in result.notes)
    assert result.guard is not None
    measured = {
        str(file) for file in result.guard.validator.manifest.image_files(result.guard.validator.manifest.ids)
    }
    trained = {str(file) for file in result.training.image_files(result.training.ids)}
    assert len(trained) == 43 and not measured & trained


def test_the_rate_follows_the_width(place: Path):
    assert finetuning_rate(load(place / "model").network) == pytest.approx(0.02 / 32, rel=0.02)


def test_the_command_line_prints_the_way(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = [
        "finetune",
        str(place / "model"),
        f"data={place / 'target'}",
        *SHORT,
        "--guard",
        str(place / "guard"),
    ]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "between start and end, percent" in shown and "The guard may lose 1 (guard.max_loss)." in shown


def test_what_cannot_be_done_says_what_to_do(place: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match=r"names no data; add data=PATH"):
        finetune(place / "model", guard=place / "guard", out=tmp_path / "a")
    with pytest.raises(RecipeError, match=r"init_from is not given; leave guard out"):
        load_recipe("clip", ["guard=sample"])
    with pytest.raises(RecipeError, match=r"a change makes another network; leave one out"):
        load_recipe("finetune", ["change={kind: inherit, keep: 0.5}", "init_from=a", "guard=b"])
    words = [f"data={place / 'target'}", *SHORT]
    with pytest.raises(DataError, match="gone"):
        finetune(place / "model", words, guard=tmp_path / "gone", out=tmp_path / "b")


def test_arms_are_refused_where_several_processes_were_started(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = [f"data={place / 'target'}", *SHORT]
    with pytest.raises(
        UsageError, match=r"finetune --compare .* but 2 were started; start it without torchrun"
    ):
        finetune(place / "model", words, guard=place / "guard", out=tmp_path / "run", compare=True)
    with pytest.raises(UsageError, match="compare trains several runs"):
        compare(["clip", "clip-small"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # six runs
def test_every_arm_stands_in_one_table(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    where = ["data.where=split=train", "data.validation=split=val"]
    words = [f"data={place / 'target'}", *where, *SHORT, "steps=2", "guard.points=2"]
    words += ["--guard", str(place / "guard"), "--out", str(tmp_path / "run"), "--compare"]
    assert main(["finetune", str(place / "model"), *words]) == 0
    rows = {row["name"]: row for row in json.loads((tmp_path / "run" / "metrics.json").read_text())["arms"]}
    assert list(rows) == ["zero-shot", "head", "probe", "full", "lora"]
    assert all(0 <= row[side] <= 100 for row in rows.values() for side in ("guard", "target"))
    shown = capsys.readouterr().out
    assert "arms, percent" in shown and "zero-shot" in shown
    assert "Other ways to train it further" in (tmp_path / "run" / "report.html").read_text()
    start = frugalclip.load(place / "model").network.state_dict()

    def moved(arm: str) -> set[str]:
        end = frugalclip.load(tmp_path / "run" / "arms" / arm).network.state_dict()
        plain = {name.replace(".base", ""): tensor for name, tensor in end.items()}
        return {name for name in start if not np.array_equal(plain[name], start[name])}

    assert moved("probe") == {"image.project.weight"}
    assert moved("head") == {"image.project.weight", "text.project.weight"}
    assert moved("lora") <= {"log_scale"}
