import numpy as np
import pytest
import torch
from PIL import Image

from frugalclip.evaluation.retrieval import evaluate_retrieval
from frugalclip.evaluation.robustness import ALTERATIONS, altered_features, robustness
from frugalclip.evaluation.statistics import mean_of
from frugalclip.evaluation.zeroshot import evaluate_zeroshot


@pytest.fixture
def image() -> Image.Image:
    """A red left half and a blue right half, with a white line between."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30], pixels[:, 30:], pixels[:, 29:31] = (220, 20, 20), (20, 20, 220), (255, 255, 255)
    return Image.fromarray(pixels)


def alter(name: str, image: Image.Image, number: int = 5) -> np.ndarray:
    return np.asarray(ALTERATIONS[name][1](image, number)).astype(int)


def test_alterations_do_what_they_say(image):
    original = np.asarray(image).astype(int)
    assert (alter("mirrored", image) == original[:, ::-1]).all()
    assert np.ptp(alter("grayscale", image), axis=2).max() == 0
    assert alter("hue", image)[20, 5].argmax() == 1  # red becomes green
    assert alter("hue", image)[20, 55].argmax() == 0  # and blue becomes red
    assert (
        np.abs(np.diff(alter("blurred", image)[20].sum(1))).max()
        < np.abs(np.diff(original[20].sum(1))).max() / 2
    )
    covered = (alter("occluded", image) == 128).all(2)
    assert covered.sum() == 16 * 16  # 40 % of the shorter side
    assert (alter("occluded", image)[~covered] == original[~covered]).all()
    noise = (alter("noisy", Image.new("RGB", (64, 64), (128, 128, 128))) - 128) / 255
    assert noise.std() == pytest.approx(0.12, rel=0.05)
    assert 0 < np.abs(alter("compressed", image) - original).mean() < 20


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_alteration_depends_on_the_image_and_its_id_alone_and_leaves_the_original(name, image):
    before = np.asarray(image).copy()
    assert (alter(name, image) == alter(name, image)).all()
    assert ALTERATIONS[name][1](image, 5).size == image.size
    assert ALTERATIONS[name][1](image.crop((0, 0, 1, 1)), 5).size == (1, 1)
    assert (np.asarray(image) == before).all()
    if name in ("occluded", "noisy"):
        assert (alter(name, image, 6) != alter(name, image, 5)).any()


def test_features_do_not_depend_on_which_rows_are_evaluated_together(squares, model):
    whole = altered_features(model, squares.where("split=test"))
    part = altered_features(model, squares.where("split=test").take([4, 2]))
    for name, features in whole.items():
        torch.testing.assert_close(part[name], features[[4, 2]])


def test_a_model_of_colours_fails_on_turned_hues_and_not_on_mirrored_images(squares, model):
    chosen = squares.where("split=test|broken")
    result = evaluate_zeroshot(model, chosen, squares, with_robustness=True)
    found = result["robustness"]
    assert found.keys() == ALTERATIONS.keys()
    assert found["mirrored"]["difference"]["top1"] == 0
    assert found["mirrored"]["interval"]["top1"] == [0, 0]
    assert found["hue"]["metrics"]["top1"] == 0
    assert found["hue"]["difference"]["top1"] == -result["metrics"]["top1"] == -100
    assert found["hue"]["metrics"].keys() == result["metrics"].keys()
    retrieval = evaluate_retrieval(model, chosen, with_robustness=True)["robustness"]
    assert retrieval["hue"]["difference"]["i2t_r1"] == -100
    assert retrieval["hue"]["difference"]["i2t_median_rank"] > 0  # in places, not in percent


def test_differences_are_paired():
    random = np.random.default_rng(0)
    clean = (random.random(300) < 0.5).astype(float)
    worse = clean.copy()
    worse[np.flatnonzero(clean)[:15]] = 0
    groups = np.arange(300)
    found = robustness(
        {"top1": mean_of(clean, groups)},
        {"hue": {"top1": mean_of(worse, groups)}},
        groups=300,
    )["hue"]
    assert found["difference"]["top1"] == pytest.approx(-5)
    low, high = found["interval"]["top1"]
    # 15 of 300 differ: the standard error of the difference is 1.26 points; of independent samples it is 4
    assert low == pytest.approx(-5 - 1.96 * 1.26, abs=0.5) and high == pytest.approx(
        -5 + 1.96 * 1.26, abs=0.5
    )
