"""Base classes of towers and heads: towers refuse what they do not support, with a setting that helps."""

from typing import Any

import pytest
import torch

from frugalclip.core.errors import ModelError, RecipeError
from frugalclip.core.random import generator
from frugalclip.core.types import Gates, Needs, Tokens
from frugalclip.towers.base import WISHES, Ability, Head
from frugalclip.towers.described import WIDTHS
from frugalclip.towers.dual import IMAGE_TOWERS, DualEncoder, ModelConfig

VIT = {"width": 32, "depth": 1, "head_dim": 16, "patch": 8, "resolution": 16}
IMAGES: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "vit, mean": VIT | {"pool": "mean"},
    "resnet": {"kind": "resnet", "width": 64, "blocks": [1, 1, 1], "resolution": 16},
    "clip_resnet": {"kind": "clip_resnet", "width": 128, "blocks": [1, 1, 1, 1], "resolution": 32},
    "pretrained": {"kind": "pretrained", "from": "nowhere", "width": 6, "resolution": 16},
    "described": {
        "kind": "described",
        "tower": VIT,
        "embedding": 4,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "descriptors": list(WIDTHS),
        "head": {"kind": "whitened_parts", "parts": [4, *WIDTHS.values()]},
    },
}
TEXTS: dict[str, dict[str, Any]] = {
    "transformer": {"width": 32, "depth": 1, "head_dim": 16},
    "bag": {"kind": "bag"},
    "pretrained": {"kind": "pretrained", "from": "nowhere", "width": 6},
    "tfidf": {"kind": "tfidf"},
    "none": {"kind": "none"},
}
SUPPORTED: dict[str, set[Ability]] = {
    "vit": {"dropped_patches", "cls_attention", "gates"},
    "vit, mean": {"dropped_patches", "gates"},
    "transformer": {"masked_words", "next_words", "gates"},
}
GATES = Gates(hidden=torch.ones(32))


def network(*, image: str = "vit", text: str = "transformer") -> DualEncoder:
    config = ModelConfig.model_validate({"image": IMAGES[image], "text": TEXTS[text], "dim": 8})
    return DualEncoder(config, vocabulary=20, context=6, seed=0)


def test_every_kind_of_image_tower_is_here():
    assert {settings.get("kind", "vit") for settings in IMAGES.values()} == set(IMAGE_TOWERS)


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_tower_refuses_what_it_does_not_support(kind: str):
    tower = network(image=kind).image
    assert tower.supports == SUPPORTED.get(kind, set())
    pixels = torch.zeros(2, 3, tower.config.resolution, tower.config.resolution)  # pyright: ignore
    arguments: dict[Ability, dict[str, Any]] = {
        "dropped_patches": {"keep": torch.zeros(2, 1, dtype=torch.int64)},
        "cls_attention": {"with_attention": True},
        "gates": {"gates": GATES},
    }
    for wish, argument in arguments.items():
        if wish in tower.supports:
            tower(pixels, **argument)
        else:
            with pytest.raises(RecipeError, match=r"does not support; (set|give) model\.image"):
                tower(pixels, **argument)


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_tower_refuses_what_it_does_not_support(kind: str):
    tower = network(text=kind).text
    assert tower.supports == SUPPORTED.get(kind, set())
    texts = Tokens(torch.ones(2, 6, dtype=torch.int64), torch.tensor([6, 3]))
    if "gates" in tower.supports:
        tower(texts, gates=GATES)
    else:
        with pytest.raises(
            (RecipeError, ModelError), match=r"does not support; |encodes pictures and no texts"
        ):
            tower(texts, gates=GATES)


def test_the_first_wish_that_is_not_supported_is_named():
    tower = network(image="resnet").image
    with pytest.raises(
        RecipeError, match="an objective drops patches, which a resnet tower does not support"
    ):
        tower.check(reversed(WISHES))
    tower.check([])


@pytest.mark.parametrize(
    ("needs", "complaint"),
    [
        (Needs(images=frozenset({"main@kept"})), "drops patches"),
        (Needs(images=frozenset({"main"}), attention=frozenset({"main"})), r"attention of \[CLS\]"),
        (Needs(teachers=frozenset({"ema:main"}), attention=frozenset({"ema:main"})), r"attention of \[CLS\]"),
        (Needs(teachers=frozenset({"frozen:main"}), attention=frozenset({"frozen:main"})), None),
        (Needs(texts=frozenset({"caption@masked"})), "masked words"),
        (Needs(images=frozenset({"main"}), texts=frozenset({"caption"})), None),
    ],
)
def test_a_network_checks_the_needs_of_objectives_and_of_its_averages(needs: Needs, complaint: str | None):
    able, unable = network(), network(image="resnet", text="bag")
    able.check(needs, averages={"ema"})
    if complaint is None:
        unable.check(needs, averages={"ema"})
    else:
        with pytest.raises(RecipeError, match=complaint):
            unable.check(needs, averages={"ema"})


def test_only_text_towers_of_our_own_have_a_token_embedding():
    found = {kind: network(text=kind).text.embedding_parameters for kind in TEXTS}
    assert found == {"transformer": 20 * 32, "bag": 20 * 8, "pretrained": 0, "tfidf": 0, "none": 0}


def test_the_configuration_names_its_pretrained_towers_as_the_network_does():
    one = network(image="pretrained")
    assert (
        list(one.config.pretrained_towers())
        == list(one.pretrained_towers())
        == list(one.heads())
        == ["image"]
    )


class Plain(Head):
    """A head that declares nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_head_without_inputs_of_a_fit_has_nothing_to_fit_draw_or_hold():
    head = Plain()
    head.reset(generator(0, "test"))
    head.clamp()
    assert not head.fit_inputs("image") and not head.fit_inputs("text")
    with pytest.raises(RecipeError, match=r"set model\.image\.head\.kind=whitening, or novelty=0"):
        head.set_level(0.5)
