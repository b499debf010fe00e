"""Affinity mimicking and its plain baseline, feature matching: limits that follow from the formulas."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Features, TowerOutput
from frugalclip.functional import Affinity, affinity_loss, info_nce_loss, tiled, unit
from frugalclip.objectives.affinity import AffinityMimicking
from frugalclip.objectives.affinity import Config as AffinityConfig
from frugalclip.objectives.base import Dims
from frugalclip.objectives.contrastive import Config as ContrastiveConfig
from frugalclip.objectives.contrastive import Contrastive
from frugalclip.objectives.feature_matching import Config as MatchingConfig
from frugalclip.objectives.feature_matching import FeatureMatching

DIMS = Dims(8, 8, 6, 16, 8, (2, 2), 10)


def rows(seed: int, *, dim: int = 6, count: int = 10) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=draw, dtype=torch.float64)


def features(seed: int, *, dim: int = 6, scale: float = 20.0) -> Features:
    def outputs(x: Tensor) -> TowerOutput:
        return TowerOutput(None, x, x.requires_grad_())

    return Features(
        {"main": outputs(rows(seed, dim=dim))},
        {
            "caption": outputs(rows(seed + 1, dim=dim)),
            "generated": outputs(rows(seed + 2, dim=dim)),
        },
        torch.tensor(scale, dtype=torch.float64, requires_grad=True),
    )


def mimic(student: Features, *teachers: Features, **settings: Any):
    names = [f"teacher{number}" for number in range(len(teachers))]
    objective = AffinityMimicking(AffinityConfig(teachers=tuple(names), **settings), DIMS)
    return objective(replace(student, targets=dict(zip(names, teachers, strict=True))))


def gradient(loss: Tensor, student: Features) -> Tensor:
    return torch.autograd.grad(loss, student.images["main"].embedding)[0]


def test_a_teacher_like_the_student_gives_its_entropy_and_no_gradient():
    student, teacher = features(0), features(0)
    output = mimic(student, teacher)
    torch.testing.assert_close(output.loss, output.logs["teacher_entropy"])
    assert gradient(output.loss, student).abs().max() < 1e-12


def test_the_loss_is_never_below_the_entropy_of_the_teacher():
    for seed in range(5):
        output = mimic(features(seed), features(seed + 50, dim=9))
        assert output.loss.detach() >= output.logs["teacher_entropy"].detach()


def test_alpha_zero_is_clip():
    student = features(0)
    contrastive = Contrastive(ContrastiveConfig(), DIMS)(student)
    output = mimic(student, features(7), alpha=0.0)
    torch.testing.assert_close(output.loss, contrastive.loss, rtol=1e-6, atol=0)


def test_alpha_zero_reads_no_teacher():
    objective = AffinityMimicking(AffinityConfig(teachers=("a", "b"), scales=(50, 60), alpha=0.0), DIMS)
    assert not objective.needs().teachers
    student = features(0)
    torch.testing.assert_close(objective(student).loss, mimic(student, features(7), alpha=0.0).loss)


def test_a_sure_and_right_teacher_is_infonce():
    x = torch.eye(6, dtype=torch.float64)
    own = TowerOutput(None, x, x)
    teacher = Features({"main": own}, {"caption": own}, torch.tensor(1e4, dtype=torch.float64))
    student = features(0)
    student = replace(
        student,
        images={"main": TowerOutput(None, *[student.images["main"].embedding[:6]] * 2)},
        texts={"caption": TowerOutput(None, *[student.texts["caption"].embedding[:6]] * 2)},
    )
    image, text = unit(student.images["main"].embedding), unit(student.texts["caption"].embedding)
    hard = torch.stack(info_nce_loss(image, text, student.scale)).mean()
    torch.testing.assert_close(mimic(student, teacher).loss, hard)


def test_the_gradient_of_the_logits_is_the_difference_of_the_distributions():
    logits_of = features(0)
    image, text = unit(rows(0)), unit(rows(1))
    teacher = Affinity(unit(rows(5)), unit(rows(6)), torch.tensor(9.0, dtype=torch.float64))
    noise = torch.zeros(10, 10, dtype=torch.float64, requires_grad=True)
    scale = logits_of.scale.detach()
    log_student = torch.log_softmax(scale * image @ text.T + noise, dim=1)
    target = torch.softmax(teacher.logits(slice(0, 10)), dim=1)
    (-(target * log_student).sum(dim=1).mean()).backward()
    torch.testing.assert_close(noise.grad, (log_student.exp() - target).detach() / 10)
    loss, _ = affinity_loss(Affinity(image, text, scale), [teacher])
    torch.testing.assert_close(loss, -(target * log_student).sum(dim=1).mean().detach())


@pytest.mark.parametrize("average", ["after_softmax", "before_softmax"])
def test_equal_teachers_count_as_one(average: Any):
    student, teacher = features(0), features(9)
    one, two = mimic(student, teacher), mimic(student, teacher, teacher, average=average)
    torch.testing.assert_close(one.loss, two.loss)


def test_the_two_averages_differ_and_each_is_a_distribution():
    student, teachers = features(0), (features(9), features(19, dim=4, scale=60.0))
    after, before = (
        mimic(student, *teachers, average=average).loss for average in ("after_softmax", "before_softmax")
    )
    assert abs(float(after.detach() - before.detach())) > 1e-3
    assert float(mimic(student, *teachers).logs["teacher_entropy"]) <= math.log(10)


def test_kinds_of_captions_add_up():
    student, teacher = features(0), features(9)
    both = mimic(student, teacher, texts=("caption", "generated"), alpha=0.6).loss
    parts = [mimic(student, teacher, texts=(text,), alpha=0.6).loss for text in ("caption", "generated")]
    torch.testing.assert_close(both, parts[0] + parts[1])


def test_scales_replace_those_of_the_teachers():
    student, teacher = features(0), features(9, scale=50.0)
    other = replace(teacher, scale=torch.tensor(3.0, dtype=torch.float64))
    torch.testing.assert_close(mimic(student, teacher).loss, mimic(student, other, scales=(50.0,)).loss)


def test_a_large_batch_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch):
    from frugalclip.functional import affinity

    def run() -> tuple[Tensor, Tensor, Tensor]:
        student = features(0)
        output = mimic(student, features(9), features(19))
        return output.loss, gradient(output.loss, student), output.logs["teacher_entropy"]

    whole = run()
    monkeypatch.setattr(tiled, "TILE", 40)
    monkeypatch.setattr(affinity, "TILE", 40)  # four rows at a time
    for a, b in zip(whole, run(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_as_many_scales_as_teachers_or_none():
    with pytest.raises(ValueError, match="2 scales for 1 teachers"):
        AffinityConfig(scales=(50.0, 60.0))


def matching(student: Features, teacher: Features, **settings: Any):
    objective = FeatureMatching(MatchingConfig(**settings), DIMS).double()
    return objective(replace(student, targets={"teacher": teacher})), objective


def test_feature_matching_is_the_squared_distance_of_unit_vectors():
    student, teacher = features(0), features(9)
    output, _ = matching(student, teacher)
    image, text = (
        (2 - 2 * torch.cosine_similarity(a, b)).mean()
        for a, b in (
            (student.images["main"].embedding, teacher.images["main"].embedding),
            (student.texts["caption"].embedding, teacher.texts["caption"].embedding),
        )
    )
    torch.testing.assert_close(output.loss, image + text)
    assert float(matching(student, features(0))[0].loss.detach()) == pytest.approx(0, abs=1e-12)


def test_feature_matching_bridges_widths_or_names_them():
    output, objective = matching(features(0), features(9, dim=11), teacher_dim=11)
    output.loss.backward()
    assert objective.image_bridge is not None and objective.image_bridge.weight.grad is not None
    with pytest.raises(RecipeError, match="teacher_dim=11"):
        matching(features(0), features(9, dim=11))
