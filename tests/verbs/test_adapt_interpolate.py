"""Models between two and means of several, from the command line and from Python."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import frugalclip
from frugalclip.cli import main
from frugalclip.core.errors import ModelError, UsageError
from frugalclip.verbs.adapt_interpolate import adapt_interpolate, adapt_soup
from frugalclip.verbs.train import train

from .test_finetune import SMALL, pictures


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and two that were trained on from it on other pictures."""
    place = tmp_path_factory.mktemp("interpolate")
    pictures(place / "guard", shapes=("above",))
    pictures(place / "target", shapes=("under",), size=20)
    recipe = place / "small.yaml"
    recipe.write_text(json.dumps(SMALL | {"steps": 6, "batch": 8}))
    train(str(recipe), [f"data={place / 'guard'}"], out=place / "first")
    again = [f"data={place / 'target'}", f"init_from={place / 'first'}", "steps=2"]
    for seed in (0, 1):
        train(str(recipe), [*again, f"seed={seed}"], out=place / f"tuned-{seed}")
    return place


def test_half_way_is_the_mean_and_a_model_for_every_verb(place: Path, tmp_path: Path):
    words = ["adapt", "interpolate", str(place / "first"), str(place / "tuned-0"), "--alpha", "0.5"]
    assert main([*words, "--out", str(tmp_path / "half")]) == 0
    names = (tmp_path / "half", place / "first", place / "tuned-0")
    half, first, second = (frugalclip.load(one) for one in names)
    for name, tensor in half.network.state_dict().items():
        mean = (first.network.state_dict()[name] + second.network.state_dict()[name]) / 2
        assert torch.allclose(tensor, mean, atol=1e-6), name
    assert half.encode_text("red above blue").shape == (1, 16)


def test_a_guard_chooses_how_far(place: Path, tmp_path: Path):
    result = adapt_interpolate(
        place / "first", place / "tuned-0", out=tmp_path / "run", guard=str(place / "guard"), points=3
    )
    points = result.about["interpolation"]["points"]
    values = {point["alpha"]: point["guard"]["retrieval/mean_r1"] for point in points}
    within = [alpha for alpha, value in values.items() if value >= values[0.0] - 1]
    assert result.about["alpha"] == max(within)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["alpha"] == max(within)


def test_a_soup_is_the_mean_and_a_greedy_one_is_not_worse_than_its_best(place: Path, tmp_path: Path):
    names = [str(place / one) for one in ("first", "tuned-0", "tuned-1")]
    mean = adapt_soup(names, out=tmp_path / "mean").model.network.state_dict()
    states = [frugalclip.load(name).network.state_dict() for name in names]
    for name, tensor in mean.items():
        expected = np.mean([state[name].double().numpy() for state in states], axis=0)
        assert np.allclose(tensor, expected, atol=1e-6)
    greedy = adapt_soup(names, out=tmp_path / "greedy", data=str(place / "target"))
    assert greedy.about["value"] >= max(greedy.about["values"].values())
    assert set(greedy.about["kept"]) <= set(names)
    words = ["--out", str(tmp_path / "again"), "--data", str(place / "target")]
    assert main(["adapt", "soup", *names, *words]) == 0


def test_what_cannot_be_mixed_says_why(place: Path, tmp_path: Path):
    first, tuned = place / "first", place / "tuned-0"
    with pytest.raises(UsageError, match="give one of --alpha"):
        adapt_interpolate(first, tuned, out=tmp_path / "a")
    with pytest.raises(UsageError, match=r"alpha is 1\.5"):
        adapt_interpolate(first, tuned, out=tmp_path / "a", alpha=1.5)
    with pytest.raises(UsageError, match="is named twice"):
        adapt_soup([first, first], out=tmp_path / "b")
    with pytest.raises(ModelError, match=r"is not empty; give a new folder"):
        adapt_interpolate(first, tuned, out=first, alpha=0.5)
    words = ["steps=1", f"data={place / 'guard'}", "model.text.width=16"]
    train(str(place / "small.yaml"), words, out=tmp_path / "other")
    with pytest.raises(ModelError, match="have no weights in between"):
        adapt_interpolate(first, tmp_path / "other", out=tmp_path / "c", alpha=0.5)
