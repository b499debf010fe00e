"""Every published sum: micro-batches equal the batch, two processes equal one, resuming is exact."""

import os
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor

from frugalclip.core.errors import RecipeError
from frugalclip.core.records import RunDirectory
from frugalclip.core.types import Batch, TowerOutput
from frugalclip.sources.open import open_data
from frugalclip.training.engine import build_engine
from frugalclip.training.loop import train_run
from frugalclip.training.recipe import load_recipe
from frugalclip.training.step import Step, to_device
from frugalclip.verbs.train import train

from ..two_processes import one_of_two
from .sums import ALONE, SUMS, full_step, part, whole_batch

STEPS = 3


def walk(
    step: Step, *, rows: slice = slice(None), micro_batch: int | None = None, device: str = "cpu"
) -> dict[str, Tensor]:
    """Gradients of several steps without an optimiser, and all buffers; an episode begins before step two."""
    step = step.to(device)
    batches = [to_device(part(whole_batch(turn=turn), rows), torch.device(device)) for turn in range(STEPS)]
    engine = build_engine(step, batch=16, micro_batch=micro_batch)
    found: dict[str, Tensor] = {}
    for turn, batch in enumerate(batches):
        step.move_to(turn / STEPS)
        if turn == 1:
            step.begin_episode(lambda batch=batch: [batch])
        step.zero_grad(set_to_none=True)
        result = engine(batch)
        engine.backward(result.loss)
        step.after_step(result.features)
        found |= {
            f"{turn}/{name}": p.grad.cpu().clone()
            for name, p in step.named_parameters()
            if p.grad is not None
        }
    return found | {
        f"buffer/{name}": tensor.cpu().clone()
        for name, tensor in step.named_buffers()
        if "bias_acts" not in name
    }


def test_an_episode_holds_its_projections_and_one_batch_at_a_time():
    step, most = full_step(SUMS["protoclip"]), 0
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    encode = step.network.image.forward

    def watched(pixels: Tensor, **wishes: Any) -> TowerOutput:
        nonlocal most
        encoded = encode(pixels, **wishes)
        alive.update((pixels, encoded.embedding, encoded.pooled))
        most = max(most, len(alive))
        return encoded

    def episode() -> Iterator[Batch]:
        for turn in range(4):
            batch = whole_batch(4, turn=turn)
            batch.fields["id"] = torch.arange(4) + 4 * turn
            yield batch

    step.network.image.forward = watched
    step.begin_episode(episode)
    assert (
        3 <= most <= 6
    )  # of twelve: what the tower read and said of this batch and, at most, of the one before


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor], *, rtol: float, atol: float) -> None:
    assert one.keys() == other.keys() and len(one) > 50
    for name in one:
        torch.testing.assert_close(
            other[name], one[name], rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("case", SUMS)
def test_parts_give_the_gradient_of_the_whole(case: str):
    whole = walk(full_step(SUMS[case]))
    assert_equal(whole, walk(full_step(SUMS[case]), micro_batch=5), rtol=1e-9, atol=1e-10)


def process(rank: int, folder: str) -> None:
    with one_of_two(rank, f"{folder}/meet"):
        for case, objectives in (SUMS | ALONE).items():
            for micro_batch in (None, 3):
                found = walk(
                    full_step(objectives), rows=slice(8 * rank, 8 * rank + 8), micro_batch=micro_batch
                )
                if rank == 0:
                    save_file(found, f"{folder}/{case} {micro_batch}.safetensors")


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    mp.spawn(process, args=(str(folder),), nprocs=2)  # pyright: ignore
    return folder


@pytest.mark.timeout(300)  # the first one waits for two processes that load torch
@pytest.mark.parametrize("micro_batch", [None, 3])
@pytest.mark.parametrize("case", [*SUMS, *ALONE])
def test_two_processes_give_the_gradients_and_the_state_of_one(
    case: str, micro_batch: int | None, of_two_processes: Path
):
    assert_equal(
        walk(full_step((SUMS | ALONE)[case])),
        load_file(of_two_processes / f"{case} {micro_batch}.safetensors"),
        rtol=1e-5,
        atol=1e-11,
    )


@pytest.mark.parametrize("case", SUMS)
def test_terms_of_weight_zero_are_absent(case: str):
    plain = full_step({"contrastive": {}})
    silent = full_step(
        {name: settings | {"weight": 0} for name, settings in SUMS[case].items()} | {"contrastive": {}}
    )
    assert silent.needs == plain.needs and not silent.teachers
    assert_equal_weights(plain, silent)


def assert_equal_weights(one: Step, other: Step) -> None:
    for engine_step in (one, other):
        engine_step(whole_batch()).loss.backward()
    theirs = dict(other.named_parameters())
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, theirs[name])
        assert parameter.grad is not None
        assert theirs[name].grad is not None
        assert torch.equal(parameter.grad, theirs[name].grad)


SHORT = ["declip", "protoclip"]  # a queue and an episode; the others run in make test-slow
LONG = ["slip", "aclip", "two-stage", "defilip", "maskclip"]
RECIPES = [*SHORT, *LONG]


def small(name: str, squares: Path, *more: str) -> Any:
    """A shipped recipe on the coloured squares: 20 steps, an episode that ends between checkpoints."""
    own = [
        f"data={squares}",
        "data.where=split=train",
        "data.validation=none",
        "batch=8",
        "steps=20",
        "precision=fp32",
    ]
    own += [
        "model.image.size=nano",
        "model.image.depth=1",
        "model.image.resolution=32",
        "model.text.depth=1",
        "checkpoints.every=7",
        "checkpoints.keep=9",
    ]
    if name == "protoclip":
        own += [
            "episode.samples=40",
            "objectives.prototypes.number=5",
            "objectives.prototypes.during=[0.1,0.9]",
        ]
    if "declip" in name or name == "defilip":
        own += ["objectives.neighbours.size=100"]  # around its end more than once
    return load_recipe(name, [*own, *more])


@pytest.mark.parametrize("name", [*SHORT, *(pytest.param(name, marks=pytest.mark.slow) for name in LONG)])
def test_going_on_in_the_middle_of_a_queue_and_of_an_episode_is_not_having_stopped(
    name: str, squares: Path, tmp_path: Path
):
    recipe, data = small(name, squares), open_data(squares)
    run = RunDirectory(tmp_path / "run")
    train_run(recipe, data, run)
    rows = [{k: v for k, v in row.items() if "seconds" not in k} for row in run.rows()]
    before = {path.name: path.read_bytes() for path in run.checkpoint(20).glob("*.safetensors")}
    for step in (14, 20):
        shutil.rmtree(run.checkpoint(step))
    train_run(recipe, data, run, resume=True)
    assert [{k: v for k, v in row.items() if "seconds" not in k} for row in run.rows()] == rows
    assert {path.name: path.read_bytes() for path in run.checkpoint(20).glob("*.safetensors")} == before


@pytest.mark.parametrize(
    ("name", "setting", "output"),
    [
        ("protoclip", "objectives.prototypes.number=900", "an episode has 40 samples; set fewer"),
        (
            "protoclip",
            "episode=null",
            "clusters every episode, and the recipe has none; set episode.samples, such as",
        ),
        (
            "aclip",
            "objectives.attentive_mask.block=3",
            "block 3 does not divide the 4 x 4 patches of a view; set block: 1",
        ),
        (
            "aclip",
            "objectives.attentive_mask.weight=0",
            "reads main@kept, which no objective makes; add the one that makes it, or read main",
        ),
        (
            "aclip",
            "objectives.attentive_mask.during=[0,0.5]",
            r"in [0, 1] of the stage, and objectives.attentive_mask makes it in [0, 0.5]; set objectives.",
        ),
        ("declip", "objectives.masked_text.during=[0.5,1]", "objectives.multiview.during=[0.5,1]"),
        (
            "slip",
            "objectives.simclr.second=second",
            "first and second are both 'second', and a view cannot be compared with itself",
        ),
        (
            "aclip",
            "objectives.attentive_mask.teacher=ema2",
            "teachers.ema2 is read by an objective but not in the recipe; did you mean 'ema'?",
        ),
        ("slip", "views.third=null", "views.third is read by an objective but not in the recipe"),
        ("declip", "texts.augmented=null", "texts.augmented is read by an objective but not in the recipe"),
    ],
)
def test_what_cannot_be_is_said_with_the_next_step(
    name: str, setting: str, output: str, squares: Path, tmp_path: Path
):
    with pytest.raises(RecipeError) as error:
        train_run(small(name, squares, setting), open_data(squares), RunDirectory(tmp_path / "run"))
    assert output in str(error.value)


def test_prototypes_need_samples_and_an_episode_that_begins_while_they_count(squares: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match="number is 90, but there are 80 samples to train on; set 8 or so"):
        train_run(
            small("protoclip", squares, "episode.samples=200", "objectives.prototypes.number=90"),
            open_data(squares),
            RunDirectory(tmp_path / "a"),
        )
    short = small("protoclip", squares, "steps=5", "objectives.prototypes.during=[0.1,1]")
    notes = train_run(short, open_data(squares), RunDirectory(tmp_path / "b")).notes
    assert any(
        note.startswith(
            "objectives.prototypes clusters where an episode begins, and none of 5 steps begins in [0.1, 1] "
            "of the stage"
        )
        for note in notes
    )


def test_a_bag_of_words_guesses_no_masked_words(squares: Path, tmp_path: Path):
    with pytest.raises(
        RecipeError,
        match=r"masked words, which a bag of words does not support; set model\.text\.kind=transformer",
    ):
        train(
            "clip-small",
            [
                f"data={squares}",
                "data.where=",
                "data.validation=none",
                "batch=8",
                "steps=1",
                "objectives.masked_text.weight=1",
                "evaluation.label_field=",
            ],
            out=tmp_path / "run",
        )


def test_sums_that_cannot_be_are_refused_before_anything_is_read():
    prototypes = {"number": 4, "hidden": 24, "out": 12}
    for objectives, output in (
        (
            SUMS["aclip"] | {"contrastive": {}, "prototypes": prototypes | {"image": "main@kept"}},
            "cannot read main@kept; let it read main.",
        ),
        (
            SUMS["aclip"] | {"again": {"kind": "attentive_mask", "block": 2}},
            "objectives.attentive_mask and objectives.again both make main@kept",
        ),
        (
            {"contrastive": {"image": "main@kept"}},
            "objectives.contrastive reads main@kept, which no objective makes",
        ),
    ):
        with pytest.raises(RecipeError) as error:
            full_step(objectives)
        assert output in str(error.value)
    full_step(
        SUMS["aclip"]
        | {"contrastive": {}, "prototypes": prototypes | {"image": "main@kept", "features": "reuse"}}
    )


def test_objectives_count_in_their_part_of_the_run_only(squares: Path, tmp_path: Path):
    run = RunDirectory(tmp_path / "run")
    train_run(small("two-stage", squares), open_data(squares), run)
    first, second = list(run.rows())[:10], list(run.rows())[10:]
    assert all("simsiam/loss" in row and "contrastive/loss" not in row for row in first)
    assert all("simsiam/loss" not in row and "contrastive/loss" in row for row in second)


def test_captions_of_one_word_are_trained_on():
    step = full_step(SUMS["declip"])
    batch = whole_batch()
    short = Batch(
        **{
            **vars(batch),
            "texts": {
                name: type(one)(one.ids[:, :2], torch.full((16,), 2)) for name, one in batch.texts.items()
            },
        }
    )
    result = step(short)
    result.loss.backward()
    assert (
        result.logs["masked_text/guesses"] == 0
        and result.logs["masked_text/loss"] == 0
        and torch.isfinite(result.loss)
    )


def test_the_report_shows_what_a_tower_that_drops_patches_keeps(squares: Path, tmp_path: Path):
    settings = [
        f"data={squares}",
        "data.where=split=train",
        "data.validation=split=val",
        "batch=16",
        "steps=3",
        "model.image.resolution=32",
    ]
    train(
        "aclip",
        [*settings, "model.image.depth=1", "model.text.depth=1", "evaluation.points=1"],
        out=tmp_path / "run",
    )
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    section = page[page.index('id="kept"') :]
    assert "Where it attends" in section and section[: section.index("</section>")].count("data:image/") == 8


def test_what_is_left_of_a_run_may_be_too_short_an_episode(squares: Path, tmp_path: Path):
    run = RunDirectory(tmp_path / "run")
    train_run(
        small(
            "protoclip",
            squares,
            "steps=11",
            "objectives.prototypes.during=[0,1]",
            "objectives.prototypes.number=12",
        ),
        open_data(squares),
        run,
    )
    known = [row["prototypes/known"] for row in run.rows()]
    assert known == [1] * 10 + [0], (
        "two episodes of five steps, and a step of 8 samples that 12 prototypes cannot divide"
    )
