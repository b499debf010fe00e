import torch

from frugalclip.evaluation import descriptors as module
from frugalclip.evaluation.descriptors import descriptors
from frugalclip.functional.descriptors import DESCRIPTORS


def test_broken_images_are_left_out_and_a_data_set_is_described_once(squares, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "_CHUNK", 5)
    monkeypatch.setattr(module, "_known", type(module._known)())
    monkeypatch.setattr(
        module, "decode_all", lambda *given, real=module.decode_all: calls.append(given) or real(*given)
    )
    features, kept = descriptors(squares)
    assert kept.tolist() == list(range(11))
    assert features.shape == (11, DESCRIPTORS["shapes and colours"].width)
    again, _ = descriptors(squares)
    assert again is features and len(calls) == 3
    alone, _ = descriptors(squares.take([7]))
    torch.testing.assert_close(alone[0], features[7])
