"""Part by part gives the gradient of the whole, for every sum of objectives."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Batch, Selection, Tokens, TowerOutput
from frugalclip.objectives.base import Features, Needs, Objective, ObjectiveConfig, ObjectiveOutput
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.training.engine import Direct, build_engine
from frugalclip.training.gradient_cache import GradientCache
from frugalclip.training.recipe import validate_recipe
from frugalclip.training.step import Step, build_objectives

SUMS: dict[str, dict[str, Any]] = {
    "clip": {"contrastive": {}},
    "align": {"contrastive": {"smoothing": 0.1, "reduction": "sum"}},
    "siglip": {"sigmoid": {"bias": -5, "positives": "caption"}},
    "sum": {"contrastive": {"positives": "caption", "weight": 0.3}, "sigmoid": {"weight": 0.7}},
}


def a_batch(rows: int = 10) -> Batch:
    draw = torch.Generator().manual_seed(0)
    ids, lengths = (
        torch.randint(1, 90, (rows, 8), generator=draw),
        torch.randint(2, 9, (rows,), generator=draw),
    )
    images = {
        name: torch.randn(rows, 3, 16, 16, generator=draw, dtype=torch.float64) for name in ("main", "second")
    }
    return Batch(
        torch.arange(rows),
        images,
        {"caption": Tokens(ids, lengths)},
        fields={"caption": torch.arange(rows) % 7},
    )


def a_step(small: dict[str, Any], objectives: dict[str, Any]) -> Step:
    recipe = validate_recipe(small | {"objectives": objectives})
    network = DualEncoder(ModelConfig.model_validate(small["model"]), vocabulary=100, context=8)
    return Step(network, build_objectives(recipe.objectives, network.dims(batch=10), seed=0)).double()


def gradients(step: Step, batch: Batch, micro_batch: int | None) -> tuple[float, dict[str, Tensor]]:
    step.zero_grad(set_to_none=True)
    engine = build_engine(step, batch=len(batch), micro_batch=micro_batch)
    assert isinstance(engine, Direct if micro_batch in (None, len(batch)) else GradientCache)
    result = engine(batch)
    engine.backward(2 * result.loss)
    return result.loss.item(), {
        name: p.grad.clone() for name, p in step.named_parameters() if p.grad is not None
    }


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    assert one.keys() == other.keys() and len(one) > 20
    for name in one:
        torch.testing.assert_close(
            other[name],
            one[name],
            rtol=tolerance,
            atol=tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize("micro_batch", [1, 3, 5, 10])
@pytest.mark.parametrize("case", SUMS)
def test_parts_give_the_gradient_of_the_whole(case: str, micro_batch: int, small_recipe: dict[str, Any]):
    step = a_step(small_recipe, SUMS[case])
    loss, direct = gradients(step, a_batch(), None)
    cached_loss, cached = gradients(step, a_batch(), micro_batch)
    assert cached_loss == pytest.approx(loss, abs=1e-12)
    assert_equal(direct, cached)


class TokensToo(Objective):
    """Reads all outputs: tokens of both towers, a derived view, pooled outputs, and a head of its own."""

    Config = ObjectiveConfig

    def __init__(self, config: ObjectiveConfig, dims: Any) -> None:
        super().__init__(config, dims)
        self.head = nn.Sequential(
            nn.Linear(dims.image_width, 4), nn.BatchNorm1d(4)
        )  # batch statistics of a head are those of the whole batch

    def needs(self) -> Needs:
        return Needs(
            images=frozenset({"main", "second@kept"}),
            texts=frozenset({"caption"}),
            tokens=frozenset({"main", "caption"}),
        )

    def makes(self) -> frozenset[str]:
        return frozenset({"second@kept"})

    def prepare(self, batch: Batch, targets: Any) -> dict[str, Selection]:
        return {
            "second@kept": Selection(keep=torch.stack([torch.arange(2) + i % 3 for i in range(len(batch))]))
        }

    def forward(self, views: Features) -> ObjectiveOutput:
        main, kept, caption = views.images["main"], views.images["second@kept"], views.texts["caption"]
        assert main.tokens is not None
        assert caption.tokens is not None
        pooled = self.head(kept.pooled)
        return ObjectiveOutput(
            main.tokens.square().mean()
            + caption.tokens.abs().mean()
            + (pooled * main.embedding[:, :4].roll(1, 0)).sum() * views.scale
        )


def test_tokens_derived_views_and_heads_get_their_gradient(small_recipe: dict[str, Any]):
    step = a_step(small_recipe, {"contrastive": {}})
    step = Step(step.network, {"mine": TokensToo(ObjectiveConfig(), step.network.dims(batch=10))}).double()
    loss, direct = gradients(step, a_batch(), None)
    cached_loss, cached = gradients(step, a_batch(), 4)
    assert cached_loss == pytest.approx(loss, abs=1e-12)
    assert_equal(direct, cached)
    assert any(name.startswith("objectives.mine") for name in cached)


class Jitter(nn.Module):
    """Something random inside a tower that notes what it drew."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.rand_like(x)
        self.drawn.append(noise)
        return x * noise


def test_what_is_random_in_a_tower_is_drawn_again(small_recipe: dict[str, Any]):
    step, jitter = a_step(small_recipe, {"contrastive": {}}), Jitter()
    image = step.network.image
    plain = image.forward
    image.forward = lambda *given, **named: dataclasses.replace(
        found := plain(*given, **named), embedding=jitter(found.embedding)
    )
    cache = GradientCache(step, micro_batch=4)
    torch.manual_seed(3)
    result = cache(a_batch())
    after = torch.get_rng_state()
    cache.backward(result.loss)
    first, second, last, *replayed = jitter.drawn
    assert [x.tolist() for x in replayed] == [second.tolist(), first.tolist()], (
        "the last part keeps its graph, the others are drawn again"
    )
    assert len(last) == 2 and torch.equal(torch.get_rng_state(), after), (
        "the generator goes on as if nothing had been drawn again"
    )


def test_a_tower_with_batch_normalisation_is_refused_with_the_reason(small_recipe: dict[str, Any]):
    step = a_step(small_recipe, {"contrastive": {}})
    step.network.image.norm_after = nn.BatchNorm1d(32)  # pyright: ignore
    with pytest.raises(
        RecipeError,
        match=r"model\.image\.norm_after is a batch normalisation, whose statistics would be of 4 samples",
    ):
        build_engine(step, batch=10, micro_batch=4)
    assert isinstance(build_engine(step, batch=10, micro_batch=None), Direct)


def test_features_of_the_towers_are_never_all_in_one_graph(small_recipe: dict[str, Any]):
    step = a_step(small_recipe, {"contrastive": {}})
    seen: list[tuple[int, bool]] = []
    plain = step.network.image.forward

    def watched(pixels: Tensor, **named: Any) -> TowerOutput:
        seen.append((len(pixels), torch.is_grad_enabled()))
        return plain(pixels, **named)

    step.network.image.forward = watched
    cache = GradientCache(step, micro_batch=3)
    cache.backward(cache(a_batch()).loss)
    assert seen == [(3, False), (3, False), (3, False), (1, True), (3, True), (3, True), (3, True)]
