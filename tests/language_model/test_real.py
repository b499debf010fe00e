"""SmolLM2-135M itself, which `make frozen` installs; without it these tests fail with that sentence."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from frugalclip.backbones.packages import package_path
from frugalclip.core.errors import MissingExtra
from frugalclip.functional import unit
from frugalclip.language_model import FrozenLanguageModel, LanguageModelSettings
from frugalclip.language_model.frozen import PromptTokens

pytestmark = pytest.mark.slow

PAIRS = [  # two ways to say the same; neighbours in the list share their place or their things
    ("A small dog chases a ball across the lawn.", "A puppy is running after a toy on the grass."),
    ("A small dog sleeps beside a ball on the lawn.", "Next to its toy, a puppy is napping on the grass."),
    (
        "Two chefs are plating desserts in a busy kitchen.",
        "A pair of cooks arrange sweets on dishes at the restaurant.",
    ),
    ("Two waiters are clearing desserts from a table.", "Servers take the sweets away after the meal."),
    (
        "A sailing boat leans in strong wind on blue water.",
        "A yacht tilts as the gale drives it over the sea.",
    ),
    ("A sailing boat lies still in a quiet harbour.", "Not moving, a yacht is moored in the calm port."),
    (
        "An old man reads a newspaper on a park bench.",
        "An elderly gentleman sits among the trees with the daily press.",
    ),
    (
        "An old man feeds pigeons from a park bench.",
        "An elderly gentleman sits among the trees, throwing crumbs to birds.",
    ),
    ("Snow covers the roofs of a mountain village.", "The houses of an alpine hamlet are white on top."),
    (
        "Rain falls on the roofs of a fishing village.",
        "A shower wets the houses of a small place by the sea.",
    ),
    (
        "Children build a castle out of sand at the shore.",
        "Kids at the seaside are shaping towers with buckets.",
    ),
    ("Children fly kites in the wind at the shore.", "Kids at the seaside let paper birds rise on strings."),
]
LONG = "A wide photograph shows a market square in the early morning. " * 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrozenLanguageModel]:
    """Converted from its GGUF file into a cache that is deleted afterwards: half a gigabyte."""
    try:
        path = package_path("smollm2")
    except MissingExtra as error:
        pytest.fail(str(error))
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRUGALCLIP_CACHE", str(cache))
        yield FrozenLanguageModel.read(path, LanguageModelSettings(precision="fp32"))
    shutil.rmtree(cache)


@pytest.fixture(scope="module")
def half(model: FrozenLanguageModel) -> FrozenLanguageModel:
    return FrozenLanguageModel.read(model.model.folder, LanguageModelSettings(precision="bf16"))


def texts() -> list[str]:
    return [first for first, _ in PAIRS] + [second for _, second in PAIRS]


def one_by_one(model: FrozenLanguageModel, text: str) -> Tensor:
    """(facets, width): each facet in a pass of its own, as plain transformers computes it."""
    tokens = PromptTokens.of(model.prompt, model.model.backend)
    states = []
    for facet in tokens.facets:
        ids = torch.tensor([[*tokens.opening, *model._captions([text])[0], *tokens.closing, *facet]])
        with torch.inference_mode():
            states.append(
                model.model.network(input_ids=ids, output_hidden_states=True).hidden_states[-2][0, -1]
            )
    return torch.stack(states)


def test_the_conversion_keeps_what_the_model_knows(model: FrozenLanguageModel, tmp_path: Path):
    """Paris, as the word that follows, and weights that equal those of the GGUF file bit by bit."""
    import transformers

    file = tmp_path / "plain.yaml"
    file.write_text("template: 'Q: {} A: The capital of France'\nfacets: [' is']\n")
    scores = model.next_word_states(["What is it called?"], prompt=file) @ model.output_embedding().T
    assert model.model.backend.decode([int(scores.argmax())]) == " Paris"
    gguf = package_path("smollm2")
    source = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name
    ).model.state_dict()
    assert source.keys() == model.model.network.state_dict().keys()
    assert all(torch.equal(value, source[name]) for name, value in model.model.network.state_dict().items())


def test_a_prompt_in_parts_reads_like_the_whole(model: FrozenLanguageModel):
    for name in ("single", "short", "long", "lexical"):
        requested = model.with_settings(prompt=name)
        tokens = PromptTokens.of(requested.prompt, requested.model.backend)
        (caption,) = requested._captions(['A "small" dog!'])
        whole = [
            requested.model.backend.decode([*tokens.opening, *caption, *tokens.closing, *facet])
            for facet in tokens.facets
        ]
        assert whole == requested.prompt.filled('A "small" dog!')


@pytest.mark.parametrize("prompt", ["single", "short", "long"])
def test_packed_facets_equal_separate_prompts_whatever_the_batch(
    model: FrozenLanguageModel, prompt: str, capsys: pytest.CaptureFixture[str]
):
    requested = model.with_settings(prompt=prompt)
    captions = ["a dog", PAIRS[0][0], PAIRS[2][1], LONG]
    states = requested.with_settings(batch_tokens=100_000).encode_texts(
        captions
    )  # all in one pass, the short ones padded by seventy tokens
    separate = torch.stack([one_by_one(requested, caption) for caption in captions])
    alone = torch.cat([requested.encode_texts([caption]) for caption in captions])
    scale = states.norm(dim=-1).mean()
    packed, mates = ((states - other).abs().max() / scale for other in (separate, alone))
    with capsys.disabled():
        print(
            f"\n{prompt}: packed against separate {packed:.1e}, alone against padded {mates:.1e} "
            f"of the state's length {scale:.0f}"
        )
    assert packed < 1e-3
    assert mates < 1e-3


def test_bfloat16_points_the_same_way_and_does_not_depend_on_the_batch_either(
    model: FrozenLanguageModel, half: FrozenLanguageModel
):
    full, rounded = model.encode_texts(texts())[:, 0], half.encode_texts(texts())[:, 0]
    alone = torch.cat([half.encode_texts([text])[:, 0] for text in texts()])
    for first, second in ((full, rounded), (rounded, alone)):
        assert torch.cosine_similarity(first, second).min() > 0.999
        assert torch.cosine_similarity(first - full.mean(0), second - full.mean(0)).min() > 0.99


def recall(states: Tensor) -> tuple[float, float, float]:
    """R@1 of paraphrases over both directions, mean cosine of pairs and of strangers."""
    first, second = unit(states).chunk(2)
    cosines, own = first @ second.T, torch.arange(len(first))
    found = ((cosines.argmax(1) == own).float().mean() + (cosines.argmax(0) == own).float().mean()) / 2
    strangers = cosines[~torch.eye(len(own), dtype=torch.bool)].mean()
    return float(found), float(cosines.diag().mean()), float(strangers)


def test_paraphrases_find_each_other_and_centring_spreads_them(
    model: FrozenLanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bare = tmp_path / "bare.yaml"
    bare.write_text("template: '{}'\nfacets: ['\"']\n")
    found = {}
    for name in ("single", str(bare)):
        states = model.with_settings(prompt=name).encode_texts(texts())[:, 0]
        found[name] = recall(states), recall(states - states.mean(0))
    with capsys.disabled():
        for name, ways in found.items():
            for way, (share, pairs, strangers) in zip(("raw", "centred"), ways, strict=True):
                print(
                    f"\n{Path(name).stem} {way}: R@1 {share:.2f} of {len(PAIRS)} pairs, "
                    f"cosine {pairs:.3f} of pairs, {strangers:.3f} of strangers"
                )
    (raw, centred), (bare_raw, _) = found.values()
    assert centred[0] >= raw[0] > bare_raw[0]
    assert centred[0] >= 0.8
    assert raw[2] > 0.8  # one direction carries most of every state
    assert centred[2] < 0.1


def test_words_of_the_vocabulary_make_a_lexicon_and_a_caption_calls_for_its_own(
    model: FrozenLanguageModel, capsys: pytest.CaptureFixture[str]
):
    lexicon = model.lexicon()
    assert 20_000 < len(lexicon) < len(lexicon.of_token) * 0.8
    captions = [first for first, _ in PAIRS]
    scores = model.next_word_states(captions) @ model.output_embedding().T
    best = lexicon.merge(scores).topk(5).indices
    words = [[lexicon.words[i] for i in row] for row in best.tolist()]
    with capsys.disabled():
        print(
            f"\n{len(lexicon):,} words of {len(lexicon.of_token):,} entries; "
            f"{captions[0]} -> {', '.join(words[0])}"
        )
    assert sum(
        any(word in caption.lower() for word in own) for caption, own in zip(captions, words, strict=True)
    ) >= 0.8 * len(captions)


def test_speed(model: FrozenLanguageModel, half: FrozenLanguageModel, capsys: pytest.CaptureFixture[str]):
    captions = [f"{first} {second} {i}" for i, (first, second) in enumerate(PAIRS * 2)]
    rates = {}
    for name, requested in (("fp32", model), ("bf16", half)):
        requested.encode_texts(captions[:4])
        begun = time.perf_counter(), time.process_time()
        requested.encode_texts(captions)
        rates[name] = (
            len(captions) / (time.perf_counter() - begun[0]),
            len(captions) / (time.process_time() - begun[1]),
        )
    tokens = (
        sum(map(len, model._captions(captions))) / len(captions)
        + PromptTokens.of(model.prompt, model.model.backend).longest
    )
    with capsys.disabled():
        each = ", ".join(
            f"{name} {wall:.1f} captions/s ({own:.1f} a second of this process)"
            for name, (wall, own) in rates.items()
        )
        print(f"\nsingle prompt, {tokens:.0f} tokens a caption, {torch.get_num_threads()} thread: {each}")
    assert min(rates["fp32"]) > 0
