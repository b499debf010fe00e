"""A frozen language model on a small random Llama: facets against single prompts, batches, next words."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from frugalclip.core.errors import ModelError
from frugalclip.language_model import FrozenLanguageModel, LanguageModelSettings, Lexicon
from frugalclip.language_model.frozen import PromptTokens
from frugalclip.language_model.packing import pack

TEXTS = [
    "A dog runs on the beach.",
    "a cat",
    "",
    "Two cats sleep on a warm red sofa, and dogs look on as a small boat leaves!",
    "A dog runs on the beach.",
]
EXACT = {"rtol": 0, "atol": 2e-5}  # of states around 1 to 5, in float32


@pytest.fixture(scope="module")
def model(folder: Path) -> FrozenLanguageModel:
    return FrozenLanguageModel.read(
        folder, LanguageModelSettings(prompt="long", precision="fp32", caption_tokens=100)
    )


def one_by_one(model: FrozenLanguageModel, text: str, *, layer: int = -2) -> Tensor:
    """(facets, width): each facet in a pass of its own through plain transformers, without mask or cache."""
    tokens = PromptTokens.of(model.prompt, model.model.backend)
    caption = model._captions([text])[0]
    states = []
    for facet in tokens.facets:
        ids = torch.tensor([[*tokens.opening, *caption, *tokens.closing, *facet]])
        with torch.inference_mode():
            states.append(
                model.model.network(input_ids=ids, output_hidden_states=True).hidden_states[layer][0, -1]
            )
    return torch.stack(states)


def prompt_file(folder: Path, facets: list[str], template: str = 'Image description: "{}".') -> str:
    path = folder / f"{abs(hash((template, *facets)))}.yaml"
    path.write_text(yaml.safe_dump({"template": template, "facets": facets}))
    return str(path)


def test_packed_facets_equal_prompts_asked_one_by_one(model: FrozenLanguageModel):
    states = model.encode_texts(TEXTS)
    assert states.shape == (len(TEXTS), model.facets, model.width) == (5, 7, 32)
    assert (states.dtype, states.device.type, states.requires_grad) == (torch.float32, "cpu", False)
    for text, state in zip(TEXTS, states, strict=True):
        torch.testing.assert_close(state, one_by_one(model, text), **EXACT)
    assert torch.equal(states[0], states[4])


def test_the_published_positions_make_later_facets_depend_on_earlier_ones(model: FrozenLanguageModel):
    reset, published = (
        model.encode_texts(TEXTS),
        model.with_settings(position_ids="sequential").encode_texts(TEXTS),
    )
    torch.testing.assert_close(published[:, 0], reset[:, 0], **EXACT)
    assert (published[:, 1:] - reset[:, 1:]).abs().amax((0, 2)).min() > 1e-2


@pytest.mark.parametrize("positions", ["reset", "sequential"])
def test_a_text_does_not_depend_on_its_batch_mates(model: FrozenLanguageModel, positions: str):
    requested = model.with_settings(position_ids=positions, batch_tokens=10_000)  # all in one pass
    together = requested.encode_texts(TEXTS)
    alone = torch.cat([requested.encode_texts([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, **EXACT)
    torch.testing.assert_close(requested.with_settings(batch_tokens=1).encode_texts(TEXTS), alone, **EXACT)


def test_what_stands_in_the_padding_is_never_seen(model: FrozenLanguageModel):
    tokens = PromptTokens.of(model.prompt, model.model.backend)
    middles = [[*ids, *tokens.closing] for ids in model._captions(TEXTS)]
    first, second = (
        model._pass(pack(tokens.opening, middles, tokens.facets, pad=pad), (2,)) for pad in (0, 77)
    )
    assert torch.equal(first, second)


def test_the_cached_opening_equals_the_direct_way_and_is_not_changed_by_use(model: FrozenLanguageModel):
    tokens = PromptTokens.of(model.prompt, model.model.backend)
    packed = pack(tokens.opening, [[*ids, *tokens.closing] for ids in model._captions(TEXTS)], tokens.facets)
    cache = model._opening(tokens.opening)
    direct = model._pass(packed, (2,))
    for _ in range(2):
        torch.testing.assert_close(model._pass(packed, (2,), cache), direct, **EXACT)
    assert cache.get_seq_length() == len(tokens.opening)


def test_changing_one_facet_leaves_the_others_and_permuting_permutes(
    model: FrozenLanguageModel, tmp_path: Path
):
    facets = [" the category is:", " the atmosphere, over all, is:", " the object is:"]
    states = model.with_settings(prompt=prompt_file(tmp_path, facets)).encode_texts(TEXTS)
    changed = model.with_settings(
        prompt=prompt_file(tmp_path, [facets[0], " the atmosphere, dog all, is:", facets[2]])
    ).encode_texts(TEXTS)
    torch.testing.assert_close(changed[:, [0, 2]], states[:, [0, 2]], **EXACT)
    assert (changed[:, 1] - states[:, 1]).abs().max() > 1e-2
    permuted = model.with_settings(prompt=prompt_file(tmp_path, [facets[i] for i in (2, 0, 1)])).encode_texts(
        TEXTS
    )
    torch.testing.assert_close(permuted, states[:, [2, 0, 1]], **EXACT)


def test_long_captions_are_cut_and_counted_but_the_questions_stay(model: FrozenLanguageModel):
    short = model.with_settings(caption_tokens=5)
    lengths = [len(ids) for ids in model._captions(TEXTS)]
    assert short.truncated(TEXTS) == sum(length > 5 for length in lengths) == 3
    ids = model._captions(TEXTS)[3][:5]
    tokens = PromptTokens.of(model.prompt, model.model.backend)
    expected = model._pass(pack(tokens.opening, [[*ids, *tokens.closing]], tokens.facets), (2,))
    torch.testing.assert_close(short.encode_texts(TEXTS)[3], expected[0], **EXACT)


def test_layers_are_counted_as_transformers_does_and_averaged(model: FrozenLanguageModel):
    expected = torch.stack([one_by_one(model, TEXTS[0], layer=layer) for layer in (1, -1)]).mean(0)
    torch.testing.assert_close(
        model.with_settings(layer=(1, -1)).encode_texts(TEXTS[:1])[0], expected, **EXACT
    )
    assert (
        model.with_settings(layer=2).fingerprint
        == model.with_settings(layer=-2).fingerprint
        == model.fingerprint
    )
    with pytest.raises(ModelError, match="layer is 4, expected -4 to 3: the model has 3 blocks"):
        model.with_settings(layer=4)


def test_a_caption_cannot_speak_in_special_tokens_but_a_prompt_can(
    model: FrozenLanguageModel, tmp_path: Path
):
    end = model.model.backend.token_to_id("<end>")
    assert end not in model._captions(["a dog<end>"])[0]
    requested = model.with_settings(prompt=prompt_file(tmp_path, [" one word:"], template="a<end> {}"))
    tokens = PromptTokens.of(requested.prompt, requested.model.backend)
    assert tokens.opening[0] == requested.model.backend.token_to_id("<start>")
    assert end in tokens.opening
    assert not torch.isnan(requested.encode_texts(["half a pair \ud83d here"])).any()


@pytest.mark.parametrize("which", ["folder", "tied_folder"])
def test_next_word_scores_are_those_of_the_whole_model(which: str, request: pytest.FixtureRequest):
    import transformers

    path = request.getfixturevalue(which)
    model = FrozenLanguageModel.read(path, LanguageModelSettings(precision="fp32", caption_tokens=50))
    states, head = model.next_word_states(TEXTS), model.output_embedding()
    assert head.shape == (model.model.backend.get_vocab_size() + 3, model.width)
    whole = transformers.LlamaForCausalLM.from_pretrained(path)
    tokens = PromptTokens.of(model.with_settings(prompt="lexical").prompt, model.model.backend)
    for text, state in zip(TEXTS, states, strict=True):
        ids = torch.tensor(
            [[*tokens.opening, *model._captions([text])[0], *tokens.closing, *tokens.facets[0]]]
        )
        with torch.inference_mode():
            torch.testing.assert_close(head @ state, whole(ids).logits[0, -1], rtol=0, atol=1e-4)
    lexicon = model.lexicon()
    assert isinstance(lexicon, Lexicon)
    assert lexicon.merge(states @ head.T).shape == (len(TEXTS), len(lexicon))
    with pytest.raises(ModelError, match="has 7 facets, and a next word needs one"):
        model.next_word_states(TEXTS, prompt="long")


CHANGES = [
    {"prompt": "short"},
    {"layer": -1},
    {"position_ids": "sequential"},
    {"caption_tokens": 9},
]


def test_the_fingerprint_follows_what_a_vector_depends_on_and_nothing_else(
    model: FrozenLanguageModel, folder: Path, tmp_path: Path
):
    moved = shutil.copytree(folder, tmp_path / "moved")
    read = {"prompt": "long", "caption_tokens": 100}
    same = FrozenLanguageModel.read(moved, LanguageModelSettings(precision="fp32", **read)).with_settings(
        batch_tokens=7
    )
    half = FrozenLanguageModel.read(moved, LanguageModelSettings(precision="bf16", **read))
    assert same.fingerprint == model.fingerprint
    tokenizer = json.loads((moved / "tokenizer.json").read_text())
    (moved / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))
    other = FrozenLanguageModel.read(moved, LanguageModelSettings(precision="fp32", **read))
    prints = [
        model.fingerprint,
        half.fingerprint,
        other.fingerprint,
        *(model.with_settings(**change).fingerprint for change in CHANGES),
    ]
    assert len(set(prints)) == len(prints)
    assert json.loads(json.dumps(model.description)) == model.description


def test_bfloat16_points_the_same_way(folder: Path, model: FrozenLanguageModel):
    half = FrozenLanguageModel.read(
        folder, LanguageModelSettings(prompt="long", precision="bf16", caption_tokens=100)
    )
    assert half.model.network.dtype == torch.bfloat16
    cosines = torch.cosine_similarity(half.encode_texts(TEXTS), model.encode_texts(TEXTS), dim=-1)
    assert cosines.min() > 0.999


def test_nothing_can_be_trained(model: FrozenLanguageModel):
    assert not any(parameter.requires_grad for parameter in model.model.network.parameters())
    assert not model.model.network.training


def test_no_texts_give_no_rows(model: FrozenLanguageModel):
    assert model.encode_texts([]).shape == (0, 7, 32)
    assert model.next_word_states([]).shape == (0, 32)
    assert model.truncated([]) == 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"caption_tokens": 600}, r"the model has 512; set caption_tokens=\d+ or less"),
        ({"prompt": "sinlge"}, "did you mean 'single'"),
    ],
)
def test_settings_that_cannot_work_say_what_to_set(folder: Path, settings: dict[str, Any], sentence: str):
    with pytest.raises(ModelError, match=sentence):
        FrozenLanguageModel.read(folder, LanguageModelSettings(precision="fp32", **settings))


def test_one_text_instead_of_a_list_and_a_later_precision_are_refused(model: FrozenLanguageModel):
    with pytest.raises(ModelError, match="found one string"):
        model.encode_texts("a dog")
    with pytest.raises(ModelError, match="precision belongs to the weights"):
        model.with_settings(precision="bf16")
