"""Schedules.

Source of the arrays: SLIP commit c6faf5d0, `utils.py: cosine_scheduler`, float64; tolerance 1e-12.
"""

from pathlib import Path

import numpy as np

from frugalclip.training.optim import cosine_schedule


def check_slip_cosine_schedule(path: Path) -> None:
    """Linear warm-up that includes both ends, then a cosine at k / length.

    The EMA momentum is the same without warm-up, up to 1.
    """
    a = np.load(path, allow_pickle=False)
    per_epoch = int(a["iters_per_epoch"])
    steps = int(a["epochs"]) * per_epoch
    warmup = int(a["warmup_epochs"]) * per_epoch
    rates = cosine_schedule(
        float(a["base"]), float(a["final"]), steps=steps, warmup_steps=warmup, start=float(a["start"])
    )
    np.testing.assert_allclose(rates, a["schedule"], rtol=0, atol=1e-12)
    momentum = cosine_schedule(float(a["ema_base"]), 1.0, steps=len(a["ema_momentum_schedule"]))
    np.testing.assert_allclose(momentum, a["ema_momentum_schedule"], rtol=0, atol=1e-12)
