"""The model's own tensors are found in whatever a training loop saved."""

from typing import Any

import pytest
import torch
from torch import Tensor

from frugalclip.core.errors import ModelError
from frugalclip.interop.source import ModelSource, TensorSelection
from frugalclip.interop.state_dicts import own_tensors

OWN = ("visual.a", "visual.b", "text.a", "text.b", "scale")


def named(prefix: str = "", *, value: float = 1.0, names: tuple[str, ...] = OWN) -> dict[str, Tensor]:
    return {prefix + name: torch.full((2,), value) for name in names}


def found(content: Any, selection: str = "") -> tuple[float, tuple[str, ...]]:
    """The value of the tensors that are found under their own names, and the notes."""
    chosen = TensorSelection.parse("timm:x@w.pt" + selection)
    weights = own_tensors(content, OWN.__contains__, chosen, where="w.pt")
    assert set(weights.tensors) == set(OWN)
    (value,) = {tensor[0].item() for tensor in weights.tensors.values()}
    return value, weights.notes


MOMENTS = {
    "state": {0: {"exp_avg": torch.zeros(2), "step": torch.tensor(1.0)}},
    "param_groups": [{"lr": 0.1}],
}


@pytest.mark.parametrize(
    "content",
    [
        named(),
        {"epoch": 3, "model_state_dict": named(), "optimizer_state_dict": MOMENTS, "loss": torch.tensor(0.5)},
        {"model": named(), "optimizer": MOMENTS, "args": None},
        {"state_dict": named("module."), "loss": 0.1},
        {"ema": named()},
        {"model_ema": {"module": named(), "decay": 0.999}},
        {"state": {"model": {"state_dict": named()}}},
        {"my_own_name": named(), "scheduler": {"w": torch.zeros(3)}},
        {"mean": torch.zeros(3), "std": torch.ones(3), "net": named()},
        {"classifier": {"fc": torch.zeros(3)}, "clip": named("clip.")},
    ],
    ids=lambda content: ", ".join(map(str, list(content)[:2])),
)
def test_ordinary_checkpoints(content: Any):
    assert found(content) == (1.0, ())


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "module.",
            "_orig_mod.",
            "module._orig_mod.",
            "_orig_mod.module.",
            "model.",
            "model._orig_mod.module.",
        ),
        *("_fsdp_wrapped_module._orig_mod.", "net.encoder.clip.", "a._checkpoint_wrapped_module.b."),
    ],
)
def test_one_common_prefix_is_stripped(prefix: str):
    assert found({"state_dict": named(prefix)}) == (1.0, ())


def test_wrappers_of_one_layer_are_left_out_too():
    names = {
        "visual._orig_mod.a": 1,
        "visual.b": 1,
        "text._checkpoint_wrapped_module.a": 1,
        "text.b": 1,
        "scale": 1,
    }
    assert found({name: torch.ones(2) for name in names}) == (1.0, ())


def test_what_stands_beside_a_prefix_is_left_out_with_a_note():
    content = {
        "state_dict": named("model.") | {"head.weight": torch.zeros(3), "criterion.scale": torch.zeros(1)}
    }
    value, notes = found(content)
    assert value == 1.0 and len(notes) == 1
    assert "behind 'model.'" in notes[0] and "2 beside them are left out, such as head.weight" in notes[0]


def test_a_model_comes_before_its_average_and_a_note_gives_the_other():
    content = {"state_dict_ema": named(value=2.0), "state_dict": named(value=1.0)}
    value, (note,) = found(content)
    assert value == 1.0 and "timm:x@w.pt#key=state_dict_ema" in note
    assert found(content, "#key=state_dict_ema") == (2.0, ())
    within = {"state_dict": named("model.", value=1.0) | named("ema_model.", value=2.0)}
    assert found(within)[0] == 1.0
    assert found(within, "#prefix=ema_model")[0] == found(within, "#prefix=ema_model.")[0] == 2.0


def test_an_average_without_buffers_is_a_rival_too():
    fewer = {name: tensor for name, tensor in named(value=2.0).items() if name != "scale"}
    assert found({"ema": fewer, "model": named()})[0] == 1.0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            {"student": named(), "teacher": named()},
            r"'student', 'teacher'.* Name one: timm:x@w.pt#key=student\.",
        ),
        (
            {"state_dict": named("student.") | named("teacher.")},
            r"behind 'student\.', 'teacher\.'\. Name one: timm:x@w.pt#prefix=student\.\.",
        ),
        ({"epoch": 3, "loss": 0.5}, r"holds no tensors by name, only 'epoch', 'loss'; expected a state dict"),
        ([1, 2], "holds no tensors by name; expected a state dict"),
    ],
)
def test_a_choice_that_is_the_users_is_left_to_them(content: Any, sentence: str):
    with pytest.raises(ModelError, match=sentence):
        found(content)


def test_key_and_prefix_choose_together():
    content = {"student": {"net": named("a.", value=1.0) | named("b.", value=2.0)}, "teacher": named()}
    assert found(content, "#key=student.net,prefix=b.")[0] == 2.0
    assert found(content, "#prefix=a.,key=student.net")[0] == 1.0
    with pytest.raises(
        ModelError, match=r"under 'studen'; it has them under 'student.net', 'teacher'. Write .*#key="
    ):
        found(content, "#key=studen")
    with pytest.raises(
        ModelError, match=r"begin with 'c\.'; they begin with 'a\.', 'b\.'. Write .*prefix=a\."
    ):
        found(content, "#key=student.net,prefix=c")


def test_a_source_gives_the_selection_behind_it():
    source = ModelSource.parse("open_clip:ViT-B-32@a#b/w.pt#key=model.ema,prefix=module.")
    assert str(source.file) == "a#b/w.pt" and source.name == "ViT-B-32"
    assert (source.selection.key, source.selection.prefix) == ("model.ema", "module.")
    assert source.selection.written(key="ema") == "open_clip:ViT-B-32@a#b/w.pt#key=ema,prefix=module."
    assert ModelSource.parse("hf:dir#key=x").folder.name == "dir"
    for whole in ("runs/a#key=x", "hf:dir#1", "timm:a@b#keys=x", "package:e5#key=x"):
        assert not ModelSource.parse(whole).selection.is_given
