import numpy as np
import pytest

from frugalclip.core.errors import DataError
from frugalclip.serving.calibration import check_share, false_hits, measured


def test_shares_are_those_of_the_measured_pairs():
    scores = np.random.default_rng(0).standard_normal(100_000)
    calibration = measured({"text": scores})
    assert calibration.shares[0] == 1
    assert calibration.shares[-1] == pytest.approx(1e-4)  # ten pairs
    for score in (-1.0, 0.0, 1.0, 2.0, 3.0):
        right = float((scores >= score).mean())
        assert false_hits(calibration, "text", score) == pytest.approx(right, rel=0.1)
    assert false_hits(calibration, "text", 99) == calibration.shares[-1]
    assert false_hits(calibration, "text", -99) == 1
    assert false_hits(calibration, "image", 0) is None


def test_few_pairs_know_few_shares_and_none_are_refused():
    calibration = measured({"text": np.linspace(0, 1, 100)})
    check_share(calibration, 0.1)
    with pytest.raises(DataError, match=r"100 measured pairs tell shares down to 0\.1"):
        check_share(calibration, 0.01)
    for unknown in (None, measured({"text": np.zeros(0)})):
        with pytest.raises(DataError, match="too small to know false hits"):
            check_share(unknown, 0.1)
        check_share(unknown, 1)  # leaves nothing out
    assert measured({"text": np.zeros(3)}).shares == [1.0]
