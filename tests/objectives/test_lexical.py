"""The lexical objective: contrast by words, penalties of the whole batch, their warm-up, many processes."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor

from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.functional import flops_loss, info_nce_loss, lexical_usage, overuse_loss, unit
from frugalclip.objectives.base import Needs, Objective
from frugalclip.objectives.facets import Config as FacetsConfig
from frugalclip.objectives.facets import Facets
from frugalclip.objectives.lexical import Config, Lexical

from ..two_processes import one_of_two

ROWS, WORDS = 6, 9
DIMS = Dims(
    image_width=8, text_width=8, embedding=WORDS, vocabulary=10, context=5, patch_grid=(2, 2), batch=ROWS
)


def an_objective(**settings: Any) -> Lexical:
    return Lexical(Config.model_validate(settings), DIMS)


def views(*, progress: float = 1.0, rows: slice = slice(None)) -> Features:
    images, texts = torch.randn(
        2, ROWS, WORDS, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).clamp(min=0)[:, rows]
    encoded = [TowerOutput(None, x, x.clone().requires_grad_()) for x in (images, texts)]
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    return Features({"main": encoded[0]}, {"caption": encoded[1]}, scale, progress=progress)


def vectors(given: Features) -> tuple[Tensor, Tensor]:
    return given.images["main"].embedding.detach(), given.texts["caption"].embedding.detach()


def contrast_of(images: Tensor, texts: Tensor) -> float:
    return float(sum(info_nce_loss(images, texts, torch.tensor(5.0, dtype=torch.float64)))) / 2


@pytest.mark.parametrize("kind", ["none", "overuse", "flops"])
def test_without_penalty_it_is_clip_on_the_same_vectors(kind: str):
    images, texts = vectors(views())
    outcome = an_objective(penalty={"kind": kind, "image": 0, "text": 0})(views())
    assert outcome.loss.item() == pytest.approx(contrast_of(unit(images), unit(texts)), abs=1e-12)
    assert outcome.logs["contrast"].item() == pytest.approx(outcome.loss.item()) and outcome.logs[
        "chance"
    ].item() == pytest.approx(math.log(6))


@pytest.mark.parametrize("normalize", ["l2", "none"])
@pytest.mark.parametrize("taken", ["compared", "raw"])
@pytest.mark.parametrize(("kind", "penalty"), [("overuse", overuse_loss), ("flops", flops_loss)])
def test_penalties_are_added_with_their_weights(kind: str, penalty: Any, normalize: str, taken: str):
    raw = vectors(views())
    images, texts = [unit(x) for x in raw] if normalize == "l2" else raw
    of_images, of_texts = (
        penalty(lexical_usage(x)).item() for x in (raw if taken == "raw" else (images, texts))
    )
    objective = an_objective(
        normalize=normalize, penalty={"kind": kind, "image": 0.3, "text": 0.7, "vectors": taken}
    )
    outcome = objective(views())
    assert outcome.loss.item() == pytest.approx(
        contrast_of(images, texts) + 0.3 * of_images + 0.7 * of_texts, abs=1e-12
    )
    assert outcome.logs["image_penalty"].item() == pytest.approx(of_images) and outcome.logs[
        "text_penalty"
    ].item() == pytest.approx(of_texts)


def test_overuse_follows_its_settings():
    images, texts = (lexical_usage(unit(x)) for x in vectors(views()))
    settings = {"scale_by_vocab": False, "detach_weight": True}
    given, base = views(), views()
    loss = an_objective(penalty={"image": 1, "text": 1, "ramp": 0} | settings)(given).loss
    plain = an_objective(penalty="none")(base).loss
    assert (loss - plain).item() == pytest.approx(
        overuse_loss(images, scale_by_vocab=False).item() + overuse_loss(texts).item() / WORDS, abs=1e-12
    )
    loss.backward()
    plain.backward()
    leaf = vectors(views())[0].requires_grad_()
    overuse_loss(lexical_usage(unit(leaf)), **settings).backward()
    with_it, without = (one.images["main"].embedding.grad for one in (given, base))
    assert with_it is not None
    assert without is not None
    torch.testing.assert_close(with_it - without, leaf.grad, rtol=0, atol=1e-12)


def test_the_warm_up_is_a_share_of_the_run_or_counts_steps():
    penalty, bare = (
        an_objective(penalty={"ramp": 0})(views()).loss,
        an_objective(penalty="none")(views()).loss,
    )
    full = (penalty - bare).item()

    def share(objective: Lexical, progress: float) -> float:
        return (objective(views(progress=progress)).loss - bare).item() / full

    half = an_objective(penalty={"ramp": 0.5})
    assert [share(half, progress) for progress in (0, 0.1, 0.25, 0.5, 0.9)] == pytest.approx(
        [0, 0.04, 0.25, 1, 1], abs=1e-6
    )
    counted, found = an_objective(penalty={"ramp": 3}), []
    for _ in range(4):
        found.append(share(counted, 0.0))
        counted.after_step(views())
    assert found == pytest.approx([1 / 9, 4 / 9, 1, 1], abs=1e-6)
    assert counted.state_dict()["steps"] == 4, "a run that goes on knows where the warm-up is"


def test_what_is_logged_counts_words():
    images, texts = vectors(views())
    logs = an_objective()(views()).logs
    assert logs["image_non_zeros"].item() == pytest.approx((images > 0).sum().item() / ROWS)
    assert logs["text_most_used"].item() == pytest.approx((texts > 0).double().mean(dim=0).max().item())
    assert not any(value.requires_grad for value in logs.values())


def test_empty_vectors_give_no_nan():
    nothing = torch.zeros(ROWS, WORDS, requires_grad=True)
    outcome = an_objective()(
        Features(
            {"main": TowerOutput(None, nothing, nothing)},
            {"caption": TowerOutput(None, nothing, nothing)},
            torch.tensor(5.0),
        )
    )
    outcome.loss.backward()
    assert outcome.loss.item() == pytest.approx(math.log(ROWS)) and nothing.grad.isfinite().all()


def test_permuting_pairs_changes_nothing():
    given, order = views(), torch.tensor([3, 1, 5, 0, 2, 4])
    moved = [TowerOutput(None, x, x[order]) for x in vectors(given)]
    loss = an_objective()(Features({"main": moved[0]}, {"caption": moved[1]}, given.scale, progress=1.0)).loss
    assert loss.item() == pytest.approx(an_objective()(given).loss.item(), abs=1e-12)


def test_a_penalty_may_be_named_alone_and_a_wrong_setting_says_what_to_set():
    assert Config.model_validate({"penalty": "flops"}).penalty.kind == "flops"
    with pytest.raises(RecipeError, match=r"penalty\.rampe is not a setting; did you mean 'ramp'\?"):
        validated(Config, {"penalty": {"rampe": 3}}, where="objectives.lexical")


def test_needs_follow_the_configuration():
    assert an_objective(text="words").needs() == Needs(images=frozenset({"main"}), texts=frozenset({"words"}))


OBJECTIVES: dict[str, Any] = {
    "overuse": lambda: an_objective(penalty={"image": 2, "text": 3, "ramp": 0}),
    "flops": lambda: an_objective(penalty={"kind": "flops", "image": 2, "text": 3, "ramp": 0}),
    "raw": lambda: an_objective(normalize="none", penalty={"image": 2, "text": 3, "ramp": 0}),
    "facets, sigmoid": lambda: Facets(FacetsConfig(bias=-3), DIMS),
    "facets, contrastive": lambda: Facets(FacetsConfig(loss="contrastive"), DIMS),
}


def gradients(objective: Objective, rows: slice) -> dict[str, Tensor]:
    """Loss of some rows and its gradients at them, at the scale and at the objective's own weights."""
    objective, given = objective.double(), views(rows=rows)
    images, texts = given.images["main"].embedding, given.texts["caption"].embedding
    if isinstance(objective, Facets):  # three texts of three channels
        given = Features(
            {"main": TowerOutput(None, images, images[:, :3] - 0.5)},
            {"caption": TowerOutput(None, texts, texts.view(-1, 3, 3) - 0.5)},
            given.scale,
        )
    loss = objective(given).loss
    loss.backward()
    leaves = {"images": images, "texts": texts, "scale": given.scale, **dict(objective.named_parameters())}
    return {"loss": loss.detach()} | {
        name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None
    }


def process(rank: int, folder: str) -> None:
    rows = slice(3 * rank, 3 * rank + 3)
    with one_of_two(rank, f"{folder}/meet"):
        for name, build in OBJECTIVES.items():
            save_file(gradients(build(), rows), f"{folder}/{name} {rank}.safetensors")


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    mp.spawn(process, args=(str(folder),), nprocs=2)  # pyright: ignore
    return folder


@pytest.mark.timeout(300)  # the first one waits for two processes that load torch
@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_give_the_loss_and_the_gradients_of_one(name: str, of_two_processes: Path):
    whole = gradients(OBJECTIVES[name](), slice(None))
    halves = [load_file(of_two_processes / f"{name} {rank}.safetensors") for rank in (0, 1)]
    assert whole.keys() >= {"loss", "images", "texts", "scale"}
    for key, expected in whole.items():
        both = [half[key] for half in halves]
        joined = (
            torch.cat(both) / 2 if key in ("images", "texts") else torch.stack(both).mean(dim=0)
        )  # averaged over processes
        torch.testing.assert_close(
            joined, expected, rtol=0, atol=1e-12, msg=lambda text, key=key: f"{key}: {text}"
        )
