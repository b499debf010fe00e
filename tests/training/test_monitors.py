"""Advice comes when there is reason for it, once, and not otherwise."""

import math

import pytest
import torch

from frugalclip.core.types import Features, TowerOutput
from frugalclip.training.monitors import Advisor, feature_monitors, first_bad_output


def run(advisor: Advisor, *, loss: float, scale: float = 20.0, steps: int = 300) -> list[str]:
    output = []
    for step in range(1, steps + 1):
        output += advisor.advise(
            {"step": step, "scale": scale, "contrastive/loss": loss, "contrastive/chance": math.log(256)}
        )
    return output


def test_a_loss_at_chance_is_said_once_and_a_falling_one_is_not():
    output = run(Advisor(steps=300, scale_min=1, scale_max=100), loss=math.log(256) - 0.01)
    assert len(output) == 1 and "ln(256) = 5.55" in output[0] and "frugalclip data check" in output[0]
    assert run(Advisor(steps=300, scale_min=1, scale_max=100), loss=3.0) == []


def test_advice_comes_in_the_order_of_the_row():
    advisor, names = (
        Advisor(steps=300, scale_min=1, scale_max=100),
        [f"objective{i}" for i in range(9, 0, -1)],
    )
    output = []
    for step in range(1, 301):
        losses = {f"{name}/{key}": math.log(256) for name in names for key in ("loss", "chance")}
        output += advisor.advise({"step": step, "scale": 20.0, **losses})
    assert [text.split()[3] for text in output] == names


@pytest.mark.parametrize(
    ("scale", "output"), [(100.0, "reached its limit 100"), (1.0, "fallen to its limit 1")]
)
def test_a_scale_at_its_clamp_is_said(scale: float, output: str):
    found = run(Advisor(steps=300, scale_min=1, scale_max=100), loss=3.0, scale=scale)
    assert len(found) == 1 and output in found[0]


def test_collapse_and_false_negatives_are_said():
    advisor = Advisor(steps=10, scale_min=1, scale_max=100)
    found = advisor.advise({"step": 9, "scale": 5.0, "image_similarity": 0.99, "contrastive/same_share": 0.4})
    assert len(found) == 2 and "collapse" in found[0] and "40% of the pairs" in found[1]


def test_a_spread_near_zero_is_a_collapse_once_the_run_has_begun():
    advisor = Advisor(steps=10, scale_min=1, scale_max=100)
    assert advisor.advise({"step": 1, "scale": 5.0, "simsiam/spread": 0.02}) == []
    (output,) = advisor.advise({"step": 5, "scale": 5.0, "simsiam/spread": 0.02})
    assert "The features of simsiam" in output and "collapse" in output
    assert (
        Advisor(steps=10, scale_min=1, scale_max=100).advise({"step": 5, "scale": 5.0, "simsiam/spread": 0.9})
        == []
    )


def test_a_codebook_that_is_in_use_is_no_collapse():
    advisor = Advisor(steps=10, scale_min=1, scale_max=100)
    healthy = {"step": 5, "scale": 5.0, "captioning/perplexity": 6.5}
    assert advisor.advise(healthy) == []
    (output,) = advisor.advise({**healthy, "captioning/perplexity": 1.2})
    assert "codebook of captioning has collapsed" in output and "1.2 codes" in output


def test_monitors_of_known_features():
    def views(images: torch.Tensor, texts: torch.Tensor) -> Features:
        return Features(
            {"main": TowerOutput(None, images, images)},
            {"caption": TowerOutput(None, texts, texts)},
            torch.tensor(1.0),
        )

    apart = feature_monitors(views(torch.eye(4), -torch.eye(4)))
    assert apart["image_similarity"] == pytest.approx(0, abs=1e-6) and apart["gap"] == pytest.approx(1.0)
    collapsed = feature_monitors(views(torch.ones(4, 3), torch.eye(4)[:, :3] + 1))
    assert collapsed["image_similarity"] == pytest.approx(1.0)


def test_the_first_bad_output_is_the_earliest_module():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
    x = torch.zeros(3, 2)
    x[1] = float("nan")
    with first_bad_output(model) as found:
        model(x)
    assert found == {"module": "0", "rows": "1"}
    with first_bad_output(model) as found:
        model(torch.zeros(3, 2))
    assert found == {}
