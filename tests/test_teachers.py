"""Teachers: an average that follows, a model that stays, vectors computed before; none of them learns."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from frugalclip.core.averages import momentum_at
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.types import Batch, CachedFeatures, Needs, Tokens
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.data.token_cut import TokenCut
from frugalclip.data.tokens import Tokenizer, train_tokenizer
from frugalclip.features.format import EncoderRecord, Origin, read_head, texts_digest, write_head
from frugalclip.features.store import Store
from frugalclip.features.writer import Part, RowKey, write_store
from frugalclip.models import Model
from frugalclip.teachers import (
    EmaTeacher,
    FrozenTeacher,
    StoredTeacher,
    TeacherConfig,
    TeacherRequest,
    build_teachers,
    open_stores,
    request_of,
)
from frugalclip.towers.dual import DualEncoder, ModelConfig

CAPTIONS = [["a red square", "red"], [], ["blue"], ["a green one"], []]
EVERYTHING = TeacherRequest(images=frozenset({"main"}), texts=frozenset({"caption"}))


def a_network(*, seed: int = 0, resolution: int = 16, vocabulary: int = 300) -> DualEncoder:
    image = {"width": 32, "depth": 1, "head_dim": 16, "patch": 8, "resolution": resolution}
    config = ModelConfig.model_validate(
        {"image": image, "text": {"width": 32, "depth": 1, "head_dim": 16}, "dim": 12}
    )
    return DualEncoder(config, vocabulary=vocabulary, context=8, seed=seed)


def a_tokenizer(*captions: str) -> Tokenizer:
    return train_tokenizer(captions or ("a red square", "a blue circle"), vocabulary=600, context=8)


def a_model(**changes: Any) -> Model:
    tokenizer = a_tokenizer()
    network = a_network(seed=4, vocabulary=tokenizer.vocabulary, **changes)
    preprocess = Preprocess(size=network.config.image.resolution, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    return Model(network.eval(), tokenizer, preprocess)


def a_batch(rows: int = 3) -> Batch:
    draw = torch.Generator().manual_seed(0)
    images = {name: torch.randn(rows, 3, 16, 16, generator=draw) for name in ("main", "second")}
    tokens = Tokens(
        torch.randint(1, 90, (rows, 8), generator=draw), torch.randint(2, 9, (rows,), generator=draw)
    )
    return Batch(torch.arange(rows), images, {"caption": tokens})


def a_manifest(folder: Path) -> Manifest:
    ids = [f"s{i}" for i in range(len(CAPTIONS))]
    return make_manifest(
        ids=ids,
        images=image_places([f"{i}.png" for i in ids]),
        captions=CAPTIONS,
        fields={"n": pa.array(range(5))},
        root=folder,
        name="five",
    )


class Written:
    """Vectors that count: picture i is (i, i, i), text j of sample i is (i, j, 7); picture 3 is missing."""

    def keys(self, start: int, stop: int) -> list[RowKey]:
        return [
            RowKey(f"s{i}", image=texts_digest([str(i)]), text=texts_digest(CAPTIONS[i]))
            for i in range(start, stop)
        ]

    def encode(self, start: int, stop: int) -> dict[str, Part]:
        images = np.array([[i] * 3 for i in range(start, stop) if i != 3], np.float32).reshape(-1, 3)
        texts = np.array(
            [[i, j, 7] for i in range(start, stop) for j in range(len(CAPTIONS[i]))], np.float32
        ).reshape(-1, 3)
        causes = {i - start: "truncated" for i in range(start, stop) if i == 3}
        counts = np.array([len(CAPTIONS[i]) for i in range(start, stop)])
        return {
            "image": Part(images, np.array([int(i != 3) for i in range(start, stop)]), causes),
            "text": Part(texts, counts),
        }


@pytest.fixture
def store(tmp_path: Path) -> Path:
    encoder = EncoderRecord(model="m", preprocess={"size": 16}, tokenizer="t", normalize=False)
    origin = Origin(name="five", fingerprint="f", rows=5)
    write_store(
        tmp_path / "store",
        Written(),
        encoder=encoder,
        kinds=("image", "text"),
        origin=origin,
        dtype="float32",
    )
    return tmp_path / "store"


def built(tmp_path: Path, configs: dict[str, Any], needs: Needs, **changes: Any) -> dict[str, Any]:
    given = {
        "texts": ["caption"],
        "student": a_network(),
        "tokenizer": a_tokenizer(),
        "preprocess": Preprocess(size=16),
    } | changes
    teachers = {k: TeacherConfig.model_validate(v) for k, v in configs.items()}
    stores = open_stores(teachers, needs)
    return build_teachers(teachers, needs, manifest=a_manifest(tmp_path), stores=stores, **given)


def reading(*names: str, **more: frozenset[str]) -> Needs:
    return Needs(teachers=frozenset(names), **more)


# An average of the student


def test_an_average_starts_as_a_copy_and_is_no_alias():
    student = a_network()
    teacher, batch = EmaTeacher(EVERYTHING, student, momentum=(0.9, 0.9)), a_batch()
    torch.testing.assert_close(
        teacher.encode(batch).images["main"].embedding, student.eval().image(batch.images["main"]).embedding
    )
    before = teacher.image.project.weight.clone()
    with torch.no_grad():
        student.image.get_parameter("project.weight").add_(1)
    assert teacher.image.project.weight.equal(before)


def test_an_average_of_constant_weights_has_the_closed_form():
    student = a_network().double()
    teacher = EmaTeacher(EVERYTHING, student, momentum=(0.9, 0.9))
    first = [p.clone() for p in teacher.parameters()]
    with torch.no_grad():
        for p in student.parameters():
            p += 2
    for _ in range(5):
        teacher.after_step(student, progress=0.4)
    assert len(first) > 20
    for average, start in zip(teacher.parameters(), first, strict=True):
        torch.testing.assert_close(average, start + 2 * (1 - 0.9**5), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("momentum", "progress"),
    [((1.0, 1.0), 0.0), ((0.0, 0.0), 0.0), ((0.6, 1.0), 0.0), ((0.6, 1.0), 0.5), ((0.6, 1.0), 1.0)],
)
def test_the_momentum_goes_with_the_run(momentum: tuple[float, float], progress: float):
    student = a_network().double()
    teacher = EmaTeacher(EVERYTHING, student, momentum=momentum)
    before = teacher.image.cls.clone()
    with torch.no_grad():
        student.get_parameter("image.cls").add_(1)
    teacher.after_step(student, progress=progress)
    moved = 1 - momentum_at(progress, start=momentum[0], end=momentum[1])
    torch.testing.assert_close(teacher.image.cls, before + moved, rtol=0, atol=1e-12)


def test_an_average_learns_nothing_by_gradient_and_gives_none():
    student = a_network()
    teacher = EmaTeacher(EVERYTHING, student, momentum=(0.9, 0.9))
    seen = teacher.encode(a_batch())
    assert not seen.images["main"].embedding.requires_grad and not seen.texts["caption"].pooled.requires_grad
    assert not any(p.requires_grad for p in teacher.parameters()) and all(
        p.requires_grad for p in student.image.parameters()
    )
    assert teacher.is_saved()


def test_a_teacher_is_never_in_training_mode():
    teacher = EmaTeacher(EVERYTHING, a_network(), momentum=(0.9, 0.9))
    nn.ModuleDict({"ema": teacher}).train()
    assert not any(module.training for module in teacher.modules())


def test_only_requested_towers_are_kept_and_computed():
    requested = TeacherRequest(
        images=frozenset({"second"}), tokens=frozenset({"second"}), attention=frozenset({"second"})
    )
    teacher = EmaTeacher(requested, a_network(), momentum=(0.9, 0.9))
    seen = teacher.encode(a_batch())
    assert teacher.text is None and set(seen.images) == {"second"} and not seen.texts
    assert seen.images["second"].tokens.shape == (3, 5, 32) and seen.images["second"].attention.shape == (
        3,
        4,
    )
    teacher.after_step(a_network(seed=1), progress=0)
    plain = EmaTeacher(TeacherRequest(texts=frozenset({"caption"})), a_network(), momentum=(0.9, 0.9))
    assert plain.image is None and plain.encode(a_batch()).texts["caption"].tokens is None


def test_requests_are_split_by_teacher_and_by_kind_of_view():
    needs = reading(
        "ema:main",
        "ema:caption",
        "other:main",
        tokens=frozenset({"ema:caption", "caption", "other:main"}),
        attention=frozenset({"ema:main"}),
    )
    ema = request_of("ema", needs, texts=["caption", "augmented"])
    assert ema == TeacherRequest(
        frozenset({"main"}), frozenset({"caption"}), frozenset({"caption"}), frozenset({"main"})
    )
    assert request_of("other", needs, texts=["caption"]) == TeacherRequest(
        images=frozenset({"main"}), tokens=frozenset({"main"})
    )


def test_an_average_follows_the_scale_in_log_space_and_saves_it():
    student = a_network()
    teacher = EmaTeacher(EVERYTHING, student, momentum=(0.9, 0.9))
    assert teacher.encode(a_batch()).scale.equal(student.scale())
    first = student.log_scale.item()
    with torch.no_grad():
        student.log_scale += 1
    for _ in range(5):
        teacher.after_step(student, progress=0.4)
    expected = torch.tensor(first + 1 - 0.9**5).exp()
    torch.testing.assert_close(teacher.encode(a_batch()).scale, expected)
    assert "log_scale" in teacher.state_dict()


# A model whose weights stay


@pytest.mark.parametrize("resolution", [16, 24])
def test_a_frozen_model_sees_pictures_as_it_was_trained_to(resolution: int):
    model, student = a_model(resolution=resolution), Preprocess(size=16)
    teacher = FrozenTeacher(TeacherRequest(images=frozenset({"main"})), model, preprocess=student)
    raw = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def normalised(pixels: Tensor, preprocess: Preprocess) -> Tensor:
        return (pixels - torch.tensor(preprocess.mean)[:, None, None]) / torch.tensor(preprocess.std)[
            :, None, None
        ]

    seen = (
        teacher.encode(Batch(torch.arange(3), {"main": normalised(raw, student)}, {}))
        .images["main"]
        .embedding
    )
    scaled = nn.functional.interpolate(
        raw, size=(resolution, resolution), mode="bilinear", antialias=True, align_corners=False
    )
    expected = model.encode_image(normalised(scaled, model.preprocess), normalize=False)
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)


def test_a_frozen_model_stays_and_is_not_saved(tmp_path: Path):
    model = a_model()
    model.network.log_scale.data.fill_(math.log(5))
    model.save(tmp_path / "m")
    teacher = built(tmp_path, {"big": {"from": str(tmp_path / "m")}}, reading("big:main", "big:caption"))[
        "big"
    ]
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    teacher.after_step(a_network(), progress=0.5)
    assert all(value.equal(before[name]) for name, value in teacher.state_dict().items())
    assert not teacher.is_saved() and not any(p.requires_grad for p in teacher.parameters())
    features = teacher.encode(a_batch())
    assert set(features.texts) == {"caption"}
    assert features.scale.item() == pytest.approx(5.0)  # its own, not the student's


def test_a_frozen_model_refuses_stored_features_of_the_student(tmp_path: Path):
    teacher, whole = FrozenTeacher(EVERYTHING, a_model(), preprocess=Preprocess(size=16)), a_batch()
    features = CachedFeatures(torch.zeros(3, 12))
    for batch in (replace(whole, images={"main": features}), replace(whole, texts={"caption": features})):
        with pytest.raises(RecipeError, match=r"encodes pixels and token ids, .*set store\.images=false"):
            teacher.encode(batch)


def test_a_text_tower_of_another_tokenizer_is_refused_with_a_way_out(tmp_path: Path):
    a_model().save(tmp_path / "m")
    configs, other = (
        {"big": {"from": str(tmp_path / "m")}},
        a_tokenizer("quite other words", "quite other letters"),
    )
    with pytest.raises(
        RecipeError,
        match=r"has another tokenizer .*frugalclip embed .* set teachers\.big\.from=STORE",
    ):
        built(tmp_path, configs, reading("big:caption"), tokenizer=other)
    assert set(built(tmp_path, configs, reading("big:main"), tokenizer=other)) == {"big"}, (
        "pictures are the same for everyone"
    )


def test_a_student_whose_vocabulary_was_cut_is_taught_with_the_models_own_ids(tmp_path: Path):
    whole, text = a_tokenizer(*["a red square", "a blue circle"] * 3), "a red circle"
    model = Model(a_network(seed=4, vocabulary=whole.vocabulary).eval(), whole, Preprocess(size=16))
    model.save(tmp_path / "m")
    tokenizer = TokenCut(model.tokenizer).cut(model.tokenizer.table([text]).ids.tolist())
    assert tokenizer.vocabulary < model.tokenizer.vocabulary
    configs = {"big": {"from": str(tmp_path / "m")}}
    teacher = built(tmp_path, configs, reading("big:caption"), tokenizer=tokenizer)["big"]
    features = teacher.encode(Batch(torch.arange(1), {}, {"caption": tokenizer.encode([text])}))
    expected = model.encode_text([text], normalize=False)
    torch.testing.assert_close(features.texts["caption"].embedding, expected, rtol=0, atol=0)


# Vectors computed before


def test_stored_vectors_are_those_of_the_rows_and_zeros_where_there_are_none(store: Path, tmp_path: Path):
    teacher = StoredTeacher(EVERYTHING, Store.open(store), a_manifest(tmp_path))
    seen = teacher.encode(Batch(torch.tensor([4, 0, 1, 3, 2, 0]), {}, {}))
    assert seen.images["main"].embedding.tolist() == [
        [4, 4, 4],
        [0, 0, 0],
        [1, 1, 1],
        [0, 0, 0],
        [2, 2, 2],
        [0, 0, 0],
    ]
    assert seen.texts["caption"].embedding.tolist() == [
        [0, 0, 0],
        [0, 0, 7],
        [0, 0, 0],
        [3, 0, 7],
        [2, 0, 7],
        [0, 0, 7],
    ], "the first text of each"
    assert (
        seen.texts["caption"].pooled.dtype == torch.float32
        and not list(teacher.parameters())
        and not teacher.is_saved()
    )


@pytest.mark.parametrize(("recorded", "scale"), [(20.0, 20.0), (None, 1.0)])
def test_a_store_gives_the_scale_of_the_model_that_filled_it(
    store: Path, tmp_path: Path, recorded: float | None, scale: float
):
    head = read_head(store)
    write_head(
        store, head.model_copy(update={"encoder": head.encoder.model_copy(update={"scale": recorded})})
    )
    teacher = StoredTeacher(EVERYTHING, Store.open(store), a_manifest(tmp_path))
    assert teacher.encode(Batch(torch.tensor([2, 1]), {}, {})).scale.item() == scale


def test_the_last_row_of_a_batch_may_be_without_a_text(store: Path, tmp_path: Path):
    teacher = StoredTeacher(EVERYTHING, Store.open(store), a_manifest(tmp_path))
    assert teacher.encode(Batch(torch.tensor([2, 1]), {}, {})).texts["caption"].embedding.tolist() == [
        [2, 0, 7],
        [0, 0, 0],
    ]


def test_a_store_of_other_captions_or_of_vectors_alone_is_refused(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    configs = {"bag": {"from": str(store)}}
    assert isinstance(built(tmp_path, configs, reading("bag:caption"))["bag"], StoredTeacher)
    for kind in ("tokens", "attention"):
        with pytest.raises(
            RecipeError,
            match=r"teachers\.bag is a store, .* one vector a sample; tokens and attention need from: ema",
        ):
            built(tmp_path, configs, reading("bag:main", **{kind: frozenset({"bag:main"})}))
    monkeypatch.setitem(globals(), "CAPTIONS", [["changed"], *CAPTIONS[1:]])
    with pytest.raises(DataError, match="was embedded with other captions for 1 of 5 samples, first 's0'"):
        built(tmp_path, configs, reading("bag:caption"))
    assert set(built(tmp_path, configs, reading("bag:main"))) == {"bag"}, "pictures do not depend on captions"


# Which teachers there are


def test_the_average_need_not_be_in_the_recipe_and_what_nobody_reads_is_not_built(tmp_path: Path):
    assert isinstance(built(tmp_path, {}, reading("ema:main"))["ema"], EmaTeacher)
    assert built(tmp_path, {"slow": {"momentum": [0.5, 0.5]}}, Needs()) == {}
    slow = built(tmp_path, {"slow": {"momentum": [0.5, 0.7]}}, reading("slow:main", "ema:main"))
    assert (
        set(slow) == {"ema", "slow"}
        and slow["slow"].momentum == (0.5, 0.7)
        and slow["ema"].momentum == (0.996, 1.0)
    )


def test_an_unknown_teacher_is_named_with_the_nearest_known_one(tmp_path: Path):
    with pytest.raises(
        RecipeError, match=r"teachers\.slwo is read by an objective .* did you mean 'slow'\? Known: ema, slow"
    ):
        built(tmp_path, {"slow": {}}, reading("slwo:main"))


def test_an_average_takes_the_statistics_of_normalisations_as_they_are():
    image = {"kind": "clip_resnet", "blocks": [1, 1, 1, 1], "width": 64, "resolution": 32, "head_dim": 16}
    config = ModelConfig.model_validate(
        {"image": image, "text": {"width": 32, "depth": 1, "head_dim": 16}, "dim": 12}
    )
    student = DualEncoder(config, vocabulary=300, context=8, seed=0).train()
    teacher = EmaTeacher(TeacherRequest(images=frozenset({"main"})), student, momentum=(0.5, 0.5))
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for _ in range(30):
        student.image(images)
        teacher.after_step(student, progress=0)
    batch = Batch(torch.arange(16), {"main": images}, {})
    seen, known = teacher.encode(batch).images["main"].pooled, student.eval().image(images).pooled
    torch.testing.assert_close(seen, known)
