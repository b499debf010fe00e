"""A run's own number of threads is not that of the program around it."""

import pytest
import torch

from frugalclip.core.devices import kept_threads


def test_threads_are_as_before_also_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="inside"), kept_threads():
        torch.set_num_threads(before + 1)
        raise ValueError("inside")
    assert torch.get_num_threads() == before
