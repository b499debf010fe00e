"""Prototype losses and their targets against loops, back translation, and what an episode leaves behind."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.core.numerics import cluster_means, kmeans, nearest_centres
from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.functional import unit
from frugalclip.objectives.base import Needs
from frugalclip.objectives.prototypes import Config, Prototypes, prototype_loss

SCALE = torch.tensor(6.0, dtype=torch.float64)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def an_objective(*, episode: int = 24, samples: int = 24, **settings: Any) -> Prototypes:
    dims = Dims(
        image_width=6,
        text_width=8,
        embedding=4,
        vocabulary=10,
        context=5,
        patch_grid=(2, 2),
        batch=6,
        seed=1,
        episode=episode,
        samples=samples,
    )
    torch.manual_seed(0)
    settings = {"number": 4, "hidden": 8, "out": 5} | settings
    return Prototypes(validated(Config, settings, where="objectives.prototypes"), dims).double()


def views(ids: list[int], *, seed: int = 0) -> Features:
    """Features that follow from the id alone."""
    images = torch.stack([rows(4, seed=1000 * seed + i) for i in ids]).requires_grad_()
    texts = torch.stack([rows(4, seed=1000 * seed + 500 + i) for i in ids]).requires_grad_()
    vectors = torch.stack([rows(3, seed=1000 * seed + 800 + i) for i in ids])
    target = Features({}, {"caption": TowerOutput(None, vectors, vectors)}, torch.tensor(1.0))
    encoded = [TowerOutput(None, x, x) for x in (images, texts)]
    return Features(
        {"main": encoded[0]},
        {"caption": encoded[1]},
        torch.tensor(1.0),
        targets={"bag": target},
        fields={"id": torch.tensor(ids)},
    )


def episode(ids: range | list[int], *, size: int = 6, seed: int = 0) -> Iterator[Features]:
    ids = list(ids)
    return (views(ids[i : i + size], seed=seed) for i in range(0, len(ids), size))


def began(objective: Prototypes, ids: range | list[int] = range(24), *, seed: int = 0) -> Prototypes:
    objective.eval()  # as the step does it: features of the towers as they are
    objective.begin_episode(episode(ids, seed=seed))
    return objective


# The loss of one direction


@pytest.mark.parametrize("temperature", [0.0, 0.2])
def test_matches_loops(temperature: float):
    h, space, teacher, labels = (
        unit(rows(7, 5)),
        rows(4, 5, seed=1),
        rows(4, 3, seed=2),
        torch.tensor([0, 3, 1, 1, 2, 0, 3]),
    )
    total, hits = 0.0, 0
    for i in range(7):
        logits = [
            6 * sum(a * b for a, b in zip(h[i].tolist(), space[k].tolist(), strict=True)) for k in range(4)
        ]
        target = [float(k == labels[i]) for k in range(4)]
        if temperature:
            likeness = [
                math.exp(
                    sum(a * b for a, b in zip(teacher[labels[i]].tolist(), row, strict=True)) / temperature
                )
                for row in teacher.tolist()
            ]
            target = [x / sum(likeness) for x in likeness]
        norm = math.log(sum(math.exp(x) for x in logits))
        total -= sum(q * (x - norm) for q, x in zip(target, logits, strict=True))
        hits += logits.index(max(logits)) == labels[i]
    loss, accuracy = prototype_loss(
        h, space, SCALE, labels, teacher_prototypes=teacher, temperature=temperature
    )
    assert loss.item() == pytest.approx(total / 7, abs=1e-12) and accuracy.item() == pytest.approx(hits / 7)


def test_the_gradient_of_logits_is_softmax_minus_target_by_row():
    h, teacher, labels = unit(rows(3, 5)), rows(4, 3, seed=2), torch.tensor([0, 3, 1])
    space = torch.eye(5, dtype=torch.float64)[:4]
    given = h.clone().requires_grad_()
    prototype_loss(given, space, SCALE, labels, teacher_prototypes=teacher, temperature=0.5)[0].backward()
    logits, targets = 6 * h @ space.T, torch.softmax(teacher[labels] @ teacher.T / 0.5, dim=1)
    torch.testing.assert_close(given.grad[:, :4], 6 * (logits.softmax(1) - targets) / 3, rtol=0, atol=1e-12)
    inputs = (h.clone().requires_grad_(), torch.tensor(1.2, dtype=torch.float64, requires_grad=True))
    assert torch.autograd.gradcheck(
        lambda x, a: prototype_loss(x, space, a.exp(), labels, teacher_prototypes=teacher, temperature=0.5)[
            0
        ],
        inputs,
    )


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_prototypes_of_zeros_give_chance_and_no_gradient(temperature: float):
    h, zeros = unit(rows(7, 5)).requires_grad_(), torch.zeros(4, 5, dtype=torch.float64)
    loss, _ = prototype_loss(
        h, zeros, SCALE, torch.zeros(7).long(), teacher_prototypes=rows(4, 3), temperature=temperature
    )
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4), abs=1e-12) and h.grad.abs().max() == 0


def test_one_prototype_has_no_loss():
    loss, accuracy = prototype_loss(
        unit(rows(7, 5)),
        rows(1, 5),
        SCALE,
        torch.zeros(7).long(),
        teacher_prototypes=rows(1, 3),
        temperature=0.01,
    )
    assert loss.item() == 0 and accuracy.item() == 1


def test_a_cluster_without_samples_still_takes_part_with_a_logit_of_zero():
    h, space = unit(rows(3, 5)), torch.cat([rows(2, 5, seed=1), torch.zeros(1, 5, dtype=torch.float64)])
    logits = 6 * h @ space[:2].T
    expected = torch.log(logits.exp().sum(1) + 1) - logits[:, 0]
    assert prototype_loss(h, space, SCALE, torch.zeros(3).long())[0].item() == pytest.approx(
        expected.mean().item(), abs=1e-12
    )


def test_targets_go_from_hard_to_uniform_with_the_temperature():
    h, space, labels = unit(rows(7, 5)), rows(4, 5, seed=1), torch.tensor([0, 3, 1, 1, 2, 0, 3])
    teacher = unit(rows(4, 3, seed=2))  # of equal length each is its own best match
    hard = prototype_loss(h, space, SCALE, labels)[0].item()
    assert prototype_loss(h, space, SCALE, labels, teacher_prototypes=teacher, temperature=1e-4)[
        0
    ].item() == pytest.approx(hard, abs=1e-9)
    with_empty = torch.cat([teacher[:3], torch.zeros(1, 3, dtype=torch.float64)])
    uniform = -(6 * h @ space.T).log_softmax(1).mean().item()
    for prototypes in (teacher, with_empty):
        loss, _ = prototype_loss(h, space, SCALE, labels, teacher_prototypes=prototypes, temperature=1e9)
        assert loss.item() == pytest.approx(uniform, abs=1e-7)


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_the_numbering_of_clusters_does_not_matter(temperature: float):
    h, space, teacher, labels = (
        unit(rows(7, 5)),
        rows(4, 5, seed=1),
        rows(4, 3, seed=2),
        torch.tensor([0, 3, 1, 1, 2, 0, 3]),
    )
    loss, accuracy = prototype_loss(
        h, space, SCALE, labels, teacher_prototypes=teacher, temperature=temperature
    )
    order = torch.tensor([2, 0, 3, 1])  # new number k is old number order[k]
    moved = prototype_loss(
        h,
        space[order],
        SCALE,
        order.argsort()[labels],
        teacher_prototypes=teacher[order],
        temperature=temperature,
    )
    assert moved[0].item() == pytest.approx(loss.item(), abs=1e-12) and moved[1] == accuracy


def test_back_translation_does_not_care_where_the_teachers_space_lies():
    images, texts = unit(rows(60, 5)), unit(rows(60, 5, seed=1))
    turn, offset = torch.linalg.qr(rows(5, 5, seed=3)).Q, 3 * rows(5, seed=2)
    losses = []
    for moved in (texts, texts + offset, texts @ turn, texts @ turn + offset):
        clusters = kmeans(moved, 4, start=moved[:4])
        translated, hard = cluster_means(images, clusters.labels, 4), {"labels": clusters.labels}
        losses.append(
            [
                prototype_loss(images, space, SCALE, **hard)[0].item()
                for space in (translated, clusters.centres)
            ]
        )
    with_it, without = zip(*losses, strict=True)
    assert with_it == pytest.approx([with_it[0]] * 4, abs=1e-9)
    assert without[1] == pytest.approx(without[0], abs=1e-9), (
        "an offset is the same for every prototype, and a softmax takes no notice"
    )
    assert abs(without[2] - without[0]) > 1e-2, (
        "turned away from the student's axes, plain centres mean something else"
    )


# The objective over episodes


def test_before_the_first_episode_nothing_is_trained():
    objective, given = an_objective(), views([1, 2])
    outcome = objective(given)
    (outcome.loss + given.images["main"].embedding.sum()).backward()
    assert outcome.loss.item() == 0 and outcome.logs["known"] == 0
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in objective.parameters())
    assert (given.images["main"].embedding.grad == 1).all()


def test_labels_belong_to_ids_and_prototypes_are_as_written():
    objective = began(an_objective(temperature=0.1))
    whole = views(list(range(24)))
    image, text = (x.detach() for x in objective.project(whole))
    own_image, own_text = objective.own
    label_image, label_text = nearest_centres(image, own_image), nearest_centres(text, own_text)
    torch.testing.assert_close(
        objective.translated[0], cluster_means(image, label_text, 4), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        objective.translated[1], cluster_means(text, label_image, 4), rtol=0, atol=1e-12
    )
    ids = [7, 3, 22, 15]
    h_image, h_text = objective.project(views(ids))
    scale = objective.log_scale.exp()
    terms = [
        prototype_loss(
            h_image,
            objective.translated[0],
            scale,
            label_text[ids],
            teacher_prototypes=own_text,
            temperature=0.1,
        )[0],
        prototype_loss(
            h_text,
            objective.translated[1],
            scale,
            label_image[ids],
            teacher_prototypes=own_image,
            temperature=0.1,
        )[0],
    ]
    outcome = objective(views(ids))
    assert (
        outcome.loss.item() == pytest.approx(sum(terms).item() / 2, abs=1e-12) and outcome.logs["known"] == 1
    )
    assert len(set(label_image.tolist())) > 1 and not label_image.equal(label_text)


def test_without_back_translation_rows_meet_the_other_modalitys_own_centres():
    objective = began(an_objective(back_translation=False, temperature=0))
    whole = views(list(range(24)))
    image, text = objective.project(whole)
    labels = [
        nearest_centres(x.detach(), c) for x, c in ((image, objective.own[0]), (text, objective.own[1]))
    ]
    scale = objective.log_scale.exp()
    expected = (
        prototype_loss(image, objective.own[1], scale, labels[1])[0]
        + prototype_loss(text, objective.own[0], scale, labels[0])[0]
    )
    assert objective(whole).loss.item() == pytest.approx(expected.item() / 2, abs=1e-12)


def test_the_order_of_an_episode_does_not_matter():
    plain = began(an_objective())
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = began(an_objective(), order)
    assert shuffled.labels.equal(plain.labels) and shuffled.ids.equal(plain.ids)
    torch.testing.assert_close(shuffled.translated, plain.translated, rtol=0, atol=1e-12)


def test_rows_that_the_episode_did_not_hold_are_left_out():
    objective = began(an_objective(), range(0, 48, 2))
    outcome = objective(views([2, 3, 10, 11, 99]))
    assert outcome.loss.item() == pytest.approx(
        objective(views([2, 10])).loss.item(), abs=1e-12
    ) and outcome.logs["known"].item() == pytest.approx(0.4)
    nothing = objective(views([3, 99]))
    assert nothing.loss.item() == 0 and nothing.logs["known"] == 0


def test_a_new_episode_leaves_nothing_of_the_last_one():
    objective = began(began(an_objective()), range(100, 118))
    fresh = began(an_objective(), range(100, 118))
    assert objective(views([3, 7])).logs["known"] == 0, "rows of the last episode"
    assert objective(views([100, 117])).loss.equal(fresh(views([100, 117])).loss)


def test_gradients_reach_both_embeddings_heads_and_scale_and_nothing_cached():
    objective, given = began(an_objective()), views([1, 2, 3, 4, 5])
    objective(given).loss.backward()
    assert (
        given.images["main"].embedding.grad.abs().max() > 1e-6
        and given.texts["caption"].embedding.grad.abs().max() > 1e-6
    )
    assert all(p.grad is not None for p in objective.parameters()) and objective.log_scale.grad.abs() > 0
    assert not any(b.requires_grad for b in objective.buffers())


def test_heads_are_equal_at_the_start_and_hold_what_the_settings_say():
    objective = an_objective(layers=2)
    for one, other in zip(objective.image_head.parameters(), objective.text_head.parameters(), strict=True):
        assert one.equal(other) and one is not other
    assert [type(m).__name__ for m in objective.image_head] == [
        "Linear",
        "SynchronisedBatchNorm1d",
        "ReLU",
    ] * 2 + ["Linear"]
    assert [type(m).__name__ for m in an_objective(layers=0).image_head] == ["Linear"]


def test_an_external_teacher_adds_hard_targets_of_its_own_clusters():
    plain, objective = (
        began(an_objective()),
        began(an_objective(external="bag", external_number=3, external_weight=0.5)),
    )
    whole = views(list(range(24)))
    labels = objective.labels[2, :24].long()
    vectors = whole.targets["bag"].texts["caption"].embedding
    assert labels.max() == 2 and labels.equal(nearest_centres(vectors, cluster_means(vectors, labels, 3))), (
        "the clustering has settled"
    )
    image, text = objective.project(whole)
    terms = [
        prototype_loss(h, cluster_means(h.detach(), labels, 3), objective.log_scale.exp(), labels)[0]
        for h in (image, text)
    ]
    outcome = objective(whole)
    assert outcome.logs["external_loss"].item() == pytest.approx(sum(terms).item() / 2, abs=1e-12)
    assert outcome.loss.item() == pytest.approx(
        plain(whole).loss.item() + 0.5 * sum(terms).item() / 2, abs=1e-12
    )


def test_a_checkpoint_brings_labels_and_prototypes_back():
    objective, again = began(an_objective(external="bag")), an_objective(external="bag").eval()
    again.load_state_dict(objective.state_dict())
    assert again(views([4, 9])).loss.equal(objective(views([4, 9])).loss)


@pytest.mark.parametrize(("reached", "after"), [(1e4, 100), (1e-4, 1), (7, 7)])
def test_the_scale_is_held_between_one_and_a_hundred(reached: float, after: float):
    objective = an_objective()
    objective.log_scale.data.fill_(math.log(reached))
    objective.after_step(views([1]))
    assert objective.log_scale.exp().item() == pytest.approx(after, rel=1e-6)


# Features of the last training pass


def passed(objective: Prototypes, ids: list[int], *, seed: int = 0) -> None:
    given = views(ids, seed=seed)
    objective(given)
    objective.after_step(given)


def test_reused_features_are_those_of_a_rows_last_pass():
    objective = an_objective(features="reuse").eval()
    for ids in ([5, 1, 9], [30, 2, 5], [11, 1, 0]):
        passed(objective, ids, seed=ids[0])
    assert objective.ids[: int(objective.filled)].tolist() == [0, 1, 2, 5, 9, 11, 30]
    last = {0: 11, 1: 11, 2: 30, 5: 30, 9: 5, 11: 11, 30: 30}
    for place, (row, seed) in enumerate(last.items()):
        image, text = objective.project(views([row], seed=seed))
        torch.testing.assert_close(
            objective.remembered[:, place], torch.cat([image, text]).detach(), rtol=0, atol=1e-12
        )


def test_a_row_twice_in_a_step_is_remembered_once():
    objective = an_objective(features="reuse", episode=6, samples=6, number=2).eval()
    for ids in ([5, 1, 5, 5], [1, 2, 1, 3], [0, 4, 4, 0]):
        passed(objective, ids)
    assert int(objective.filled) == 6 and objective.ids.tolist() == [0, 1, 2, 3, 4, 5]
    for row in range(6):
        image, text = objective.project(views([row]))
        torch.testing.assert_close(
            objective.remembered[:, row], torch.cat([image, text]).detach(), rtol=0, atol=1e-12
        )


def test_reused_features_are_clustered_once_an_episode_of_them_is_there():
    objective = an_objective(features="reuse").eval()
    for start in (0, 6, 12):
        passed(objective, list(range(start, start + 6)))
    objective.begin_episode(iter(()))
    assert objective(views([1])).logs["known"] == 0, "18 of 24 are too few"
    passed(objective, list(range(18, 24)))
    objective.begin_episode(iter(()))
    assert objective(views([1, 23])).loss.item() == pytest.approx(
        began(an_objective())(views([1, 23])).loss.item(), abs=1e-9
    )


def test_what_is_remembered_after_a_clustering_has_no_label_yet_and_moves_no_other():
    objective = an_objective(features="reuse", samples=40).eval()
    for start in (1, 7, 13, 19):
        passed(objective, list(range(start, start + 6)))
    objective.begin_episode(iter(()))
    before = objective(views([1, 24])).loss
    passed(objective, [0, 10, 35])
    assert objective(views([0, 35])).logs["known"] == 0
    assert objective(views([1, 24])).loss.equal(before)


# What it needs and refuses


def test_needs_follow_the_configuration():
    assert an_objective().needs() == Needs(
        frozenset({"main"}), frozenset({"caption"}), fields=frozenset({"id"}), episode=True
    )
    assert not an_objective(features="reuse").needs().episode
    assert an_objective(external="bag").needs().teachers == {"bag:caption"}


def test_what_cannot_be_clustered_says_what_to_set():
    with pytest.raises(
        RecipeError, match=r"the recipe has none; set episode\.samples, such as episode\.samples=20000"
    ):
        an_objective(episode=0, samples=24)
    with pytest.raises(
        RecipeError,
        match=r"prototypes\.number is 25, but an episode has 24 samples; set fewer, or more episode\.samples",
    ):
        an_objective(number=25)
    with pytest.raises(
        RecipeError, match=r"prototypes\.external_number is 25, but an episode has 24 samples"
    ):
        an_objective(external="bag", external_number=25)
    with pytest.raises(
        RecipeError,
        match=r"features is reuse, which stores the student's features only; set features=exact or "
        r"leave external out",
    ):
        an_objective(external="bag", features="reuse")


def test_a_rest_of_the_run_that_is_too_short_an_episode_is_not_clustered():
    assert began(an_objective(), range(4)).is_ready
    assert not began(an_objective(), range(3)).is_ready


def test_a_tenth_of_the_episode_unless_said():
    assert (
        an_objective(number=None, episode=50, samples=90).number == 5
        and an_objective(number=None, episode=4).number == 1
    )
    assert an_objective(number=None, episode=50, samples=30).number == 3, (
        "an episode of fewer samples shows them several times"
    )
    with pytest.raises(RecipeError, match="number is 31, but there are 30 samples to train on; set 3 or so"):
        an_objective(number=31, episode=50, samples=30)
