"""Which device computes, on a machine whose GPUs are made up."""

import sys

import pytest
import torch

from frugalclip.core.devices import kept_threads, pick_device, without_weights
from frugalclip.core.errors import RecipeError


def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


def test_without_a_gpu_the_processor_computes():
    assert pick_device("auto") == torch.device("cpu") == pick_device("cpu")


def test_one_process_takes_the_gpu_that_is_current_or_named(monkeypatch: pytest.MonkeyPatch):
    two_gpus(monkeypatch)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert [str(pick_device(name)) for name in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda:0",
        "cuda:0",
        "cuda:1",
        "cpu",
    ]


def test_each_of_several_processes_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch):
    two_gpus(monkeypatch)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(pick_device("auto")) == str(pick_device("cuda")) == "cuda:1"
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert str(pick_device("cuda:0")) == "cuda:0" and str(pick_device("cpu")) == "cpu"
    with pytest.raises(
        RecipeError,
        match="process 2 of this machine needs a GPU of its own, and there are 2, counted from 0; start at "
        "most 2",
    ):
        pick_device("auto")


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("gpu", "device is 'gpu'; expected auto, cpu, cuda or cuda:N"),
        ("cuda", "device is 'cuda', and torch finds no GPU here; set device=auto"),
        ("cuda:0", "run 'frugalclip doctor'"),
    ],
)
def test_a_device_that_is_not_here(name: str, output: str):
    with pytest.raises(RecipeError, match=output):
        pick_device(name)


def test_the_number_of_threads_is_as_before_also_after_an_error():
    before = torch.get_num_threads()

    @kept_threads()
    def fails() -> None:
        torch.set_num_threads(before + 1)
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fails()
    assert torch.get_num_threads() == before


def test_modules_without_weights_draw_nothing_and_leave_torch_s_compiler_alone(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # an import of it fails
    before = torch.get_rng_state()
    with without_weights():
        block = torch.nn.TransformerEncoderLayer(8, 2)
        torch.nn.init.trunc_normal_(tensor=block.linear1.weight)
    assert all(one.is_meta for one in block.parameters())
    assert block.linear1.weight.shape == (2048, 8)
    assert torch.equal(torch.get_rng_state(), before)
