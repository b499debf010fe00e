"""Which words are predicted from what, the codebook, and codes that come back to life."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Batch, Dims, Features, Selection, Tokens, TowerOutput
from frugalclip.objectives.captioning import IGNORED, Captioning, Config, caption_loss, next_words
from frugalclip.towers.dual import DualEncoder, ModelConfig

DIMS = Dims(
    image_width=6, text_width=8, embedding=4, vocabulary=50, context=7, patch_grid=(2, 2), batch=5, seed=7
)
TEXTS = Tokens(torch.tensor([[0, 9, 8, 1, 2], [0, 7, 1, 2, 2]]), torch.tensor([4, 3]))


def an_objective(**settings: Any) -> Captioning:
    torch.manual_seed(0)
    return Captioning(validated(Config, settings, where="objectives.captioning"), DIMS).double()


def views(image: Tensor, hidden: Tensor, texts: Tokens = TEXTS, *, progress: float = 0.0) -> Features:
    one = torch.tensor(1.0)
    selection = Selection(ids=texts.ids, labels=next_words(texts))
    return Features(
        {"main": TowerOutput(image, image[:, 0], image[:, 0])},
        {"caption@next": TowerOutput(hidden, hidden[:, 0], hidden[:, 0])},
        one,
        selections={"caption@next": selection},
        progress=progress,
    )


def inputs(batch: int = 2, patches: int = 4) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    image = torch.randn(batch, patches, 6, generator=draw, dtype=torch.float64)
    return image, torch.randn(batch, 5, 8, generator=draw, dtype=torch.float64)


def test_each_word_predicts_the_next_one_up_to_the_end():
    expected = [[9, 8, 1, IGNORED, IGNORED], [7, 1, IGNORED, IGNORED, IGNORED]]
    assert next_words(TEXTS).tolist() == expected
    made = an_objective().prepare(Batch(torch.arange(2), {}, {"caption": TEXTS}), {})
    assert made["caption@next"].labels.tolist() == expected


def test_the_loss_is_the_mean_cross_entropy_written_as_loops_and_the_codebook_loss():
    objective, (image, hidden) = an_objective(codes=5), inputs()
    found = objective(views(image, hidden))
    codebook = objective.codebook.detach()
    codes = [[min(range(5), key=lambda k: float((z - codebook[k]).norm())) for z in one] for one in image]
    chosen = codebook[torch.tensor(codes)]
    states = objective.decoder(hidden, chosen)
    words = 0.0
    for row, place, word in ((0, 0, 9), (0, 1, 8), (0, 2, 1), (1, 0, 7), (1, 1, 1)):
        logits = objective.decoder.output(states[row, place]).tolist()
        words += math.log(sum(map(math.exp, logits))) - logits[word]
    apart = float((chosen - image).pow(2).mean())
    assert found.loss.item() == pytest.approx(words / 5 + 1.25 * apart, abs=1e-10)
    assert found.logs["caption"].item() == pytest.approx(words / 5, abs=1e-10)


def test_towers_may_compute_in_bf16():
    objective, (image, hidden) = an_objective().float(), inputs()
    low = [outputs.bfloat16().requires_grad_() for outputs in (image, hidden)]
    found = objective(views(*low)).loss
    found.backward()
    assert found.item() == pytest.approx(
        objective(views(image.float(), hidden.float())).loss.item(), rel=0.02
    )
    assert all(outputs.grad is not None for outputs in low)


def test_guessing_is_worth_the_logarithm_of_the_vocabulary():
    output = torch.nn.Linear(8, 50)
    for tensor in output.parameters():
        torch.nn.init.zeros_(tensor)
    total, words, _ = caption_loss(torch.randn(2, 5, 8), next_words(TEXTS), output)
    assert (total / words).item() == pytest.approx(math.log(50), abs=1e-5)


def test_no_word_is_predicted_from_a_later_one():
    objective, (image, hidden) = an_objective(), inputs()
    before = objective.decoder(hidden, image)
    hidden[:, 3:] = hidden[:, 3:].flip(2)
    after = objective.decoder(hidden, image)
    assert torch.equal(before[:, :3], after[:, :3]) and not torch.allclose(before[:, 3:], after[:, 3:])


@pytest.mark.parametrize("convention", ["standard", "legacy"])
def test_both_conventions_have_one_value_and_other_gradients(convention: str):
    image, hidden = inputs()
    objective = an_objective(codes=5, convention=convention)
    image.requires_grad_()
    found = objective(views(image, hidden))
    found.loss.backward()
    other = an_objective(codes=5, convention={"standard": "legacy", "legacy": "standard"}[convention])
    assert other(views(image.detach(), hidden)).loss.item() == found.loss.item()
    other(views(image.detach(), hidden)).loss.backward()
    ratio = objective.codebook.grad.norm() / other.codebook.grad.norm()
    assert ratio.item() == pytest.approx(4 if convention == "standard" else 0.25)


def test_without_a_codebook_the_decoder_reads_features():
    objective, (image, hidden) = an_objective(codes=0), inputs()
    image.requires_grad_()
    found = objective(views(image, hidden))
    found.loss.backward()
    assert set(found.logs) == {"caption", "accuracy"} and image.grad.abs().sum() > 0
    objective.after_step(views(image, hidden))


def test_codes_begin_as_tokens_of_the_batch_and_dead_ones_come_back():
    objective, (image, hidden) = an_objective(codes=12, reseed_after=3), inputs()
    tokens, start = image.flatten(0, 1), objective.codebook.detach().clone()
    is_used = torch.cdist(tokens, start).argmin(1).bincount(minlength=12) > 0
    objective.after_step(views(image, hidden))
    first = objective.codebook.detach().clone()
    assert torch.equal(first[is_used], start[is_used])
    assert (torch.cdist(first[~is_used], tokens).min(1).values < 1e-9).all()
    far = image + 100  # few codes are nearest to these
    is_used = torch.cdist(far.flatten(0, 1), first).argmin(1).bincount(minlength=12) > 0
    for turn in (1, 2):
        objective.after_step(views(far, hidden, progress=turn / 10))
        assert torch.equal(objective.codebook, first)
    objective.after_step(views(far, hidden, progress=0.3))
    assert torch.equal(objective.codebook[is_used], first[is_used])
    assert (objective.codebook[~is_used] > 90).all()


def test_draws_depend_on_the_place_in_the_run():
    image, hidden = inputs()
    one, same, other = (an_objective(codes=12) for _ in range(3))
    for objective, progress in ((one, 0.5), (same, 0.5), (other, 0.25)):
        objective.after_step(views(image, hidden, progress=progress))
    assert torch.equal(one.codebook, same.codebook) and not torch.equal(one.codebook, other.codebook)


def test_a_tower_that_sees_later_words_is_refused():
    config = {"image": "nano", "text": {"size": "nano", "attention": "bidirectional"}}
    with torch.device("meta"):
        network = DualEncoder(ModelConfig.model_validate(config), vocabulary=9, context=8, seed=None)
    with pytest.raises(RecipeError, match=r"next word.*text\.attention=causal"):
        network.check(an_objective().needs(), averages=())


@pytest.mark.parametrize(("settings", "sentence"), [({"codes": 1}, "codes=1024"), ({"heads": 3}, "divisor")])
def test_wrong_settings_name_what_to_set(settings: dict[str, Any], sentence: str):
    with pytest.raises(RecipeError, match=sentence):
        an_objective(**settings)
